/** Tickets are replaced so long before they expire, in milliseconds. */
const REFRESH_BEFORE_MS = 60_000;
/** How many are held: one to come back with, and a spare, because a ticket is good once and its use may go unanswered. */
const HELD = 2;

interface Held {
  readonly ticket: string;
  /** By this page's clock, in milliseconds. */
  readonly expiresAt: number;
}

/**
 * The reconnection tickets of a participant, the next one to use first.
 *
 * A ticket's life is counted from when it was received: the server's clock may differ from this one.
 */
export class Tickets {
  #held: Held[] = [];

  /** Takes a ticket in, as a text or in the object form of older documents. False if it is none. */
  add(value: unknown, now: number): boolean {
    const ticket = typeof value === 'object' && value !== null ? (value as { ticket?: unknown }).ticket : value;
    const lifetime = typeof ticket === 'string' ? lifetimeOf(ticket) : undefined;
    if (typeof ticket !== 'string' || lifetime === undefined) return false;
    this.#held = [{ ticket, expiresAt: now + lifetime }, ...this.#held].slice(0, HELD);
    return true;
  }

  /** Whether there is one that hasn't expired. */
  has(now: number): boolean {
    return this.#held.some(({ expiresAt }) => expiresAt > now);
  }

  /** Whether another one is wanted, besides the one to come back with. */
  get wantsSpare(): boolean {
    return this.#held.length === 1;
  }

  /** The ticket to use, which is held no longer. */
  take(now: number): { ticket: string; giveBack: () => void } | undefined {
    this.#held = this.#held.filter(({ expiresAt }) => expiresAt > now);
    const held = this.#held.shift();
    if (!held) return undefined;
    // It may have been used up without an answer: the others come first.
    return { ticket: held.ticket, giveBack: () => void this.#held.push(held) };
  }

  clear(): void {
    this.#held = [];
  }

  /** When the newest is to be replaced, or undefined if there is none. */
  refreshAt(now: number): number | undefined {
    const newest = this.#held[0];
    if (!newest) return undefined;
    const left = newest.expiresAt - now;
    return newest.expiresAt - Math.min(REFRESH_BEFORE_MS, left / 2);
  }
}

function lifetimeOf(ticket: string): number | undefined {
  try {
    const { notBefore, notAfter } = JSON.parse(atob(ticket)) as Record<string, unknown>;
    const lifetime = Number(notAfter) - Number(notBefore);
    return lifetime > 0 ? lifetime : undefined;
  } catch {
    return undefined;
  }
}
