import { Emitter } from './emitter.js';
import { ConferenceError } from './errors.js';
import { preferCodecs } from './negotiation.js';
import type { Session } from './session.js';
import type { Signaling } from './signaling.js';
import type { RemoteStream } from './streams.js';
import type { MediaTransport, Operation } from './transport.js';
import type { MediaKind, Resolution, TrackKind } from './wire.js';

/** What is asked of a video; the stream's `parameterChoices` tell what the server grants. */
export interface VideoSubscribeParameters {
  resolution?: Resolution;
  /** Frames per second. */
  frameRate?: number;
  /** The wanted share of the stream's own bitrate, such as 0.6. */
  bitrateMultiplier?: number;
  /** Seconds between key frames. */
  keyFrameInterval?: number;
}

export interface AudioSubscribeOptions {
  /** Names such as `opus`, best first; the browser's other codecs stay as a fallback. */
  codecs?: readonly string[];
}

export interface VideoSubscribeOptions extends VideoSubscribeParameters {
  /** Names such as `vp8`, best first; the browser's other codecs stay as a fallback. */
  codecs?: readonly string[];
  /** One track (simulcast layer) of the stream instead of the stream's best. */
  trackId?: string;
}

export interface SubscribeOptions {
  /** False leaves audio out; by default it is taken if the stream has it. */
  audio?: boolean | AudioSubscribeOptions;
  /** False leaves video out; by default it is taken if the stream has it. */
  video?: boolean | VideoSubscribeOptions;
}

export interface SubscriptionEvents {
  /** The server, or a broken connection, ended it; `ended` follows. */
  error: { error: ConferenceError };
  /** It is over, for whatever reason. Comes once, and last. */
  ended: Record<string, never>;
  /** This client muted the kind. */
  mute: { kind: TrackKind };
  unmute: { kind: TrackKind };
}

/** A remote stream as received here. Made by `ConferenceClient.subscribe`. */
export class Subscription extends Emitter<SubscriptionEvents> {
  /** The media, to be set as a media element's `srcObject`. */
  readonly stream: MediaStream;
  readonly #session: Session;
  readonly #transport: MediaTransport;
  readonly #signaling: Signaling;

  /** @internal */
  constructor(
    /** What was subscribed. */
    readonly source: RemoteStream,
    session: Session,
    transport: MediaTransport,
    signaling: Signaling,
  ) {
    super();
    this.#session = session;
    this.#transport = transport;
    this.#signaling = signaling;
    this.stream = new MediaStream(
      session.transceivers
        .filter(({ currentDirection }) => currentDirection === 'recvonly')
        .map(({ receiver }) => receiver.track),
    );
    session.attach({
      ended: (error) => {
        if (error) this.emit('error', { error });
        this.emit('ended', {});
      },
    });
  }

  get id(): string {
    return this.#session.id;
  }

  get ended(): boolean {
    return this.#session.ended;
  }

  /** Makes the server stop sending the kind to this client. */
  async mute(kind: TrackKind): Promise<void> {
    await this.#control('pause', kind);
    this.emit('mute', { kind });
  }

  async unmute(kind: TrackKind): Promise<void> {
    await this.#control('play', kind);
    this.emit('unmute', { kind });
  }

  /** Asks for other measures of the video, without a new negotiation. */
  update(video: VideoSubscribeParameters): Promise<void> {
    return this.#control('update', { video: { parameters: videoParameters(video) } });
  }

  /** Ends the subscription; its tracks end. */
  stop(): Promise<void> {
    return this.#transport.stop(this.#session, 'unsubscribe');
  }

  /** The browser's statistics about what is received, by their ids; empty when it has ended. */
  getStats(): Promise<Map<string, RTCStats>> {
    return this.#transport.getStats(this.#session);
  }

  async #control(operation: 'pause' | 'play' | 'update', data: unknown): Promise<void> {
    if (this.ended) throw new ConferenceError('invalid-state', 'The subscription has ended.');
    await this.#signaling.request('subscription-control', { id: this.id, operation, data });
  }
}

function videoParameters(options: VideoSubscribeParameters): Record<string, unknown> {
  const { resolution, frameRate, bitrateMultiplier, keyFrameInterval } = options;
  const parameters: Record<string, unknown> = {};
  if (resolution) parameters.resolution = { width: resolution.width, height: resolution.height };
  if (frameRate !== undefined) parameters.framerate = frameRate;
  if (bitrateMultiplier !== undefined) parameters.bitrate = `x${bitrateMultiplier}`;
  if (keyFrameInterval !== undefined) parameters.keyFrameInterval = keyFrameInterval;
  return parameters;
}

/** @internal The operation that subscribes `source`. Throws `invalid-argument` for a kind that the stream lacks. */
export function subscribeOperation(source: RemoteStream, options: SubscribeOptions): Operation {
  const kinds = (['audio', 'video'] as const).filter((kind: MediaKind) => options[kind] ?? source.has(kind));
  const missing = kinds.find((kind) => !source.has(kind));
  if (missing) throw new ConferenceError('invalid-argument', `The stream has no ${missing}.`);
  if (kinds.length === 0) throw new ConferenceError('invalid-argument', 'There is nothing to subscribe to.');
  const video: VideoSubscribeOptions = typeof options.video === 'object' ? options.video : {};
  const audio: AudioSubscribeOptions = typeof options.audio === 'object' ? options.audio : {};
  const parameters = videoParameters(video);
  return {
    request: 'subscribe',
    undo: 'unsubscribe',
    addTransceivers: (connection) =>
      kinds.map((kind) => {
        const transceiver = connection.addTransceiver(kind, { direction: 'recvonly' });
        preferCodecs(transceiver, kind, (kind === 'audio' ? audio : video).codecs ?? []);
        return transceiver;
      }),
    describe: (transceivers) => ({
      media: {
        tracks: kinds.map((kind, index) => {
          const mid = transceivers[index]?.mid;
          if (kind === 'audio') return { type: kind, mid, from: source.id };
          const track = { type: kind, mid, from: video.trackId ?? source.id };
          return Object.keys(parameters).length > 0 ? { ...track, parameters } : track;
        }),
      },
    }),
  };
}
