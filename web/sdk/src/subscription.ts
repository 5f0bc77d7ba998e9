import { Adaptation } from './adaptation.js';
import { channelInit, type DataOptions } from './data.js';
import { Emitter } from './emitter.js';
import type { Encryption, Transform } from './encryption/encryption.js';
import type { DecryptionFailure } from './encryption/frame.js';
import { ENCRYPTABLE } from './encryption/layout.js';
import { Teller } from './encryption/teller.js';
import { ConferenceError } from './errors.js';
import { Keeper, SOURCE_LOST } from './keeper.js';
import type { Media } from './media.js';
import { describeDependencies, preferCodecs } from './negotiation.js';
import type { Page } from './page.js';
import { liveSession } from './publication.js';
import { type Session, statsOf } from './session.js';
import type { RemoteStream } from './streams.js';
import type { Operation } from './transport.js';
import { watchViewport } from './viewport.js';
import { kindsOf, type MediaKind, type Resolution, type TrackInfo, type TrackKind } from './wire.js';

/** What is asked of a video; the stream's `parameterChoices` tell what the server grants. */
export interface VideoSubscribeParameters {
  /** The picture's size in pixels. */
  resolution?: Resolution;
  /** Frames per second. */
  framerate?: number;
  /** The wanted share of the stream's own bitrate, such as 0.6. */
  bitrateMultiplier?: number;
  /** Seconds between key frames. */
  keyFrameInterval?: number;
  /**
   * 0 (the default) to 100. When the network does not carry all videos with several layers that this client receives, those of a higher
   * priority are made larger before others, and left out after them.
   */
  priority?: number;
}

/** How audio is subscribed. */
export interface AudioSubscribeOptions {
  /** Another stream, or its id, to take the audio from. */
  from?: RemoteStream | string;
  /** Names such as `opus`, best first; the browser's other codecs stay as a fallback. */
  codecs?: readonly string[];
}

/** How video is subscribed. */
export interface VideoSubscribeOptions extends VideoSubscribeParameters {
  /** Another stream, or its id, to take the video from. */
  from?: RemoteStream | string;
  /** Names such as `vp8`, best first; the browser's other codecs stay as a fallback. */
  codecs?: readonly string[];
  /** One track (simulcast layer) of the stream instead of the stream's best. */
  trackId?: string;
}

/** How data is subscribed. The receiving channel is as ordered and reliable as said here, whatever the sender's is. */
export interface DataSubscribeOptions extends DataOptions {
  /** Another stream, or its id, to take the data from. */
  from?: RemoteStream | string;
}

/** What of a stream is subscribed, and how. */
export interface SubscribeOptions {
  /** False leaves audio out; by default it is taken if the stream has it. */
  audio?: boolean | AudioSubscribeOptions;
  /** False leaves video out; by default it is taken if the stream has it. */
  video?: boolean | VideoSubscribeOptions;
  /** True, or how to receive it, takes the stream's data too; by default it is taken only if the stream has nothing else. */
  data?: boolean | DataSubscribeOptions;
  /** Decrypts it with these keys instead of the client's; `false` takes it as it is sent. */
  encryption?: Encryption | false;
}

/** What a running subscription is to receive from now on; what is absent stays as it is. */
export interface SubscriptionUpdate {
  /** Another stream, or its id, for audio and video alike, as far as it has them. */
  from?: RemoteStream | string;
  /** Another stream for the audio. */
  audio?: { from: RemoteStream | string };
  /** Other measures of the video, or another stream or track for it, whose own measures apply then. */
  video?: VideoSubscribeParameters & { from?: RemoteStream | string; trackId?: string };
}

/** What {@link Subscription.attach} does besides playing. */
export interface AttachOptions {
  /**
   * Asks the server for the smallest resolution (or simulcast layer) that fills the element. By default true, unless
   * `subscribe` or `update` asked for a resolution or a track.
   */
  adapt?: boolean;
  /** Has the server pause the video while nobody can see the element. True by default. */
  pauseHidden?: boolean;
}

/** The events of a {@link Subscription}. */
export interface SubscriptionEvents {
  /** The server, or a connection that couldn't be made anew, ended it; `ended` follows. */
  error: { error: ConferenceError };
  /** It is over, for whatever reason. Comes once, and last. */
  ended: Record<string, never>;
  /** The media connection was lost, or the client had to join anew: it is being subscribed again. */
  recovering: { error: ConferenceError };
  /** It goes on, with another id and other tracks in the same `stream`. */
  recovered: { previousId: string };
  /** This client muted the kind. */
  mute: { kind: TrackKind };
  /** This client unmuted the kind. */
  unmute: { kind: TrackKind };
  /** The publisher sent a text or bytes. */
  message: { data: string | ArrayBuffer };
  /**
   * What comes of an encrypted stream can't be decrypted: there is no key of the id that is named, or another one, or it wasn't encrypted or was
   * altered on its way. Nothing of it is shown or heard.
   */
  decryptionfailed: { kind: MediaKind; reason: DecryptionFailure; keyId: number | undefined };
  /** What comes can be decrypted again, or at last. */
  decryptionrecovered: { kind: MediaKind };
}

/** What a subscription needs of its client. */
export interface SubscriptionContext {
  media: Media;
  page: Page;
  /** How often in a row it is made anew. */
  attempts: number;
  /** The stream itself or the one with the id; throws `invalid-argument` if there is none. */
  find: (stream: RemoteStream | string) => RemoteStream;
  /** The client's. */
  encryption?: Encryption | undefined;
}

/**
 * A remote stream as received here. Made by `ConferenceClient.subscribe`.
 *
 * When its media connection is lost it is subscribed again by itself, as it was wanted last; `recovering` and
 * `recovered` tell. It ends when its stream leaves the conference.
 */
export class Subscription extends Emitter<SubscriptionEvents> {
  /** The media, to be set as a media element's `srcObject`; always the same object, whose tracks may change. */
  readonly stream = new MediaStream();
  readonly #context: SubscriptionContext;
  readonly #codecs: Readonly<Record<MediaKind, readonly string[]>>;
  readonly #data: RTCDataChannelInit | undefined;
  readonly #keeper: Keeper;
  readonly #adaptation: Adaptation;
  readonly #encryption: Encryption | undefined;
  readonly #transforms = new Map<MediaKind, Transform>();
  readonly #teller = new Teller<{ reason: DecryptionFailure; keyId: number | undefined }>({
    failed: (kind, failure) => this.emit('decryptionfailed', { kind, ...failure }),
    recovered: (kind) => this.emit('decryptionrecovered', { kind }),
  });
  readonly #watches = new Set<() => void>();
  readonly #offs: (() => void)[] = [];
  #source: RemoteStream;
  /** What is received, and from where. */
  readonly #sources = new Map<MediaKind | 'data', RemoteStream>();
  #trackId: string | undefined;
  #video: VideoSubscribeParameters;
  /** The application asked for a resolution or a track, which stands. */
  #fixed: boolean;
  readonly #muted = new Set<MediaKind>();
  #hidden = false;

  /** @internal Throws `invalid-argument` for a kind that the stream lacks. */
  constructor(source: RemoteStream, options: SubscribeOptions, context: SubscriptionContext) {
    super();
    const audio: AudioSubscribeOptions = typeof options.audio === 'object' ? options.audio : {};
    const video: VideoSubscribeOptions = typeof options.video === 'object' ? options.video : {};
    const data: DataSubscribeOptions = typeof options.data === 'object' ? options.data : {};
    this.#context = context;
    this.#source = source;
    for (const [kind, { from }] of [['audio', audio], ['video', video], ['data', data]] as const) {
      const stream = from === undefined ? source : context.find(from);
      const offered = kind === 'data' ? stream.hasData : stream.has(kind);
      const byDefault = kind === 'data' ? stream.hasData && stream.tracks.length === 0 : offered;
      if (!(options[kind] ?? byDefault)) continue;
      if (!offered) throw new ConferenceError('invalid-argument', `The stream has no ${kind}.`);
      this.#sources.set(kind, stream);
    }
    if (this.#sources.size === 0) throw new ConferenceError('invalid-argument', 'There is nothing to subscribe to.');
    this.#encryption = options.encryption === false ? undefined : (options.encryption ?? context.encryption);
    if (options.encryption !== false) for (const stream of this.#sources.values()) this.#assertDecryptable(stream);
    this.#codecs = { audio: audio.codecs ?? [], video: video.codecs ?? [] };
    this.#data = this.#sources.has('data') ? channelInit(data) : undefined;
    this.#trackId = video.trackId;
    this.#video = parametersOf(video);
    this.#fixed = video.resolution !== undefined || video.trackId !== undefined;
    this.#adaptation = new Adaptation({
      offered: () => (this.#fixed ? [] : this.#offered()),
      request: (resolution) => this.#request({ video: { resolution } }),
      hide: (hidden) => this.#hide(hidden),
    });
    const { media, attempts } = context;
    this.#keeper = new Keeper(media, { operation: () => this.#operation(), undo: 'unsubscribe', attempts }, {
      established: (session) => this.#receive(session),
      recovering: (error) => this.emit('recovering', { error }),
      recovered: (previousId) => {
        const paused = this.#paused();
        if (paused) this.#control('pause', paused).catch(() => {});
        this.emit('recovered', { previousId });
      },
      ended: (error) => this.#onEnded(error),
    });
    this.#follow();
  }

  /** @internal */
  async start(): Promise<void> {
    await this.#keeper.start();
    this.#teller.open();
  }

  /** Names the subscription at the server. Another one after `recovered`. */
  get id(): string {
    return this.#keeper.session?.id ?? '';
  }

  /** What was subscribed; after `update` with `from` that stream. */
  get source(): RemoteStream {
    return this.#source;
  }

  /** Whether it is over. */
  get ended(): boolean {
    return this.#keeper.ended;
  }

  /** Whether it is being subscribed again. Requests about it are refused meanwhile, but for `stop`. */
  get recovering(): boolean {
    return this.#keeper.recovering;
  }

  /** Makes the server stop sending the kind to this client. Rejects with `refused`, `invalid-state` or `disconnected`. */
  async mute(kind: TrackKind): Promise<void> {
    await this.#control('pause', kind);
    for (const each of kindsOf(kind)) if (this.#sources.has(each)) this.#muted.add(each);
    this.emit('mute', { kind });
  }

  /** Undoes {@link mute}. Video that nobody can see (see {@link attach}) comes when it is seen. */
  async unmute(kind: TrackKind): Promise<void> {
    const played = this.#hidden ? kindsOf(kind).filter((each) => each !== 'video') : kindsOf(kind);
    if (played.length > 0) await this.#control('play', played.length === 2 ? 'av' : played[0]!);
    for (const each of kindsOf(kind)) this.#muted.delete(each);
    this.emit('unmute', { kind });
  }

  /**
   * Asks for other measures of the video, or for other streams in the place of those received, without a new
   * negotiation. A resolution or track that is asked for stands: {@link attach} adapts no more.
   *
   * Rejects with `refused` if the server doesn't grant it (all stays as it was), `invalid-argument` if a stream isn't
   * there or lacks the kind, `invalid-state` or `disconnected`.
   */
  async update(update: SubscriptionUpdate): Promise<void> {
    await this.#request(update);
    if (update.video?.resolution || update.video?.trackId) this.#fixed = true;
    this.#adaptation.reset(this.#resolution());
  }

  /**
   * Sets the subscription as the source of a video element (which plays it if it has `autoplay`, or when it is told to),
   * and asks the server for what the element needs: no more pixels than it shows, and none while it can't be seen (scrolled away, `display: none`, or in a page in the background). A video
   * that is in several elements has what the most demanding needs. Returns a function that undoes it.
   */
  attach(element: HTMLVideoElement, options: AttachOptions = {}): () => void {
    if (options.adapt === true) this.#fixed = false;
    if (element.srcObject !== this.stream) element.srcObject = this.stream;
    const stop = watchViewport(element, this.#context.page, (viewport, visible) =>
      this.#adaptation.show(element, options.adapt === false ? undefined : viewport, options.pauseHidden === false || visible),
    );
    this.#watches.add(stop);
    return () => {
      stop();
      if (!this.#watches.delete(stop)) return;
      this.#adaptation.remove(element);
      if (element.srcObject === this.stream) element.srcObject = null;
    };
  }

  /** Ends the subscription; its tracks end. */
  stop(): Promise<void> {
    return this.#keeper.stop();
  }

  /** The browser's statistics about what is received, by their ids; empty when it has ended. */
  getStats(): Promise<Map<string, RTCStats>> {
    return statsOf(this.#keeper.session);
  }

  /**
   * How much the way from the server to this client is estimated to carry, in bit/s. Rejects with `refused` if the
   * server can't tell (yet).
   */
  async queryBandwidth(): Promise<number> {
    const session = liveSession(this.#keeper, 'subscription');
    const request = { id: session.id, operation: 'querybwe' };
    const answer = await this.#context.media.signaling.request('subscription-control', request, { repeatable: true });
    const estimate = (answer as { estimatedBitrate?: unknown } | null | undefined)?.estimatedBitrate;
    if (typeof estimate !== 'number') throw new ConferenceError('refused', 'The server named no bandwidth.');
    return estimate;
  }

  #receive(session: Session): void {
    for (const track of this.stream.getTracks()) this.stream.removeTrack(track);
    for (const { currentDirection, receiver } of session.transceivers) {
      if (currentDirection === 'recvonly') this.stream.addTrack(receiver.track);
    }
    this.#adaptation.reset(this.#resolution());
    const { channel } = session;
    if (!channel) return;
    channel.binaryType = 'arraybuffer';
    channel.onmessage = ({ data }) => this.emit('message', { data });
  }

  #onEnded(error: ConferenceError | undefined): void {
    for (const stop of [...this.#watches, ...this.#offs]) stop();
    this.#watches.clear();
    this.#adaptation.close();
    this.#endTransforms();
    if (error) this.emit('error', { error });
    this.emit('ended', {});
  }

  /** Follows what the streams say about themselves. */
  #follow(): void {
    for (const off of this.#offs.splice(0)) off();
    for (const [kind, stream] of this.#sources) {
      this.#offs.push(stream.on('ended', () => this.#keeper.reconsider()));
      if (kind !== 'video') continue;
      this.#offs.push(stream.on('updated', ({ change }) => change === 'stream' && this.#adaptation.reset(this.#resolution())));
    }
  }

  async #request(update: SubscriptionUpdate): Promise<void> {
    const { find } = this.#context;
    const common = update.from === undefined ? undefined : find(update.from);
    const sourceOf = (kind: MediaKind): RemoteStream | undefined => {
      const own = update[kind]?.from;
      if (own !== undefined) return this.#having(kind, find(own));
      return common?.has(kind) && this.#sources.has(kind) ? common : undefined;
    };
    const audio = sourceOf('audio');
    const video = sourceOf('video');
    if (common && !audio && !video) throw new ConferenceError('invalid-argument', 'The stream has nothing of what is received.');
    for (const stream of [audio, video]) if (stream) this.#assertDecryptable(stream);
    const parameters = parametersOf(update.video ?? {});
    const trackId = update.video?.trackId;
    const from = trackId ?? video?.id;
    const request = {
      ...(audio && { audio: { from: audio.id } }),
      ...((from !== undefined || update.video) && {
        video: {
          ...(from !== undefined && { from }),
          ...(Object.keys(parameters).length > 0 && { parameters: wireParameters(parameters) }),
        },
      }),
    };
    await this.#control('update', request);
    if (audio) this.#sources.set('audio', audio);
    if (video) this.#sources.set('video', video);
    if (from !== undefined) this.#trackId = trackId;
    this.#video = from !== undefined ? parameters : { ...this.#video, ...parameters };
    this.#source = common ?? video ?? this.#source;
    for (const [kind, transform] of this.#transforms) transform.require(this.#isEncrypted(kind));
    this.#follow();
  }

  /** What can't be decrypted would be shown as noise. */
  #assertDecryptable(stream: RemoteStream): void {
    if (stream.encryption === undefined || this.#encryption) return;
    throw new ConferenceError('invalid-argument', 'The stream is encrypted end to end, and there is no `encryption` to decrypt it.');
  }

  #isEncrypted(kind: MediaKind): boolean {
    return this.#sources.get(kind)?.encryption !== undefined;
  }

  #decrypt(receiver: RTCRtpReceiver, kind: MediaKind): void {
    if (!this.#encryption) return this.#context.media.passThrough(receiver);
    const told = (reason: DecryptionFailure | undefined, keyId?: number) => this.#teller.tell(kind, reason && { reason, keyId });
    this.#transforms.set(kind, this.#encryption.decrypt(receiver, this.#isEncrypted(kind), told));
  }

  #endTransforms(): void {
    for (const transform of this.#transforms.values()) transform.end();
    this.#transforms.clear();
  }

  #having(kind: MediaKind, stream: RemoteStream): RemoteStream {
    if (!this.#sources.has(kind)) throw new ConferenceError('invalid-argument', `The subscription has no ${kind}.`);
    if (!stream.has(kind)) throw new ConferenceError('invalid-argument', `The stream has no ${kind}.`);
    return stream;
  }

  async #control(operation: 'pause' | 'play' | 'update', data: unknown): Promise<void> {
    const { id } = liveSession(this.#keeper, 'subscription');
    await this.#context.media.signaling.request('subscription-control', { id, operation, data }, { repeatable: true });
  }

  #hide(hidden: boolean): void {
    this.#hidden = hidden;
    if (!this.#keeper.live || this.#muted.has('video') || !this.#sources.has('video')) return;
    this.#control(hidden ? 'pause' : 'play', 'video').catch(() => {});
  }

  /** What the server is to hold back. */
  #paused(): TrackKind | undefined {
    const paused = new Set(this.#muted);
    if (this.#hidden && this.#sources.has('video')) paused.add('video');
    return paused.size === 2 ? 'av' : [...paused][0];
  }

  #videoTracks(): TrackInfo[] {
    return this.#sources.get('video')?.tracks.filter(({ kind }) => kind === 'video') ?? [];
  }

  /** The one that is received; of layers the largest, which the server sends unless it is asked for less. */
  #track(): TrackInfo | undefined {
    const tracks = this.#videoTracks();
    const named = tracks.find(({ id }) => id !== undefined && id === this.#trackId);
    return named ?? tracks.reduce<TrackInfo | undefined>((largest, track) => (!largest || area(track) > area(largest) ? track : largest), undefined);
  }

  /** Simulcast layers cost the server nothing, so that only what has none is asked for in sizes that it must make. */
  #offered(): Resolution[] {
    const tracks = this.#videoTracks();
    const own = tracks.map(({ parameters }) => parameters?.resolution).filter((resolution) => resolution !== undefined);
    if (tracks.length > 1) return own;
    const [whole] = own;
    const choices = tracks[0]?.parameterChoices.resolution ?? [];
    // One of another shape has bars, or is cut: pixels that show nothing.
    return whole ? [whole, ...choices.filter((choice) => sameShape(choice, whole))] : choices;
  }

  /** What is received, as far as it is known. */
  #resolution(): Resolution | undefined {
    return this.#video.resolution ?? this.#track()?.parameters?.resolution;
  }

  #operation(): Operation {
    const lost = [...this.#sources.values()].some(({ ended }) => ended);
    if (lost) throw new ConferenceError('session-failed', SOURCE_LOST);
    const kinds = (['audio', 'video'] as const).filter((kind) => this.#sources.has(kind));
    const parameters = wireParameters(this.#video);
    const data = this.#sources.get('data');
    return {
      request: 'subscribe',
      undo: 'unsubscribe',
      ...(this.#data && { data: this.#data }),
      addTransceivers: (connection) => {
        this.#endTransforms();
        return kinds.map((kind) => {
          const transceiver = connection.addTransceiver(kind, { direction: 'recvonly' });
          // What is not encrypted may become so by an update.
          preferCodecs(transceiver, kind, this.#codecs[kind], this.#encryption && ENCRYPTABLE);
          this.#decrypt(transceiver.receiver, kind);
          if (kind === 'video') describeDependencies(transceiver);
          return transceiver;
        });
      },
      describe: (transceivers) => ({
        media: kinds.length === 0 ? null : { tracks: kinds.map((kind, index) => this.#describe(kind, transceivers[index]?.mid, parameters)) },
        ...(data && { data: { from: data.id } }),
      }),
    };
  }

  #describe(kind: MediaKind, mid: string | null | undefined, parameters: Record<string, unknown>): object {
    const from = this.#sources.get(kind)?.id;
    if (kind === 'audio') return { type: kind, mid, from };
    const track = { type: kind, mid, from: this.#trackId ?? from };
    return Object.keys(parameters).length > 0 ? { ...track, parameters } : track;
  }
}

/** Whether the aspect ratios are alike, but for the rounding to even sizes. */
function sameShape(a: Resolution, b: Resolution): boolean {
  return Math.abs((a.width * b.height) / (a.height * b.width) - 1) < 0.02;
}

/** Of a track's picture, in pixels; 0 while it isn't known. */
function area({ parameters }: TrackInfo): number {
  return (parameters?.resolution?.width ?? 0) * (parameters?.resolution?.height ?? 0);
}

/** The parameters alone, without those that aren't given. */
function parametersOf(options: VideoSubscribeParameters): VideoSubscribeParameters {
  const { resolution, framerate, bitrateMultiplier, keyFrameInterval, priority } = options;
  return {
    ...(resolution && { resolution: { width: resolution.width, height: resolution.height } }),
    ...(framerate !== undefined && { framerate }),
    ...(bitrateMultiplier !== undefined && { bitrateMultiplier }),
    ...(keyFrameInterval !== undefined && { keyFrameInterval }),
    ...(priority !== undefined && { priority }),
  };
}

function wireParameters({ bitrateMultiplier, ...others }: VideoSubscribeParameters): Record<string, unknown> {
  return { ...others, ...(bitrateMultiplier !== undefined && { bitrate: `x${bitrateMultiplier}` }) };
}
