import { ConferenceError } from './errors.js';
import type { Session } from './session.js';
import type { Signaling } from './signaling.js';
import { MediaTransport, type Operation, type Timeouts } from './transport.js';
import type { Progress } from './wire.js';

export interface MediaOptions {
  createPeerConnection: () => RTCPeerConnection;
  timeouts: Timeouts;
  /** Leaves what is sent or received unencrypted as it is, on connections that were made for encryption. */
  passThrough(target: RTCRtpSender | RTCRtpReceiver): void;
  /** Media has stopped flowing. */
  interrupted(): void;
  /** Media flows again. */
  recovered(): void;
}

/** All media of a client: one transport at a time, made when it is first needed, and anew after it was lost. */
export class Media {
  readonly signaling: Signaling;
  /** What lives here, to be ended with it. */
  readonly keepers = new Set<{ end(error?: ConferenceError): void }>();
  readonly #options: MediaOptions;
  #transport: MediaTransport | undefined;
  #interrupted = false;
  #closed: ConferenceError | undefined;

  constructor(signaling: Signaling, options: MediaOptions) {
    this.signaling = signaling;
    this.#options = options;
  }

  /** Performs an operation, on another transport if the one there was turns out to be lost. */
  async open(operation: Operation): Promise<Session> {
    const transport = this.#current();
    const { established } = transport;
    try {
      return await transport.open(operation);
    } catch (error) {
      const lost = established && error instanceof ConferenceError && error.code === 'transport-failed';
      if (!lost || this.#closed) throw error;
      return this.#current().open(operation);
    }
  }

  /** Ends a session from this side. */
  async stop(session: Session, undo: Operation['undo']): Promise<void> {
    if (!session.ended) await this.#transport?.stop(session, undo);
  }

  passThrough(target: RTCRtpSender | RTCRtpReceiver): void {
    this.#options.passThrough(target);
  }

  onProgress(progress: Progress): void {
    if (progress.transport === this.#transport?.id) this.#transport.onProgress(progress);
  }

  /** The network changed. */
  nudge(): void {
    this.#transport?.nudge();
  }

  /** The transport belongs to nobody any more; what is on it ends with `error` and may be made anew. */
  reset(error: ConferenceError): void {
    const transport = this.#transport;
    this.#transport = undefined;
    if (!transport) return;
    this.#interrupt();
    transport.close(error);
  }

  /** Ends everything, with an error unless it was asked for. */
  close(error?: ConferenceError): void {
    this.#closed = error ?? new ConferenceError('disconnected', 'The client has left the conference.');
    for (const keeper of [...this.keepers]) keeper.end(error);
    this.#transport?.close(error);
    this.#transport = undefined;
  }

  #current(): MediaTransport {
    if (this.#closed) throw this.#closed;
    this.#transport ??= this.#create();
    return this.#transport;
  }

  #create(): MediaTransport {
    const { createPeerConnection, timeouts } = this.#options;
    const transport: MediaTransport = new MediaTransport(createPeerConnection(), this.signaling, timeouts, {
      interrupted: () => this.#interrupt(),
      connected: () => this.#recover(),
      closed: () => {
        if (this.#transport === transport) this.#transport = undefined;
      },
    });
    return transport;
  }

  #interrupt(): void {
    if (this.#interrupted || this.keepers.size === 0) return;
    this.#interrupted = true;
    this.#options.interrupted();
  }

  #recover(): void {
    if (!this.#interrupted) return;
    this.#interrupted = false;
    this.#options.recovered();
  }
}
