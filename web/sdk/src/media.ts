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

/** What lives on transports. */
export interface Kept {
  /** Ends it. */
  end(error?: ConferenceError): void;
  /** Makes it anew on the transport that is there now, and ends it on the one before. */
  move(): Promise<void>;
}

/** All media of a client: one transport at a time, made when it is first needed, and anew after it was lost or when its node is to end. */
export class Media {
  readonly signaling: Signaling;
  /** What lives here, to be ended with it. */
  readonly keepers = new Set<Kept>();
  readonly #options: MediaOptions;
  #transport: MediaTransport | undefined;
  /** Those that are being left. */
  readonly #left = new Set<MediaTransport>();
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
    if (session.ended) return;
    const left = [...this.#left].find((transport) => transport.carries(session));
    await (left ?? this.#transport)?.stop(session, undo);
  }

  passThrough(target: RTCRtpSender | RTCRtpReceiver): void {
    this.#options.passThrough(target);
  }

  onProgress(progress: Progress): void {
    if (progress.transport !== this.#transport?.id) {
      for (const left of this.#left) if (progress.transport === left.id) left.onProgress(progress);
    } else if (progress.status === 'moving') {
      void this.#move(this.#transport);
    } else {
      this.#transport.onProgress(progress);
    }
  }

  /** Leaves a transport that still works: everything on it is made anew on another one first. What can't be stays until its node ends. */
  async #move(transport: MediaTransport): Promise<void> {
    this.#transport = undefined;
    this.#left.add(transport);
    await Promise.all([...this.keepers].map((keeper) => keeper.move()));
    if (transport.busy || !this.#left.delete(transport)) return;
    transport.close();
  }

  /** The network changed. */
  nudge(): void {
    this.#transport?.nudge();
  }

  /** The transport belongs to nobody any more; what is on it ends with `error` and may be made anew. */
  reset(error: ConferenceError): void {
    const transports = [...this.#left, ...(this.#transport ? [this.#transport] : [])];
    this.#left.clear();
    this.#transport = undefined;
    if (transports.length === 0) return;
    this.#interrupt();
    for (const transport of transports) transport.close(error);
  }

  /** Ends everything, with an error unless it was asked for. */
  close(error?: ConferenceError): void {
    this.#closed = error ?? new ConferenceError('disconnected', 'The client has left the conference.');
    for (const keeper of [...this.keepers]) keeper.end(error);
    this.#transport?.close(error);
    this.#transport = undefined;
    for (const left of this.#left) left.close(error);
    this.#left.clear();
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
        this.#left.delete(transport);
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
