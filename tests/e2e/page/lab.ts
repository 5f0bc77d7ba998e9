// Runs in the browser: publishes what is easy to recognise, and measures what arrives.
import type { Look, Rgb } from '../harness/colours';
import type * as Sdk from '../../../web/sdk/src/kaigi';
import { Screen, hum, paint, voice } from './media.js';

const { ConferenceClient, LocalStream } = (await import(new URL('/sdk/kaigi.js', location.href).href)) as typeof Sdk;

export interface SubscribeWish {
  audio: boolean;
  video: boolean;
}

/** One encoding of a published picture. */
export interface Sent {
  rid?: string;
  active?: boolean;
  bytesSent?: number;
  frameWidth?: number;
  scalabilityMode?: string;
  codec?: string;
}

/** What the browser counts of a picture that it receives. */
export interface Arrived {
  frameWidth?: number;
  framesDecoded?: number;
  framesDropped?: number;
  framesPerSecond?: number;
  freezeCount?: number;
  pliCount?: number;
  keyFramesDecoded?: number;
  bytesReceived?: number;
  packetsLost?: number;
}

interface Received {
  subscription: Sdk.Subscription;
  screen: Screen;
}

/** Who is heard in a selecting stream from when on, in ms since 1970. */
export interface Speaking {
  stream: string;
  activeInput: string;
  volume: string | undefined;
  at: number;
}

/** What a newcomer waits for, in ms since it began to join. */
export interface FirstFrame {
  joined: number;
  subscribed: number;
  /** The first picture is decoded and on its way to the screen. */
  shown: number;
}

interface Region {
  area: Record<'left' | 'top' | 'width' | 'height', string>;
}

/** "1/2" → 0.5 */
function fraction(text: string): number {
  const [numerator = 0, denominator = 1] = text.split('/').map(Number);
  return numerator / denominator;
}

export class Lab {
  /** Most tests look at what the server does; only some want a client that gets over failures. */
  readonly #client = new ConferenceClient(new URLSearchParams(location.search).has('recovers') ? {} : { recovery: false });
  readonly #received = new Map<string, Received>();
  readonly #messages: string[] = [];
  readonly #speaking: Speaking[] = [];
  #publication: Sdk.Publication | undefined;
  #volume: GainNode | undefined;

  constructor() {
    this.#client.on('activeaudioinputchange', ({ stream, activeInput, volume }) => {
      if (stream.isSelecting) this.#speaking.push({ stream: stream.id, activeInput, volume, at: Date.now() });
    });
    this.#client.on('messagereceived', ({ message }) => this.#messages.push(message));
    this.#client.on('reconnecting', ({ attempt, error }) => console.info(`reconnecting, attempt ${attempt}: ${error.message}`));
    this.#client.on('reconnected', ({ sameParticipant }) => console.info(`reconnected, ${sameParticipant ? 'the same' : 'another'} participant`));
    this.#client.on('disconnected', ({ reason, error }) => console.info(`disconnected, ${reason}: ${error.message}`));
  }

  async join(token: string): Promise<string> {
    return (await this.#client.join(token)).self.id;
  }

  async publish(look: Look): Promise<string> {
    const stream = new MediaStream([hum(look.tone), paint(look.colour)]);
    this.#publication = await this.#client.publish(new LocalStream(stream));
    return this.#publication.id;
  }

  /** Publishes a tone of that amplitude alone. */
  async speak(tone: number, amplitude: number): Promise<string> {
    const { track, volume } = voice(tone, amplitude);
    this.#volume = volume;
    this.#publication = await this.#client.publish(new LocalStream(new MediaStream([track])));
    return this.#publication.id;
  }

  /** Changes its amplitude; tells when, in ms since 1970. */
  setAmplitude(amplitude: number): number {
    if (this.#volume) this.#volume.gain.value = amplitude;
    return Date.now();
  }

  /** Who was heard in selecting streams so far. */
  speaking(): Speaking[] {
    return this.#speaking;
  }

  /** Who is heard now in each selecting stream, by the streams' ids, and who of them leads. */
  speakers(): { id: string; activeInput: string | undefined; volume: string | undefined }[] {
    const selecting = this.#streams().filter((stream) => stream.isSelecting);
    return selecting.map(({ id, activeInput, volume }) => ({ id, activeInput, volume }));
  }

  /** Waits until a tone is heard in one of the subscriptions; when that was, in ms since 1970. */
  async hearsFrom(subscriptions: readonly string[], tone: number, patience: number): Promise<number> {
    const deadline = Date.now() + patience;
    while (Date.now() < deadline) {
      if (subscriptions.some((id) => (this.levels(id, [tone])[0] ?? -Infinity) > -45)) return Date.now();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`${tone} Hz is not heard`);
  }

  /** Publishes a picture that costs an encoder something, as the options say. */
  async publishPicture(look: Look, size: { width: number; height: number }, options: Sdk.PublishTrackOptions): Promise<string> {
    const stream = new MediaStream([paint(look.colour, { ...size, framerate: 15, noise: true })]);
    this.#publication = await this.#client.publish(new LocalStream(stream), { video: options });
    return this.#publication.id;
  }

  /** What is sent of the published picture. */
  async sent(): Promise<Sent[]> {
    const stats = [...((await this.#publication?.getStats())?.values() ?? [])] as (RTCOutboundRtpStreamStats & Sent)[];
    return stats
      .filter(({ type, kind }) => (type as string) === 'outbound-rtp' && kind === 'video')
      .map(({ rid, active, bytesSent, frameWidth, scalabilityMode, codecId }) => {
        const codec = stats.find(({ id }) => id === codecId) as { mimeType?: string } | undefined;
        return { rid, active, bytesSent, frameWidth, scalabilityMode, codec: codec?.mimeType };
      });
  }

  /** How a subscribed picture arrives. */
  async received(id: string): Promise<Arrived | undefined> {
    const stats = [...(await this.#of(id).subscription.getStats()).values()] as (RTCInboundRtpStreamStats & Arrived)[];
    const video = stats.find(({ type, kind }) => (type as string) === 'inbound-rtp' && kind === 'video');
    if (!video) return undefined;
    const { frameWidth, framesDecoded, framesDropped, framesPerSecond, freezeCount, pliCount, keyFramesDecoded, bytesReceived, packetsLost } = video;
    return { frameWidth, framesDecoded, framesDropped, framesPerSecond, freezeCount, pliCount, keyFramesDecoded, bytesReceived, packetsLost };
  }

  /** Subscribes a picture in a size, at a rate. */
  async subscribePicture(id: string, video: Sdk.VideoSubscribeOptions): Promise<string> {
    const subscription = await this.#client.subscribe(this.#stream(id), { audio: false, video });
    this.#received.set(subscription.id, { subscription, screen: new Screen(subscription.stream) });
    return subscription.id;
  }

  async update(id: string, video: Sdk.VideoSubscribeOptions): Promise<void> {
    await this.#of(id).subscription.update({ video });
  }

  async pause(id: string, paused: boolean): Promise<void> {
    const { subscription } = this.#of(id);
    await (paused ? subscription.mute('video') : subscription.unmute('video'));
  }

  /** All messages so far, in the order in which they came. */
  messages(): string[] {
    return this.#messages;
  }

  /** Says something to all in the room. */
  async say(message: string): Promise<void> {
    await this.#client.send(message);
  }

  /** Whether the server still holds this page for a participant. */
  hasJoined(): boolean {
    return this.#client.info !== undefined;
  }

  isPublishing(): boolean {
    return this.#publication !== undefined && !this.#publication.ended;
  }

  async unpublish(): Promise<void> {
    await this.#publication?.stop();
  }

  forwardStreams(): string[] {
    return this.#streams()
      .filter((stream) => stream.type === 'forward' && !stream.isSelecting && stream.id !== this.#publication?.id)
      .map((stream) => stream.id);
  }

  mixedStream(): string {
    const mixed = this.#streams().find((stream) => stream.type === 'mixed');
    if (!mixed) throw new Error('the room has no mixed stream');
    return mixed.id;
  }

  async subscribe(id: string, wish: SubscribeWish): Promise<string> {
    const subscription = await this.#client.subscribe(this.#stream(id), wish);
    this.#received.set(subscription.id, { subscription, screen: new Screen(subscription.stream) });
    return subscription.id;
  }

  async unsubscribe(id: string): Promise<void> {
    const { subscription, screen } = this.#of(id);
    await subscription.stop();
    screen.remove();
    this.#received.delete(id);
  }

  frames(id: string): number {
    return this.#of(id).screen.frames();
  }

  colours(id: string, points: readonly (readonly [number, number])[]): Rgb[] {
    return this.#of(id).screen.colours(points);
  }

  picture(id: string): { width: number; height: number; rgba: string } {
    return this.#of(id).screen.picture();
  }

  levels(id: string, tones: readonly number[]): number[] {
    return this.#of(id).screen.levels(tones);
  }

  layout(id: string): { stream: string; left: number; top: number; width: number; height: number }[] {
    return this.#stream(id).layout.flatMap(({ stream, region }) => {
      if (stream === undefined) return [];
      const { left, top, width, height } = (region as Region).area;
      return [{ stream, left: fraction(left), top: fraction(top), width: fraction(width), height: fraction(height) }];
    });
  }

  /** Joins, subscribes to the first forward stream with a picture, and waits for that. */
  async joinAndSee(token: string): Promise<FirstFrame> {
    const began = performance.now();
    await this.join(token);
    const joined = performance.now();
    const [stream] = this.forwardStreams();
    if (stream === undefined) throw new Error('nobody publishes');
    const id = await this.subscribe(stream, { audio: true, video: true });
    const subscribed = performance.now();
    await this.#of(id).screen.shown();
    const shown = performance.now();
    return { joined: joined - began, subscribed: subscribed - began, shown: shown - began };
  }

  async leave(): Promise<void> {
    await this.#client.leave();
  }

  #streams(): Sdk.RemoteStream[] {
    return [...(this.#client.info?.streams.values() ?? [])];
  }

  #stream(id: string): Sdk.RemoteStream {
    const stream = this.#streams().find((candidate) => candidate.id === id);
    if (!stream) throw new Error(`no stream ${id}`);
    return stream;
  }

  #of(id: string): Received {
    const received = this.#received.get(id);
    if (!received) throw new Error(`no subscription ${id}`);
    return received;
  }
}

window.lab = new Lab();
