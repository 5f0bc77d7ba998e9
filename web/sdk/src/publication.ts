import { channelInit, type DataMessage, type DataOptions, DataSender } from './data.js';
import { Emitter } from './emitter.js';
import { withEncryption } from './encryption/attribute.js';
import type { Encryption, Transform } from './encryption/encryption.js';
import { ENCRYPTABLE } from './encryption/layout.js';
import type { EncryptionFailure } from './encryption/messages.js';
import { Teller } from './encryption/teller.js';
import { ConferenceError } from './errors.js';
import { Keeper } from './keeper.js';
import type { Media } from './media.js';
import { preferCodecs } from './negotiation.js';
import { type Session, statsOf } from './session.js';
import type { LocalStream } from './streams.js';
import type { Operation } from './transport.js';
import { kindsOf, type MediaKind, type TrackKind } from './wire.js';

/** How a track is published. */
export interface PublishTrackOptions {
  /** Names such as `vp8`, best first; the browser's other codecs stay as a fallback. */
  codecs?: readonly string[];
  /**
   * What the browser should send, as `RTCPeerConnection.addTransceiver` takes it; several with different `rid`s make simulcast, one with a
   * `scalabilityMode` such as `L3T3_KEY` a picture of several layers in one stream (SVC).
   */
  encodings?: (RTCRtpEncodingParameters & { scalabilityMode?: string })[];
  /** Video: three encodings, `q`, `h` and `f`, of a quarter, half and all of the size. Without effect beside `encodings`. */
  simulcast?: boolean;
}

/** What is published of a stream, and how. */
export interface PublishOptions {
  /** False leaves the stream's audio track out. */
  audio?: boolean | PublishTrackOptions;
  /** False leaves the stream's video track out. */
  video?: boolean | PublishTrackOptions;
  /** Also publishes data, to be sent with `send`; `true` makes a reliable, ordered channel. */
  data?: boolean | DataOptions;
  /** Encrypts it with these keys instead of the client's, or, `false`, not at all. Data can't be encrypted with it. */
  encryption?: Encryption | false;
}

/** The events of a {@link Publication}. */
export interface PublicationEvents {
  /** The server, or a connection that couldn't be made anew, ended it; `ended` follows. */
  error: { error: ConferenceError };
  /** It is over, for whatever reason. Comes once, and last. */
  ended: Record<string, never>;
  /** The media connection was lost, or the client had to join anew: it is being published again. */
  recovering: { error: ConferenceError };
  /** It is published again, with another id. */
  recovered: { previousId: string };
  /** The kind is muted in the conference, whoever muted it. */
  mute: { kind: MediaKind };
  /** The kind isn't muted any more. */
  unmute: { kind: MediaKind };
  /** Nothing is sent of the kind, as it can't be encrypted: there is no key any more, or not for this codec. */
  encryptionfailed: { kind: MediaKind; reason: EncryptionFailure };
  /** What couldn't be encrypted is sent again. */
  encryptionrecovered: { kind: MediaKind };
}

/** Three sizes of a picture, smallest first, for receivers of every size. Rates in bit/s. */
const SIMULCAST: readonly RTCRtpEncodingParameters[] = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: 'f', maxBitrate: 1_500_000 },
];

/**
 * A local stream in the conference. Made by `ConferenceClient.publish`.
 *
 * When its media connection is lost it is published again by itself, with the same tracks, mutes and views, and another
 * {@link id}; `recovering` and `recovered` tell.
 */
export class Publication extends Emitter<PublicationEvents> {
  readonly #options: PublishOptions;
  readonly #media: Media;
  readonly #keeper: Keeper;
  readonly #data: DataSender | undefined;
  #encryption: Encryption | undefined;
  readonly #transforms = new Map<MediaKind, Transform>();
  readonly #teller = new Teller<EncryptionFailure>({
    failed: (kind, reason) => this.emit('encryptionfailed', { kind, reason }),
    recovered: (kind) => this.emit('encryptionrecovered', { kind }),
  });
  /** What is sent of each kind that is published; null sends nothing. */
  readonly #tracks = new Map<MediaKind, MediaStreamTrack | null>();
  /** What this client has muted. */
  readonly #muted = new Set<MediaKind>();
  /** Changes of what is sent of the picture, one after the other. */
  #layers = Promise.resolve();
  /** What this client has done last about the stream in each view. */
  readonly #views = new Map<string, 'mix' | 'unmix'>();

  /** @internal Throws `invalid-argument` if nothing would be published. */
  constructor(
    /** What was published. */
    readonly stream: LocalStream,
    options: PublishOptions,
    media: Media,
    attempts: number,
    encryption?: Encryption,
  ) {
    super();
    this.#options = options;
    this.#media = media;
    this.#encryption = options.encryption === false ? undefined : (options.encryption ?? encryption);
    for (const track of [stream.mediaStream.getAudioTracks()[0], stream.mediaStream.getVideoTracks()[0]]) {
      const kind = track?.kind as MediaKind;
      if (track && options[kind] !== false) this.#tracks.set(kind, track);
    }
    if (options.data) {
      channelInit(options.data);
      this.#data = new DataSender();
    }
    if (this.#tracks.size === 0 && !this.#data) throw new ConferenceError('invalid-argument', 'There is no track to publish.');
    if (this.#tracks.size === 0) this.#encryption = undefined;
    if (this.#encryption && this.#data) throw new ConferenceError('invalid-argument', "Data isn't encrypted; it can be published by itself.");
    this.#encryption?.assertReady();
    this.#keeper = new Keeper(media, { operation: () => this.#operation(), undo: 'unpublish', attempts }, {
      established: (session) => {
        this.#data?.use(session.channel);
        this.#nameCodecs(session);
      },
      recovering: (error) => {
        this.#data?.use(undefined);
        this.emit('recovering', { error });
      },
      recovered: (previousId) => {
        for (const kind of this.#muted) this.#control('pause', kind).catch(() => {});
        for (const [view, operation] of this.#views) this.#control(operation, view).catch(() => {});
        this.emit('recovered', { previousId });
      },
      ended: (error) => {
        this.#data?.use(undefined);
        this.#endTransforms();
        if (error) this.emit('error', { error });
        this.emit('ended', {});
      },
    });
  }

  /** @internal */
  async start(): Promise<void> {
    await this.#keeper.start();
    this.#teller.open();
  }

  /** Its own id, and that of its stream in the conference. Another one after `recovered`. */
  get id(): string {
    return this.#keeper.session?.id ?? '';
  }

  /** Whether it is over. */
  get ended(): boolean {
    return this.#keeper.ended;
  }

  /** Whether it is being published again. Requests about it are refused meanwhile, but for `stop` and `replaceTrack`. */
  get recovering(): boolean {
    return this.#keeper.recovering;
  }

  /**
   * Makes the server stop forwarding and mixing the kind. The track itself goes on; a `mute` event follows.
   *
   * Rejects with `refused`, `invalid-state` if it has ended, or `disconnected`.
   */
  async mute(kind: TrackKind): Promise<void> {
    await this.#control('pause', kind);
    for (const each of kindsOf(kind)) if (this.#tracks.has(each)) this.#muted.add(each);
  }

  /** Undoes {@link mute}. */
  async unmute(kind: TrackKind): Promise<void> {
    await this.#control('play', kind);
    for (const each of kindsOf(kind)) this.#muted.delete(each);
  }

  /** Shows the stream in a view that the server mixes, named by its label. Rejects as {@link mute} does. */
  async mix(view: string): Promise<void> {
    await this.#control('mix', view);
    this.#views.set(view, 'mix');
  }

  /** Takes the stream out of a view's picture and sound. Rejects as {@link mute} does. */
  async unmix(view: string): Promise<void> {
    await this.#control('unmix', view);
    this.#views.set(view, 'unmix');
  }

  /** The id of the region of a view's picture that shows the stream; empty if none does. Rejects as {@link mute} does. */
  async region(view: string): Promise<string> {
    const answer = await this.#control('get-region', view);
    const region = (answer as { region?: unknown } | null | undefined)?.region;
    return typeof region === 'string' ? region : '';
  }

  /** Moves the stream to a region of a view's picture; the one that was there takes its place. Rejects as {@link mute} does. */
  async setRegion(view: string, region: string): Promise<void> {
    await this.#control('set-region', { view, region });
  }

  /**
   * Sends another track in the place of the one of its kind, without telling anyone; `null` sends nothing.
   * Rejects with `invalid-argument` if nothing of the kind was published.
   */
  async replaceTrack(kind: MediaKind, track: MediaStreamTrack | null): Promise<void> {
    if (this.ended) throw new ConferenceError('invalid-state', 'The publication has ended.');
    if (!this.#tracks.has(kind)) throw new ConferenceError('invalid-argument', `No ${kind} was published.`);
    this.#tracks.set(kind, track);
    if (this.#keeper.live) await this.#senderOf(kind)?.replaceTrack(track);
  }

  /**
   * Sends a text or bytes to everyone who has subscribed the publication's data. The message is on its way when the
   * call returns; the promise resolves when there is room for another, so that who awaits it never sends too fast.
   *
   * Rejects with `invalid-argument` if the message has more than 65,536 bytes or no data was published, `overloaded` if
   * more than 8 MiB or 1,024 messages wait, or `disconnected` while the publication is made anew.
   */
  async send(message: DataMessage): Promise<void> {
    if (this.ended) throw new ConferenceError('invalid-state', 'The publication has ended.');
    if (!this.#data) throw new ConferenceError('invalid-argument', 'No data was published.');
    await this.#data.send(message);
  }

  /** How many bytes were given to `send` and haven't left this machine. */
  get bufferedAmount(): number {
    return this.#data?.bufferedAmount ?? 0;
  }

  /** Takes the stream out of the conference. Its tracks go on. */
  stop(): Promise<void> {
    return this.#keeper.stop();
  }

  /** The browser's statistics about what is sent, by their ids; empty when it has ended. */
  getStats(): Promise<Map<string, RTCStats>> {
    return statsOf(this.#keeper.session);
  }

  /** @internal A track's status in the conference changed. */
  onStatus(kind: MediaKind, active: boolean): void {
    this.emit(active ? 'unmute' : 'mute', { kind });
  }

  /** @internal What nobody wants of a simulcast picture need not be sent, for now. */
  onLayers(wanted: ReadonlyMap<string, boolean>): void {
    const sender = this.#keeper.live ? this.#senderOf('video') : undefined;
    if (!sender) return;
    const option = this.#options.video;
    const asked = typeof option === 'object' ? option.encodings : undefined;
    // Parameters are good for one change only, and only one may be on its way.
    this.#layers = this.#layers
      .then(() => {
        const parameters = sender.getParameters();
        for (const encoding of parameters.encodings) {
          const isWanted = wanted.get(encoding.rid ?? '');
          const isOff = asked?.find(({ rid }) => rid === encoding.rid)?.active === false;
          if (isWanted !== undefined && !isOff) encoding.active = isWanted;
        }
        return sender.setParameters(parameters);
      })
      // A sender that has stopped sends nothing anyway.
      .catch(() => {});
  }

  async #control(operation: string, data: unknown): Promise<unknown> {
    const session = liveSession(this.#keeper, 'publication');
    return this.#media.signaling.request('stream-control', { id: session.id, operation, data }, { repeatable: true });
  }

  #senderOf(kind: MediaKind): RTCRtpSender | undefined {
    return this.#keeper.session?.transceivers.find(({ receiver }) => receiver.track.kind === kind)?.sender;
  }

  #operation(): Operation {
    const { stream } = this;
    const tracks = [...this.#tracks];
    const { data } = this.#options;
    return {
      request: 'publish',
      undo: 'unpublish',
      ...(data && { data: channelInit(data) }),
      addTransceivers: (connection) => {
        this.#endTransforms();
        return tracks.map(([kind, track]) => this.#addTransceiver(connection, kind, track));
      },
      describe: (transceivers) => ({
        media:
          tracks.length === 0
            ? null
            : { tracks: tracks.map(([kind], index) => ({ type: kind, mid: transceivers[index]?.mid, source: stream.sources[kind] })) },
        ...(data && { data: true }),
        attributes: this.#encryption ? withEncryption(stream.attributes) : stream.attributes,
      }),
    };
  }

  #addTransceiver(connection: RTCPeerConnection, kind: MediaKind, track: MediaStreamTrack | null): RTCRtpTransceiver {
    const option = this.#options[kind];
    const { codecs, encodings, simulcast } = typeof option === 'object' ? option : ({} as PublishTrackOptions);
    const init: RTCRtpTransceiverInit = { direction: 'sendonly', streams: [this.stream.mediaStream] };
    const sent = encodings ?? (simulcast && kind === 'video' ? SIMULCAST : undefined);
    // The browser may keep what it is given.
    if (sent) init.sendEncodings = sent.map((encoding) => ({ ...encoding }));
    const transceiver = connection.addTransceiver(track ?? kind, init);
    preferCodecs(transceiver, kind, codecs ?? [], this.#encryption && ENCRYPTABLE);
    if (this.#encryption) this.#encrypt(transceiver.sender, kind, this.#encryption);
    else this.#media.passThrough(transceiver.sender);
    return transceiver;
  }

  #encrypt(sender: RTCRtpSender, kind: MediaKind, encryption: Encryption): void {
    this.#transforms.set(kind, encryption.encrypt(sender, (reason) => this.#teller.tell(kind, reason)));
  }

  /** Browsers whose frames don't tell their codec need to be told what was negotiated. */
  #nameCodecs(session: Session): void {
    for (const { sender, receiver } of session.transceivers) {
      const transform = this.#transforms.get(receiver.track.kind as MediaKind);
      const codecs = transform && sender.getParameters().codecs;
      if (codecs) transform.useCodecs(Object.fromEntries(codecs.map(({ payloadType, mimeType }) => [payloadType, mimeType])));
    }
  }

  #endTransforms(): void {
    for (const transform of this.#transforms.values()) transform.end();
    this.#transforms.clear();
  }
}

/** @internal The session of what goes on; throws if it is over, or being made anew. */
export function liveSession(keeper: Keeper, what: string): Session {
  if (keeper.ended) throw new ConferenceError('invalid-state', `The ${what} has ended.`);
  if (!keeper.live || !keeper.session) throw new ConferenceError('disconnected', `The ${what} is being made anew.`);
  return keeper.session;
}
