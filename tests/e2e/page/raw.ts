// Runs in the browser: a client that speaks the protocol by hand, in any version, and measures what arrives.
import type { Look, Rgb } from '../harness/colours';
import { Screen, hum, paint } from './media.js';
import { Peer, type Signal } from './peer.js';
import { type Protocol, type Wish, publishing, subscribing } from './wire.js';

/** What is used of a Socket.IO client, whichever its version; the page has loaded one. */
interface Socket {
  on(event: string, listener: (data: unknown, ...more: unknown[]) => void): void;
  emit(event: string, ...args: unknown[]): void;
  close(): void;
}
declare const io: (url: string, options: object) => Socket;

interface Progress {
  id: string;
  sessionId?: string;
  status: string;
  data?: unknown;
}

interface Session {
  id: string;
  peer: Peer;
  transceivers: RTCRtpTransceiver[];
  screen: Screen | undefined;
  channels: RTCDataChannel[];
}

export interface PublishWish {
  look?: Look;
  audio?: boolean;
  video?: boolean;
  /** Of the picture. */
  size?: { width: number; height: number };
  framerate?: number;
  /** Makes the picture hard to encode. */
  noise?: boolean;
  /** Sends the picture in several sizes at once (simulcast), the smallest first. */
  layers?: RTCRtpEncodingParameters[];
  /** Only this video codec is offered. */
  codec?: string;
  /** Whether sound is offered with redundancy (RED), as browsers do by themselves. */
  redundancy?: boolean;
  /** Opens a data channel of this kind, too. */
  data?: RTCDataChannelInit;
}

export interface SubscribeWish {
  audio?: Wish;
  video?: Wish;
  /** Only this video codec is offered. */
  codec?: string;
  /** Whether sound is offered with redundancy (RED), as browsers do by themselves. */
  redundancy?: boolean;
  /** Of that stream, on a channel of that kind. */
  data?: { from: string; channel: RTCDataChannelInit };
}

/** What has arrived of a subscription's video. */
export interface VideoStats {
  codec: string;
  width: number;
  height: number;
  frames: number;
  bytes: number;
  keyFrames: number;
}

/** What a browser counts of a track. */
export interface Counters {
  /** When, in ms of the page's clock. */
  at: number;
  packets: number;
  /** Headers among them. */
  bytes: number;
  /** As it sees it; of what it sends, as the other side has said. */
  lost: number;
  retransmitted: number;
  /** Requests, each for one packet or several. */
  nacks: number;
  frames: number;
  keyFrames: number;
  size: { width: number; height: number };
  /** ms. */
  jitter: number;
  /** ms, by the checks of ICE. */
  rtt: number;
  /** Of sound that was played: how many samples, and how many of them were made up. */
  samples: number;
  concealed: number;
  /** Of repair packets (FlexFEC): how many came. */
  repairs: number;
  /** Freezes of the picture, and ms of them. */
  freezes: number;
  frozen: number;
  /** MIME type of what is sent or was received last. */
  codec: string;
}

/** What a browser makes of a subscription on a bad network; sums since it began. */
export interface Quality {
  /** When, in ms of the page's clock. */
  at: number;
  width: number;
  /** Frames that were decoded. */
  frames: number;
  freezes: number;
  /** s. */
  frozen: number;
  /** Requests for key frames. */
  plis: number;
  /** Samples of sound that were played, and those of them that were made up for what did not come. */
  samples: number;
  concealed: number;
}

/** A transceiver, and what it belongs to. */
export interface Direction {
  session: string;
  mid: string | null;
  current: string | null;
}

declare global {
  interface Window {
    raw: Raw;
  }
}

export class Raw {
  #socket: Socket | undefined;
  #protocol: Protocol = '1.2';
  #shared: Peer | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  readonly #sessions = new Map<string, Session>();
  readonly #progress: Progress[] = [];
  readonly #told: { event: string; data: unknown }[] = [];
  readonly #listeners = new Set<() => void>();
  readonly #messages = new Map<string, (string | number[])[]>();
  readonly #ended: Session[] = [];

  /** Connects and logs in; the answer. */
  async join(url: string, token: string, protocol: Protocol, transports: string[], userAgent: object): Promise<unknown> {
    this.#protocol = protocol;
    const socket = io(url, { transports, reconnection: false, forceNew: true });
    this.#socket = socket;
    for (const event of ['participant', 'stream', 'progress', 'session-progress', 'text', 'drop']) {
      socket.on(event, (data) => {
        this.#told.push({ event, data });
        if (event === 'progress') this.#progress.push(data as Progress);
        for (const listener of this.#listeners) listener();
      });
    }
    await new Promise<void>((resolve, reject) => {
      socket.on('connect', () => resolve());
      socket.on('connect_error', (error) => reject(new Error(String(error))));
    });
    return this.request('login', { token, userAgent, protocol });
  }

  /** Sends a request; the data of its answer. Refused: an error with the refusal's text. */
  request(name: string, ...data: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#socket?.emit(name, ...data, (status: string, reply: unknown) =>
        status === 'ok' ? resolve(reply) : reject(new Error(String(reply))),
      );
    });
  }

  /** Everything it was told so far. */
  told(): { event: string; data: unknown }[] {
    return this.#told;
  }

  /** Publishes; the stream's id. */
  publish({ look, audio = true, video = true, size, framerate, noise = false, layers, codec, redundancy, data }: PublishWish): Promise<string> {
    return this.#alone(async () => {
      const peer = this.#peer();
      const transceivers: RTCRtpTransceiver[] = [];
      const add = (track: MediaStreamTrack, encodings: { sendEncodings?: RTCRtpEncodingParameters[] } = {}): void =>
        void transceivers.push(
          peer.connection.addTransceiver(track, { direction: 'sendonly', streams: [new MediaStream([track])], ...encodings }),
        );
      if (look && audio) add(hum(look.tone));
      const picture = { ...size, noise, ...(framerate !== undefined && { framerate }) };
      if (look && video) add(paint(look.colour, picture), layers && { sendEncodings: layers });
      prefer(transceivers, codec);
      if (redundancy === false) offerPlain(transceivers);
      for (const { sender } of transceivers) await keepSize(sender);
      const describe = (): object => {
        const kinds = transceivers.map(({ sender }) => sender.track?.kind as 'audio' | 'video');
        return { ...publishing(this.#protocol, kinds, mids(transceivers)), ...(data && { data: true }) };
      };
      return (await this.#establish('publish', peer, transceivers, describe, data)).id;
    });
  }

  /** Subscribes; the subscription's id. */
  subscribe({ audio, video, codec, redundancy, data }: SubscribeWish): Promise<string> {
    return this.#alone(async () => {
      const peer = this.#peer();
      const wishes = { ...(audio && { audio }), ...(video && { video }) };
      const kinds = Object.keys(wishes) as ('audio' | 'video')[];
      const transceivers = kinds.map((kind) => peer.connection.addTransceiver(kind, { direction: 'recvonly' }));
      prefer(transceivers, codec);
      if (redundancy === false) offerPlain(transceivers);
      const describe = (): object => ({
        ...subscribing(this.#protocol, wishes, mids(transceivers)),
        ...(data && { data: { from: data.from } }),
      });
      const session = await this.#establish('subscribe', peer, transceivers, describe, data?.channel);
      if (transceivers.length > 0) session.screen = new Screen(new MediaStream(transceivers.map(({ receiver }) => receiver.track)));
      return session.id;
    });
  }

  /** Ends a publication, as the JavaScript SDK does: nothing is negotiated until the next operation. */
  unpublish(id: string): Promise<void> {
    return this.#end(id, 'unpublish', ({ peer, transceivers }) => {
      for (const { sender } of transceivers) peer.connection.removeTrack(sender);
    });
  }

  /** Ends a subscription; its m-lines go on being offered `recvonly`. */
  unsubscribe(id: string): Promise<void> {
    return this.#end(id, 'unsubscribe', ({ screen }) => screen?.remove());
  }

  /** An offer and its answer without any change. */
  renegotiate(): Promise<void> {
    return this.#alone(async () => {
      const peer = this.#peer();
      await peer.prepare();
      await this.#negotiate(peer);
    });
  }

  restartIce(): Promise<void> {
    this.#peer().connection.restartIce();
    return this.renegotiate();
  }

  ice(): ReturnType<Peer['ice']> {
    return this.#peer().ice();
  }

  cipher(): ReturnType<Peer['cipher']> {
    return this.#peer().cipher();
  }

  /** Of all transceivers so far. */
  directions(): Direction[] {
    const all = [...this.#sessions.values(), ...this.#ended];
    return all.flatMap(({ id, transceivers }) =>
      transceivers.map(({ mid, currentDirection }) => ({ session: id, mid, current: currentDirection })),
    );
  }

  peers(): number {
    return new Set([...this.#sessions.values()].map(({ peer }) => peer)).size;
  }

  frames(id: string): number {
    return this.#screen(id).frames();
  }

  colours(id: string, points: [number, number][]): Rgb[] {
    return this.#screen(id).colours(points);
  }

  levels(id: string, tones: number[]): number[] {
    return this.#screen(id).levels(tones);
  }

  async video(id: string): Promise<VideoStats> {
    const receiver = this.#of(id).transceivers.map((one) => one.receiver).find(({ track }) => track.kind === 'video');
    if (!receiver) throw new Error('no video');
    const stats = [...((await receiver.getStats()) as unknown as Map<string, Record<string, never>>).values()];
    const inbound = stats.find(({ type }) => type === 'inbound-rtp');
    const codec = stats.find((one) => one.id === inbound?.codecId);
    if (!inbound || !codec) throw new Error('nothing has arrived yet');
    return {
      codec: String(codec.mimeType).toLowerCase().replace('video/', ''),
      width: inbound.frameWidth ?? 0,
      height: inbound.frameHeight ?? 0,
      frames: inbound.framesDecoded ?? 0,
      bytes: inbound.bytesReceived ?? 0,
      keyFrames: inbound.keyFramesDecoded ?? 0,
    };
  }

  /** What the browser counts of a session's track of a kind, and hears of the other side. */
  async counters(id: string, kind: 'audio' | 'video'): Promise<Counters> {
    const is = ({ sender, receiver }: RTCRtpTransceiver): boolean => (sender.track ?? receiver.track).kind === kind;
    const transceiver = this.#of(id).transceivers.find(is);
    if (!transceiver) throw new Error(`no ${kind}`);
    const { sender, receiver } = transceiver;
    const stats = [...((await (sender.track ? sender : receiver).getStats()) as unknown as Map<string, Record<string, never>>).values()];
    const of = (type: string): Record<string, never> => stats.find((one) => one.type === type) ?? {};
    const [rtp, remote] = sender.track ? [of('outbound-rtp'), of('remote-inbound-rtp')] : [of('inbound-rtp'), {}];
    const pair = stats.find((one) => one.type === 'candidate-pair' && one.nominated) ?? {};
    const sum = (...numbers: (number | undefined)[]): number => numbers.reduce<number>((all, one) => all + (one ?? 0), 0);
    return {
      at: performance.now(),
      packets: sum(rtp.packetsSent, rtp.packetsReceived),
      bytes: sum(rtp.bytesSent, rtp.headerBytesSent, rtp.bytesReceived, rtp.headerBytesReceived),
      lost: sum(rtp.packetsLost, remote.packetsLost),
      retransmitted: sum(rtp.retransmittedPacketsSent, rtp.retransmittedPacketsReceived),
      nacks: sum(rtp.nackCount),
      frames: sum(rtp.framesSent, rtp.framesReceived),
      keyFrames: sum(rtp.keyFramesEncoded, rtp.keyFramesDecoded),
      size: { width: sum(rtp.frameWidth), height: sum(rtp.frameHeight) },
      jitter: sum(rtp.jitter, remote.jitter) * 1000,
      rtt: sum(pair.currentRoundTripTime) * 1000,
      samples: sum(rtp.totalSamplesReceived),
      concealed: sum(rtp.concealedSamples),
      repairs: sum(rtp.fecPacketsReceived),
      freezes: sum(rtp.freezeCount),
      frozen: sum(rtp.totalFreezesDuration) * 1000,
      codec: String(stats.find((one) => one.id === rtp.codecId)?.mimeType ?? ''),
    };
  }

  async quality(id: string): Promise<Quality> {
    const all = await Promise.all(this.#of(id).transceivers.map(({ receiver }) => receiver.getStats()));
    const stats = all.flatMap((one) => [...(one as unknown as Map<string, Record<string, never>>).values()]);
    const of = (kind: string): Record<string, never> => stats.find((one) => one.type === 'inbound-rtp' && one.kind === kind) ?? {};
    const [audio, video] = [of('audio'), of('video')];
    return {
      at: performance.now(),
      width: video.frameWidth ?? 0,
      frames: video.framesDecoded ?? 0,
      freezes: video.freezeCount ?? 0,
      frozen: video.totalFreezesDuration ?? 0,
      plis: video.pliCount ?? 0,
      samples: audio.totalSamplesReceived ?? 0,
      concealed: audio.concealedSamples ?? 0,
    };
  }

  /** Sends messages on a publication's data channel. Text as it is, bytes as binary. */
  async send(id: string, messages: (string | number[])[]): Promise<void> {
    const [channel] = this.#of(id).channels;
    if (!channel) throw new Error('no channel');
    for (const message of messages) {
      if (channel.bufferedAmount > 1_000_000) await new Promise((resolve) => setTimeout(resolve, 5));
      if (typeof message === 'string') channel.send(message);
      else channel.send(new Uint8Array(message));
    }
  }

  /** Sends `count` texts that are numbered and of that length. */
  sendNumbered(id: string, count: number, length: number): Promise<void> {
    return this.send(id, Array.from({ length: count }, (_, i) => `${i}:`.padEnd(length, '.')));
  }

  /** What a subscription's data channel has brought so far. */
  messages(id: string): (string | number[])[] {
    return this.#messages.get(id) ?? [];
  }

  /** The numbers of the numbered texts that a subscription's data channel has brought so far. */
  numbers(id: string): number[] {
    return this.messages(id).map((message) => parseInt(String(message), 10));
  }

  leave(): void {
    this.#socket?.close();
    for (const { peer } of this.#sessions.values()) peer.connection.close();
  }

  /** One PeerConnection for everything, or one for each session where the version wants that. */
  #peer(): Peer {
    if (this.#protocol === '1.2' && this.#shared) return this.#shared;
    const peer = new Peer((id, signaling: Signal) => this.request('soac', { id, signaling }));
    if (this.#protocol === '1.2') this.#shared = peer;
    return peer;
  }

  async #establish(
    request: 'publish' | 'subscribe',
    peer: Peer,
    transceivers: RTCRtpTransceiver[],
    describe: () => object,
    channel: RTCDataChannelInit | undefined,
  ): Promise<Session> {
    if (transceivers.length > 0) await peer.prepare();
    const transport = this.#protocol === '1.2' && { transport: { type: 'webrtc', ...(peer.id !== undefined && { id: peer.id }) } };
    let ack: { id: string; transportId: string };
    try {
      ack = (await this.request(request, { ...describe(), ...transport })) as typeof ack;
    } catch (error) {
      // As the JavaScript SDK does: the offer is sent all the same if there is a transport, and its new m-lines belong to nothing.
      if (transceivers.length > 0) await (peer.id === undefined ? peer.rollback() : this.#negotiate(peer));
      throw error;
    }
    peer.id = ack.transportId;
    const session: Session = { id: ack.id, peer, transceivers, screen: undefined, channels: [] };
    this.#sessions.set(session.id, session);
    if (channel) {
      session.channels.push(this.#open(session, channel));
      await peer.prepare();
    }
    await this.#negotiate(peer);
    await this.#until(() => {
      const failed = this.#progress.find((one) => one.sessionId === session.id && one.status === 'error');
      if (failed) throw new Error(String(failed.data));
      const isReady = ({ id, sessionId, status }: Progress): boolean =>
        status === 'ready' && (this.#protocol === '1.2' ? sessionId === session.id : id === session.id);
      return this.#progress.find(isReady);
    });
    return session;
  }

  #open({ id, peer }: Session, kind: RTCDataChannelInit): RTCDataChannel {
    const channel = peer.connection.createDataChannel(id, kind);
    channel.binaryType = 'arraybuffer';
    const messages: (string | number[])[] = [];
    this.#messages.set(id, messages);
    channel.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) =>
      messages.push(typeof data === 'string' ? data : [...new Uint8Array(data)]);
    return channel;
  }

  #negotiate(peer: Peer): Promise<void> {
    const from = this.#progress.length;
    return peer.negotiate((id) =>
      this.#until(() => {
        const answer = this.#progress.slice(from).find((one) => one.id === id && one.status === 'soac');
        return (answer?.data as { sdp: string } | undefined)?.sdp;
      }),
    );
  }

  #end(id: string, request: string, release: (session: Session) => void): Promise<void> {
    return this.#alone(async () => {
      const session = this.#of(id);
      await this.request(request, { id });
      this.#sessions.delete(id);
      this.#ended.push(session);
      for (const channel of session.channels) channel.close();
      release(session);
      if (this.#protocol !== '1.2') session.peer.connection.close();
    });
  }

  /** Resolves with what `find` finds in what it was told, as soon as it does. */
  #until<T>(find: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (how: () => void): void => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        how();
      };
      const look = (): void => {
        try {
          const found = find();
          if (found !== undefined) settle(() => resolve(found));
        } catch (error) {
          settle(() => reject(error as Error));
        }
      };
      const complain = (): void => reject(new Error(`nothing within 10 s; last progress: ${JSON.stringify(this.#progress.slice(-3))}`));
      const timer = setTimeout(() => settle(complain), 10_000);
      this.#listeners.add(look);
      look();
    });
  }

  /** One operation after the other. */
  #alone<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(operation);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  #of(id: string): Session {
    const session = this.#sessions.get(id);
    if (!session) throw new Error(`no session ${id}`);
    return session;
  }

  #screen(id: string): Screen {
    const { screen } = this.#of(id);
    if (!screen) throw new Error('nothing to look at');
    return screen;
  }
}

function mids(transceivers: RTCRtpTransceiver[]): string[] {
  return transceivers.map(({ mid }) => mid ?? '');
}

/** Leaves only that codec, and what helps it, in the offer. */
function prefer(transceivers: RTCRtpTransceiver[], codec: string | undefined): void {
  if (codec === undefined) return;
  for (const transceiver of transceivers) {
    if ((transceiver.receiver.track.kind) !== 'video') continue;
    const codecs = RTCRtpReceiver.getCapabilities('video')?.codecs ?? [];
    const wanted = codecs.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`);
    transceiver.setCodecPreferences([...wanted, ...codecs.filter(({ mimeType }) => mimeType === 'video/rtx')]);
  }
}

/** Leaves redundant sound out of the offer. */
function offerPlain(transceivers: RTCRtpTransceiver[]): void {
  for (const transceiver of transceivers) {
    if (transceiver.receiver.track.kind !== 'audio') continue;
    const codecs = RTCRtpReceiver.getCapabilities('audio')?.codecs ?? [];
    transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType !== 'audio/red'));
  }
}

/** On a busy machine a browser's picture loses frames rather than size, which tests look at. */
async function keepSize(sender: RTCRtpSender): Promise<void> {
  if (sender.track?.kind !== 'video') return;
  await sender.setParameters({ ...sender.getParameters(), degradationPreference: 'maintain-resolution' });
}

window.raw = new Raw();
