import type { Signaling } from './signaling';

/** Says numbers to all, from 0, so many a second, until it is stopped. */
export class Speaker {
  #said = 0;
  readonly #timer: NodeJS.Timeout;
  readonly #failures: unknown[] = [];

  constructor(client: Signaling, perSecond: number) {
    this.#timer = setInterval(() => {
      client.granted('text', { to: 'all', message: String(this.#said++) }).catch((error: unknown) => this.#failures.push(error));
    }, 1000 / perSecond);
  }

  get said(): number {
    return this.#said;
  }

  /** Says no more. How many numbers were said. */
  stop(): number {
    clearInterval(this.#timer);
    if (this.#failures.length > 0) throw this.#failures[0];
    return this.#said;
  }
}

/** Which of the numbers from the first to the last that was heard are missing, are there more than once, or came too early. */
export function gaps(heard: number[]): { missing: number[]; doubled: number[]; disordered: number[] } {
  const counts = new Map<number, number>();
  for (const number of heard) counts.set(number, (counts.get(number) ?? 0) + 1);
  const first = Math.min(...heard);
  const last = Math.max(...heard);
  const all = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  return {
    missing: all.filter((number) => !counts.has(number)),
    doubled: all.filter((number) => (counts.get(number) ?? 0) > 1),
    disordered: heard.filter((number, i) => i > 0 && number < (heard[i - 1] ?? 0)),
  };
}
