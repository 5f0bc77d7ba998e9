import type { MediaKind } from '../wire.js';

/**
 * Tells of each kind of media when its encryption or decryption fails, and when it works again. What happened before anybody could listen is
 * told as soon as they can.
 */
export class Teller<Failure> {
  readonly #failures = new Map<MediaKind, Failure>();
  readonly #handlers: { failed(kind: MediaKind, failure: Failure): void; recovered(kind: MediaKind): void };
  #open = false;

  constructor(handlers: { failed(kind: MediaKind, failure: Failure): void; recovered(kind: MediaKind): void }) {
    this.#handlers = handlers;
  }

  /** It works, or it doesn't. */
  tell(kind: MediaKind, failure: Failure | undefined): void {
    const failed = this.#failures.has(kind);
    if (failure !== undefined) this.#failures.set(kind, failure);
    else this.#failures.delete(kind);
    if (!this.#open) return;
    if (failure !== undefined) this.#handlers.failed(kind, failure);
    else if (failed) this.#handlers.recovered(kind);
  }

  /** From now on there is somebody to be told, who is given until the next task to listen. */
  open(): void {
    setTimeout(() => {
      if (this.#open) return;
      this.#open = true;
      for (const [kind, failure] of this.#failures) this.#handlers.failed(kind, failure);
    });
  }
}
