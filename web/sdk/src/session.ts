import { Deferred } from './deferred.js';
import { ConferenceError } from './errors.js';

/** What a session tells the publication or subscription that it carries. */
export interface SessionListener {
  /** The session is over; with an error unless this side asked for it. */
  ended(error: ConferenceError | undefined): void;
}

/**
 * One publication or subscription on a transport, from the server's acknowledgement to its end.
 *
 * It is established when its media was negotiated and the server has said that it is ready, in whichever order.
 */
export class Session {
  #listener: SessionListener | undefined;
  readonly #established = new Deferred<void>();
  #negotiated = false;
  #ready = false;
  #ended = false;
  #error: ConferenceError | undefined;

  constructor(
    /** The publication's (and its stream's) or the subscription's id. */
    readonly id: string,
    readonly transceivers: readonly RTCRtpTransceiver[],
    /** Its data channel, if it has one. It opens by and by. */
    readonly channel?: RTCDataChannel,
  ) {}

  /** Resolves when the session is established and rejects when it ends before. */
  get established(): Promise<void> {
    return this.#established.promise;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Sets who is told of the end, and tells at once (but not before this call returns) if that has come already. */
  attach(listener: SessionListener): void {
    this.#listener = listener;
    if (this.#ended) queueMicrotask(() => listener.ended(this.#error));
  }

  /** The answer that covers this session was applied. */
  negotiated(): void {
    this.#negotiated = true;
    this.#settle();
  }

  /** The server says that the session's media flows. */
  ready(): void {
    this.#ready = true;
    this.#settle();
  }

  /** Ends the session and lets its m-lines fall silent with the next offer. They are kept: m-lines only ever grow. */
  end(error?: ConferenceError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    silence(this.transceivers);
    this.channel?.close();
    this.#established.reject(error ?? new ConferenceError('disconnected', 'It was stopped before it was established.'));
    this.#listener?.ended(error);
  }

  #settle(): void {
    if (this.#negotiated && this.#ready && !this.#ended) this.#established.resolve();
  }
}

/** Statistics of all that a session sends or receives, by their ids; empty when it has ended. */
export async function statsOf(session: Session | undefined): Promise<Map<string, RTCStats>> {
  const merged = new Map<string, RTCStats>();
  if (!session || session.ended) return merged;
  for (const { direction, sender, receiver } of session.transceivers) {
    const report = await (direction === 'recvonly' ? receiver : sender).getStats();
    report.forEach((stats: RTCStats) => merged.set(stats.id, stats));
  }
  return merged;
}

/** Makes transceivers carry nothing, whatever state their connection is in. */
export function silence(transceivers: readonly RTCRtpTransceiver[]): void {
  for (const transceiver of transceivers) {
    try {
      const receives = transceiver.direction === 'recvonly';
      transceiver.direction = 'inactive';
      if (receives) transceiver.receiver.track.stop();
      else transceiver.sender.replaceTrack(null).catch(() => {});
    } catch {
      // A stopped transceiver or a closed connection carries nothing anyway.
    }
  }
}
