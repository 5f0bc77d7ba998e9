import { Emitter } from './emitter.js';
import { ConferenceError } from './errors.js';
import { preferCodecs } from './negotiation.js';
import type { Session } from './session.js';
import type { Signaling } from './signaling.js';
import type { LocalStream } from './streams.js';
import type { MediaTransport, Operation } from './transport.js';
import type { MediaKind, TrackKind } from './wire.js';

export interface PublishTrackOptions {
  /** Names such as `vp8`, best first; the browser's other codecs stay as a fallback. */
  codecs?: readonly string[];
  /** What the browser should send; several with different `rid`s make simulcast. */
  encodings?: RTCRtpEncodingParameters[];
}

export interface PublishOptions {
  /** False leaves the stream's audio track out. */
  audio?: boolean | PublishTrackOptions;
  /** False leaves the stream's video track out. */
  video?: boolean | PublishTrackOptions;
}

export interface PublicationEvents {
  /** The server, or a broken connection, ended it; `ended` follows. */
  error: { error: ConferenceError };
  /** It is over, for whatever reason. Comes once, and last. */
  ended: Record<string, never>;
  /** The kind is muted in the conference, whoever muted it. */
  mute: { kind: MediaKind };
  unmute: { kind: MediaKind };
}

/** A local stream in the conference. Made by `ConferenceClient.publish`. */
export class Publication extends Emitter<PublicationEvents> {
  readonly #session: Session;
  readonly #transport: MediaTransport;
  readonly #signaling: Signaling;

  /** @internal */
  constructor(
    /** What was published. */
    readonly stream: LocalStream,
    session: Session,
    transport: MediaTransport,
    signaling: Signaling,
  ) {
    super();
    this.#session = session;
    this.#transport = transport;
    this.#signaling = signaling;
    session.attach({
      ended: (error) => {
        if (error) this.emit('error', { error });
        this.emit('ended', {});
      },
    });
  }

  /** Its own id, and that of its stream in the conference. */
  get id(): string {
    return this.#session.id;
  }

  get ended(): boolean {
    return this.#session.ended;
  }

  /** Makes the server stop forwarding and mixing the kind. The track itself goes on; a `mute` event follows. */
  mute(kind: TrackKind): Promise<void> {
    return this.#control('pause', kind);
  }

  unmute(kind: TrackKind): Promise<void> {
    return this.#control('play', kind);
  }

  /**
   * Sends another track in the place of the one of its kind, without telling anyone; `null` sends nothing.
   * Rejects with `invalid-argument` if nothing of the kind was published.
   */
  async replaceTrack(kind: MediaKind, track: MediaStreamTrack | null): Promise<void> {
    this.#assertLive();
    const sender = this.#session.transceivers.find((transceiver) => transceiver.receiver.track.kind === kind)?.sender;
    if (!sender) throw new ConferenceError('invalid-argument', `No ${kind} was published.`);
    await sender.replaceTrack(track);
  }

  /** Takes the stream out of the conference. Its tracks go on. */
  stop(): Promise<void> {
    return this.#transport.stop(this.#session, 'unpublish');
  }

  /** The browser's statistics about what is sent, by their ids; empty when it has ended. */
  getStats(): Promise<Map<string, RTCStats>> {
    return this.#transport.getStats(this.#session);
  }

  async #control(operation: 'pause' | 'play', kind: TrackKind): Promise<void> {
    this.#assertLive();
    await this.#signaling.request('stream-control', { id: this.id, operation, data: kind });
  }

  #assertLive(): void {
    if (this.ended) throw new ConferenceError('invalid-state', 'The publication has ended.');
  }
}

/** @internal The operation that publishes `stream`. Throws `invalid-argument` if nothing of it would be sent. */
export function publishOperation(stream: LocalStream, options: PublishOptions): Operation {
  const tracks = [stream.mediaStream.getAudioTracks()[0], stream.mediaStream.getVideoTracks()[0]].filter(
    (track): track is MediaStreamTrack => track !== undefined && options[track.kind as MediaKind] !== false,
  );
  if (tracks.length === 0) throw new ConferenceError('invalid-argument', 'There is no track to publish.');
  return {
    request: 'publish',
    undo: 'unpublish',
    addTransceivers: (connection) =>
      tracks.map((track) => {
        const option = options[track.kind as MediaKind];
        const { codecs, encodings } = typeof option === 'object' ? option : ({} as PublishTrackOptions);
        const init: RTCRtpTransceiverInit = { direction: 'sendonly', streams: [stream.mediaStream] };
        if (encodings) init.sendEncodings = encodings;
        const transceiver = connection.addTransceiver(track, init);
        preferCodecs(transceiver, track.kind, codecs ?? []);
        return transceiver;
      }),
    describe: (transceivers) => ({
      media: {
        tracks: tracks.map(({ kind }, index) => ({
          type: kind,
          mid: transceivers[index]?.mid,
          source: stream.sources[kind as MediaKind],
        })),
      },
      attributes: stream.attributes,
    }),
  };
}
