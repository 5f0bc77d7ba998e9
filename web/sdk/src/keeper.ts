import { backoff, type BackoffOptions, Pause } from './backoff.js';
import { ConferenceError, toConferenceError } from './errors.js';
import type { Media } from './media.js';
import type { Session } from './session.js';
import type { Operation } from './transport.js';

export interface KeeperOptions {
  /** The request that ends it. */
  undo: Operation['undo'];
  /** The operation that makes it, as it is wanted now. Throws if it can't be made any more. */
  operation(): Operation;
  /** How often in a row it is made anew before it is given up; 0 = never. */
  attempts: number;
}

export interface KeeperListener {
  /** A session is there: the first, or another in the place of one that was lost. */
  established(session: Session): void;
  /** The session was lost; it is being made anew. */
  recovering(error: ConferenceError): void;
  /** It goes on, with the session of the last `established`. */
  recovered(previousId: string): void;
  /** It is over; with an error unless this side asked for it. */
  ended(error: ConferenceError | undefined): void;
}

/** Waits between attempts; the first is made at once. */
const RETRY: BackoffOptions = { firstMs: 1_000, maxMs: 15_000 };
/** A session that lived for so long, in milliseconds, has a fresh start: its attempts are counted from 0 again. */
const STEADY_MS = 30_000;

/** What a subscription whose stream has left the conference ends with; the server says the same. */
export const SOURCE_LOST = 'Source stream loss';

/** What no further attempt changes. */
const FINAL = ['unauthorized', 'Too many inputs', SOURCE_LOST];

/** Keeps a publication or subscription going: one session after another, of the same kind. */
export class Keeper {
  readonly #media: Media;
  readonly #options: KeeperOptions;
  readonly #listener: KeeperListener;
  readonly #pause = new Pause();
  #session: Session | undefined;
  #state: 'opening' | 'live' | 'recovering' | 'ended' = 'opening';
  #attempt = 0;
  #since = 0;

  constructor(media: Media, options: KeeperOptions, listener: KeeperListener) {
    this.#media = media;
    this.#options = options;
    this.#listener = listener;
  }

  /** The session, also while it is being replaced. */
  get session(): Session | undefined {
    return this.#session;
  }

  get live(): boolean {
    return this.#state === 'live';
  }

  get recovering(): boolean {
    return this.#state === 'recovering';
  }

  get ended(): boolean {
    return this.#state === 'ended';
  }

  /** Makes the first session. One attempt, unless the loss of the signaling connection came between. */
  async start(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        return this.#adopt(await this.#media.open(this.#options.operation()));
      } catch (error) {
        if (!isInterruption(error) || attempt >= this.#options.attempts) throw error;
        // Rejects if there is no coming back.
        await this.#media.signaling.whenConnected();
      }
    }
  }

  /** Ends it. Resolves when the server knows. */
  async stop(): Promise<void> {
    if (this.#state === 'ended') return;
    this.#finish();
    if (this.#session) await this.#media.stop(this.#session, this.#options.undo);
  }

  /** Ends it from outside: everything ends. */
  end(error?: ConferenceError): void {
    this.#finish(error);
  }

  /** Makes its session anew while the one that there is goes on, and ends that one then. If it can't be, that one stays. */
  async move(): Promise<void> {
    const before = this.#session;
    if (!this.live || !before || this.#options.attempts === 0) return;
    let session: Session;
    try {
      session = await this.#media.open(this.#options.operation());
    } catch {
      return;
    }
    // It was stopped or lost meanwhile.
    if (!this.live || this.#session !== before) return this.#media.stop(session, this.#options.undo);
    this.#adopt(session);
    this.#listener.recovered(before.id);
    await this.#media.stop(before, this.#options.undo);
  }

  /** What an attempt depends on has changed: the next one is made now. */
  reconsider(): void {
    this.#pause.end();
  }

  #adopt(session: Session): void {
    this.#session = session;
    this.#state = 'live';
    this.#media.keepers.add(this);
    this.#since = Date.now();
    session.attach({ ended: (error) => this.#onSessionEnd(session, error) });
    this.#listener.established(session);
  }

  #onSessionEnd(session: Session, error: ConferenceError | undefined): void {
    if (session !== this.#session || this.#state !== 'live') return;
    if (!error || this.#options.attempts === 0 || error.code !== 'transport-failed') return this.#finish(error);
    if (Date.now() - this.#since >= STEADY_MS) this.#attempt = 0;
    void this.#recover(error, session.id);
  }

  async #recover(cause: ConferenceError, previousId: string): Promise<void> {
    this.#state = 'recovering';
    this.#listener.recovering(cause);
    let last = cause;
    while (this.#attempt < this.#options.attempts) {
      const wait = this.#attempt++ === 0 ? 0 : backoff(this.#attempt - 2, RETRY);
      if (wait > 0) await this.#pause.wait(wait);
      if (!this.recovering) return;
      try {
        // Rejects when there is no coming back, and then everything has been ended.
        await this.#media.signaling.whenConnected();
        if (!this.recovering) return;
        const session = await this.#media.open(this.#options.operation());
        // It was stopped meanwhile.
        if (!this.recovering) return await this.#media.stop(session, this.#options.undo);
        this.#adopt(session);
        return this.#listener.recovered(previousId);
      } catch (reason) {
        if (!this.recovering) return;
        last = toConferenceError(reason, 'session-failed');
        if (isInterruption(last)) this.#attempt--;
        else if (isFinal(last)) break;
      }
    }
    this.#finish(last);
  }

  #finish(error?: ConferenceError): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#pause.end();
    this.#media.keepers.delete(this);
    this.#listener.ended(error);
  }
}

/** The signaling connection broke while it was under way; it may have come back since. */
function isInterruption(error: unknown): boolean {
  return error instanceof ConferenceError && error.code === 'disconnected';
}

function isFinal(error: ConferenceError): boolean {
  return error.code === 'invalid-argument' || error.code === 'invalid-state' || FINAL.includes(error.message);
}
