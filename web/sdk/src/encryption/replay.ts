/** How far a frame may come behind the newest one, in frames. Frames that were lost and sent again come late; at 60 a second this is 17 s. */
export const REPLAY_WINDOW = 1024;

/** Which counters of a key identifier were seen: a frame is taken once. */
export class ReplayWindow {
  readonly #seen = new Uint8Array(REPLAY_WINDOW);
  #highest = -1;

  /** Whether a frame of that counter may be one that wasn't there yet. */
  admits(counter: number): boolean {
    if (counter > this.#highest) return true;
    return this.#highest - counter < REPLAY_WINDOW && this.#seen[counter % REPLAY_WINDOW] === 0;
  }

  /** A frame of that counter, which was admitted, has proved genuine. */
  accept(counter: number): void {
    const skipped = Math.min(counter - this.#highest, REPLAY_WINDOW + 1);
    for (let i = 1; i < skipped; i++) this.#seen[(this.#highest + i) % REPLAY_WINDOW] = 0;
    this.#highest = Math.max(this.#highest, counter);
    this.#seen[counter % REPLAY_WINDOW] = 1;
  }
}
