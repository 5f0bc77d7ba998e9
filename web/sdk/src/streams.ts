import { Emitter } from './emitter.js';
import { encryptionOf } from './encryption/attribute.js';
import type { LayoutEntry, MediaKind, StreamFields, StreamUpdate, TrackInfo, Volume } from './wire.js';

/** What a published audio track comes from. */
export type AudioSource = 'mic' | 'screen-cast' | 'raw-file' | 'encoded-file';
/** What a published video track comes from. */
export type VideoSource = 'camera' | 'screen-cast' | 'raw-file' | 'encoded-file';

/** What is said about a local stream. */
export interface LocalStreamOptions {
  /** What the tracks come from; `mic` and `camera` if not said. */
  sources?: { audio?: AudioSource; video?: VideoSource };
  /** Anything JSON can hold; every participant sees it on the stream. */
  attributes?: Record<string, unknown>;
}

/** Media of this page (or none, to publish data alone), ready to be published. At most the first track of each kind is used. */
export class LocalStream {
  /** What the tracks come from. */
  readonly sources: Readonly<{ audio: AudioSource; video: VideoSource }>;
  /** What every participant sees on the stream. */
  readonly attributes: Readonly<Record<string, unknown>>;

  constructor(
    /** The tracks. */
    readonly mediaStream: MediaStream,
    options: LocalStreamOptions = {},
  ) {
    this.sources = { audio: options.sources?.audio ?? 'mic', video: options.sources?.video ?? 'camera' };
    this.attributes = { ...options.attributes };
  }
}

/** What changed of a stream: a track's mute, a mix's layout or loudest input, or (`stream`) anything else about it. */
export type StreamChange = 'status' | 'layout' | 'activeInput' | 'stream';

/** The events of a {@link RemoteStream}. */
export interface RemoteStreamEvents {
  /** Something about the stream changed; its properties hold the new values. */
  updated: { change: StreamChange };
  /** The stream left the conference. */
  ended: Record<string, never>;
}

/** A stream in the conference that may be subscribed. Its properties follow the server's notifications. */
export class RemoteStream extends Emitter<RemoteStreamEvents> {
  #fields: StreamFields;
  #ended = false;

  /** @internal */
  constructor(fields: StreamFields) {
    super();
    this.#fields = fields;
  }

  /** Names the stream in the conference. */
  get id(): string {
    return this.#fields.id;
  }

  /** `forward`: one publisher's stream, or one that selects. `mixed`: a view that the server composes. */
  get type(): 'forward' | 'mixed' {
    return this.#fields.type;
  }

  /** The id of the participant that publishes it; mixed streams have none. */
  get owner(): string | undefined {
    return this.#fields.owner;
  }

  /** Its tracks: at most one of audio, and one of video or one for each simulcast layer. Empty if it is data alone. */
  get tracks(): readonly TrackInfo[] {
    return this.#fields.tracks;
  }

  /** What the publisher said about it. */
  get attributes(): Readonly<Record<string, unknown>> {
    return this.#fields.attributes;
  }

  /**
   * How it is encrypted end to end, such as `sframe`; undefined if it isn't. Says the publisher by way of the server, which must not be
   * trusted in it: what is received of a stream that says so is only shown if it was encrypted indeed.
   */
  get encryption(): string | undefined {
    return encryptionOf(this.attributes);
  }

  /** The view's label, of mixed streams. */
  get label(): string | undefined {
    return this.#fields.label;
  }

  /** Which stream is where in the picture, of mixed streams. */
  get layout(): readonly LayoutEntry[] {
    return this.#fields.layout;
  }

  /** The id of the stream that is loudest now, of mixed streams; of the one that is heard in it, of selecting streams. */
  get activeInput(): string | undefined {
    return this.#fields.activeInput;
  }

  /**
   * Whether it is one of the room's selecting streams: sound of whoever is among the loudest at the time, of nobody in particular.
   * All of them together are what is said in the room, however many are in it.
   */
  get isSelecting(): boolean {
    return this.#fields.selecting;
  }

  /** Of a selecting stream: whether the one who is heard in it leads the conversation. Undefined until the room says so. */
  get volume(): Volume | undefined {
    return this.#fields.volume;
  }

  /** Whether it has left the conference. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether its publisher sends data, too, or nothing else. */
  get hasData(): boolean {
    return this.#fields.data;
  }

  /** Whether it has a track of the kind, muted or not. */
  has(kind: MediaKind): boolean {
    return this.tracks.some((track) => track.kind === kind);
  }

  /** Whether it has a track of the kind that its publisher hasn't muted. */
  isActive(kind: MediaKind): boolean {
    return this.tracks.some((track) => track.kind === kind && track.active);
  }

  /** The source of its track of the kind, such as `screen-cast`. */
  source(kind: MediaKind): string | undefined {
    return this.tracks.find((track) => track.kind === kind)?.source;
  }

  /** @internal */
  apply(update: StreamUpdate): void {
    switch (update.field) {
      case 'status':
        for (const track of this.#fields.tracks) {
          if (track.kind === update.kind) track.active = update.active;
        }
        break;
      case 'layout':
        this.#fields.layout = update.layout;
        break;
      case 'activeInput':
        this.#fields.activeInput = update.stream;
        this.#fields.volume = update.volume;
        break;
      case 'stream':
        this.#fields = { ...update.stream, id: this.#fields.id };
        break;
    }
    this.emit('updated', { change: update.field });
  }

  /** @internal */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.emit('ended', {});
  }
}
