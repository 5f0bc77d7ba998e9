/** How waits between attempts grow. */
export interface BackoffOptions {
  /** The first wait, in milliseconds; each following one is twice as long. */
  firstMs: number;
  /** No wait is longer, in milliseconds. */
  maxMs: number;
}

/**
 * The wait before attempt `attempt` (0, 1, …), in milliseconds: doubled each time, and somewhere between half and all
 * of that, so that clients that were cut off together do not come back together.
 */
export function backoff(attempt: number, { firstMs, maxMs }: BackoffOptions, random: () => number = Math.random): number {
  const full = Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 30));
  return full * (0.5 + random() / 2);
}

/** A wait that can be cut short. One at a time. */
export class Pause {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #done: (() => void) | undefined;

  /** Resolves after `ms` milliseconds, or when `end` is called. */
  wait(ms: number): Promise<void> {
    this.end();
    return new Promise((resolve) => {
      this.#done = resolve;
      this.#timer = setTimeout(() => this.end(), ms);
    });
  }

  /** Ends the wait under way, if any. */
  end(): void {
    clearTimeout(this.#timer);
    this.#done?.();
    this.#done = undefined;
  }
}
