import { type ChildProcess, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { type Look, type Rgb, isNear } from './colours';
import { request } from './http';
import type { Kaigi } from './kaigi';
import { freePort } from './live-server';
import { until } from './until';

export interface Reply {
  status: number;
  /** Empty where there is no body. */
  json: Record<string, unknown>;
}

export interface Port {
  id: string;
  port: number;
}

export interface Event {
  event: string;
  [more: string]: unknown;
}

/** The REST API of an RTP gateway. */
export class Gateway {
  constructor(readonly url: string) {}

  async call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Reply> {
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } };
    const { status, text } = await request(this.url + path, { method, headers, ...sent, timeout: 40_000 });
    return { status, json: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) };
  }

  /** A call that has to succeed; what it answers. */
  async done(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
    const { status, json } = await this.call(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(json)}`);
    return json;
  }

  /** A new peer in a peer-to-peer room, of which the first event is taken. */
  async peer(key: string, domain: string, id: string): Promise<GatewayPeer> {
    const { params } = (await this.done('POST', '/peers', { key, domain, peer_id: id })) as { params: { token: string } };
    const peer = new GatewayPeer(this, id, params.token);
    await peer.event('OPEN');
    return peer;
  }

  async mediaPort(isVideo: boolean): Promise<Port> {
    const { media_id: id, port } = (await this.done('POST', '/media', { is_video: isVideo })) as { media_id: string; port: number };
    return { id, port };
  }

  async rtcpPort(): Promise<Port> {
    const { rtcp_id: id, port } = (await this.done('POST', '/media/rtcp', {})) as { rtcp_id: string; port: number };
    return { id, port };
  }

  async dataPort(): Promise<Port> {
    const { data_id: id, port } = (await this.done('POST', '/data', {})) as { data_id: string; port: number };
    return { id, port };
  }

  /** The next event there of that kind; others are passed over. */
  event(path: string, kind: string): Promise<Event> {
    return until(`${path} tells ${kind}`, async () => {
      const { status, json } = await this.call('GET', path);
      if (status === 200 && json.event === 'ERROR' && kind !== 'ERROR') throw new Error(JSON.stringify(json));
      return status === 200 && json.event === kind && (json as Event);
    });
  }

  status(connection: string): Promise<Record<string, unknown>> {
    return this.done('GET', `/${connection.startsWith('mc-') ? 'media' : 'data'}/connections/${connection}/status`);
  }

  isOpen(connection: string): Promise<boolean> {
    return until(`${connection} is open`, async () => {
      const status = await this.status(connection);
      if (status.open !== true) throw new Error(JSON.stringify(status));
      return true;
    });
  }

  hangUp(connection: string): Promise<Record<string, unknown>> {
    return this.done('DELETE', `/${connection.startsWith('mc-') ? 'media' : 'data'}/connections/${connection}`);
  }
}

export class GatewayPeer {
  constructor(
    readonly gateway: Gateway,
    readonly id: string,
    readonly token: string,
  ) {}

  path(of: string): string {
    return `/peers/${this.id}${of}?token=${this.token}`;
  }

  event(kind: string): Promise<Event> {
    return this.gateway.event(this.path('/events'), kind);
  }

  async call(target: string, constraints: object, redirects: object = {}): Promise<string> {
    const body = { peer_id: this.id, token: this.token, target_id: target, constraints, redirect_params: redirects };
    const { params } = (await this.gateway.done('POST', '/media/connections', body)) as { params: { media_connection_id: string } };
    return params.media_connection_id;
  }

  remove(): Promise<Record<string, unknown>> {
    return this.gateway.done('DELETE', this.path(''));
  }
}

/** A further gateway process, started as the launcher of `kaigi` has started its own. */
export class FurtherGateway extends Gateway {
  private constructor(
    url: string,
    private readonly process: ChildProcess,
  ) {
    super(url);
  }

  static async start(kaigi: Kaigi): Promise<FurtherGateway> {
    const { pid } = kaigi.children().find(({ name }) => name === 'kaigi-rtp-gateway')!;
    const read = (what: string): string[] => readFileSync(`/proc/${pid}/${what}`, 'utf8').split('\0').slice(0, -1);
    const [program, ...args] = read('cmdline');
    const port = await freePort();
    const own: Record<string, string> = { '--listen': '127.0.0.1:0', '--health-listen': '127.0.0.1:0', '--api-listen': `127.0.0.1:${port}` };
    const changed = args.map((arg, i) => own[args[i - 1] ?? ''] ?? arg);
    const env = Object.fromEntries(read('environ').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
    // It ends with its standard input, as the launcher's.
    const child = spawn(program!, changed, { env, stdio: ['pipe', 'ignore', 'ignore'] });
    const gateway = new FurtherGateway(`http://127.0.0.1:${port}`, child);
    await until('another gateway answers', async () => (await gateway.call('GET', '/openapi.json')).status === 200);
    return gateway;
  }

  /** Asks it to end, when it has nothing left. */
  drain(): void {
    this.process.kill('SIGTERM');
  }

  /** How it has ended. */
  get exitCode(): number | null {
    return this.process.exitCode;
  }

  async stop(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await ended;
  }
}

/** An address on this machine. */
export const local = (port: number): object => ({ ip_v4: '127.0.0.1', port });

/** A program that is no part of the project, and speaks RTP. */
class GStreamer {
  protected readonly process: ChildProcess;
  #said = '';

  constructor(pipeline: string) {
    this.process = spawn('gst-launch-1.0', ['-q', ...pipeline.split(/\s+/).filter(Boolean)], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.process.stderr?.on('data', (chunk: Buffer) => (this.#said += chunk.toString('utf8')));
  }

  get said(): string {
    return this.#said;
  }

  async stop(): Promise<void> {
    if (this.process.exitCode !== null) return;
    const ended = once(this.process, 'close');
    this.process.kill('SIGKILL');
    await ended;
  }
}

/** How GStreamer packs and unpacks a codec, and under which payload type. */
interface Packing {
  payload: number;
  clock: number;
  encode: string;
  decode: string;
}

const telephone = 'audioconvert ! audioresample ! audio/x-raw,rate=8000,channels=1';

export const VIDEO = {
  VP8: { payload: 96, clock: 90_000, encode: 'vp8enc deadline=1 cpu-used=8 keyframe-max-dist=15 target-bitrate=300000 ! rtpvp8pay', decode: 'rtpvp8depay ! vp8dec' },
  VP9: { payload: 98, clock: 90_000, encode: 'vp9enc deadline=1 cpu-used=8 keyframe-max-dist=15 target-bitrate=300000 ! rtpvp9pay', decode: 'rtpvp9depay ! vp9dec' },
  H264: {
    payload: 102,
    clock: 90_000,
    encode: 'x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=300 ! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1',
    decode: 'rtph264depay ! avdec_h264',
  },
} satisfies Record<string, Packing>;

export const AUDIO = {
  OPUS: { payload: 111, clock: 48_000, encode: 'opusenc ! rtpopuspay', decode: 'rtpopusdepay ! opusdec' },
  PCMU: { payload: 0, clock: 8000, encode: `${telephone} ! mulawenc ! rtppcmupay`, decode: 'rtppcmudepay ! mulawdec' },
  PCMA: { payload: 8, clock: 8000, encode: `${telephone} ! alawenc ! rtppcmapay`, decode: 'rtppcmadepay ! alawdec' },
} satisfies Record<string, Packing>;

export type VideoCodec = keyof typeof VIDEO;
export type AudioCodec = keyof typeof AUDIO;

/** What a call says of a codec and the port on which it comes; where it is only received, any id does. */
export const params = (codec: VideoCodec | AudioCodec, id: string): object => {
  const { payload, clock } = { ...VIDEO, ...AUDIO }[codec];
  return { band_width: clock === 90_000 ? 1500 : 64, codec, media_id: id, payload_type: payload, sampling_rate: clock };
};

/** Sends a picture and a tone. */
export class RtpSender extends GStreamer {
  constructor({ colour, tone }: Look, video: number, audio: number, codecs: [VideoCodec, AudioCodec] = ['VP8', 'OPUS']) {
    const shown = `0xff${colour.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
    const [picture, sound] = [VIDEO[codecs[0]], AUDIO[codecs[1]]];
    super(`
      videotestsrc is-live=true pattern=solid-color foreground-color=${shown} ! video/x-raw,format=I420,width=320,height=240,framerate=15/1
        ! ${picture.encode} pt=${picture.payload} ! udpsink host=127.0.0.1 port=${video} sync=false
      audiotestsrc is-live=true freq=${tone} volume=0.3 ! audio/x-raw,rate=48000,channels=1 ! ${sound.encode} pt=${sound.payload}
        ! udpsink host=127.0.0.1 port=${audio} sync=false`);
  }
}

/** The side of the square to which received pictures are scaled, in pixels. */
const SIDE = 16;

/** Receives a picture, and knows the colour in the middle of the last picture. */
export class PictureReceiver extends GStreamer {
  #last: Rgb | undefined;
  #rest = Buffer.alloc(0);

  constructor(port: number, codec: VideoCodec = 'VP8') {
    super(`
      udpsrc address=127.0.0.1 port=${port} caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=${codec},payload=${VIDEO[codec].payload}
        ! rtpjitterbuffer latency=100 ! ${VIDEO[codec].decode} ! videoconvert ! videoscale ! video/x-raw,format=RGB,width=${SIDE},height=${SIDE}
        ! fdsink fd=1 sync=false`);
    this.process.stdout?.on('data', (chunk: Buffer) => {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      const size = SIDE * SIDE * 3;
      const whole = Math.floor(this.#rest.length / size);
      if (whole === 0) return;
      const at = (whole - 1) * size + (SIDE / 2) * SIDE * 3 + (SIDE / 2) * 3;
      this.#last = [this.#rest[at] ?? 0, this.#rest[at + 1] ?? 0, this.#rest[at + 2] ?? 0];
      this.#rest = this.#rest.subarray(whole * size);
    });
  }

  sees({ colour }: Look): Promise<boolean> {
    return until(`GStreamer decodes ${colour.join(' ')}`, () => {
      if (!this.#last || !isNear(this.#last, colour)) throw new Error(`sees ${this.#last?.join(' ') ?? 'nothing'}; ${this.said}`);
      return true;
    });
  }
}

const RATE = 48_000;

/** Receives sound, and knows how loud tones are in what came last. */
export class SoundReceiver extends GStreamer {
  #last = Buffer.alloc(0);

  constructor(port: number, codec: AudioCodec = 'OPUS') {
    const { payload, clock, decode } = AUDIO[codec];
    super(`
      udpsrc address=127.0.0.1 port=${port} caps=application/x-rtp,media=audio,clock-rate=${clock},encoding-name=${codec},payload=${payload}
        ! rtpjitterbuffer latency=100 ! ${decode} ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=${RATE},channels=1,layout=interleaved
        ! fdsink fd=1 sync=false`);
    this.process.stdout?.on('data', (chunk: Buffer) => {
      // Half a second.
      this.#last = Buffer.concat([this.#last, chunk]).subarray(-RATE);
    });
  }

  /** In dB of full scale (Goertzel's algorithm). */
  levels(tones: number[]): number[] {
    const count = Math.floor(this.#last.length / 2);
    return tones.map((tone) => {
      const factor = 2 * Math.cos((2 * Math.PI * tone) / RATE);
      let [one, two] = [0, 0];
      for (let i = 0; i < count; i += 1) [one, two] = [this.#last.readInt16LE(2 * i) / 32768 + factor * one - two, one];
      const power = one * one + two * two - factor * one * two;
      return count === 0 ? -Infinity : 20 * Math.log10((2 * Math.sqrt(Math.max(power, 0))) / count);
    });
  }
}

/** A device with a UDP socket. */
export class Device {
  readonly received: Buffer[] = [];

  private constructor(private readonly socket: dgram.Socket) {
    socket.on('message', (message) => this.received.push(message));
  }

  static async open(): Promise<Device> {
    const socket = dgram.createSocket('udp4');
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    return new Device(socket);
  }

  get port(): number {
    return (this.socket.address() as AddressInfo).port;
  }

  send(message: Buffer | string, port: number): void {
    this.socket.send(message, port, '127.0.0.1');
  }

  /** Sends all that comes to a port. */
  answers(port: number): void {
    this.socket.on('message', (message) => this.send(message, port));
  }

  close(): void {
    this.socket.close();
  }
}
