import { type ChildProcess, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { Audio, PeerConnection, type Track, Video } from 'node-datachannel';
import type { Look } from './colours';
import { type Answer, request } from './http';
import { until } from './until';

const VIDEO = { type: 96, ssrc: 0x0b5_0001 };
const AUDIO = { type: 111, ssrc: 0x0b5_0002 };

/** Hands a track the RTP packets that come to a port of its own; the port. */
async function forward(socket: dgram.Socket, track: Track): Promise<number> {
  socket.on('message', (packet) => track.isOpen() && track.sendMessageBinary(packet));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket.address().port;
}

/**
 * A WHIP client by libdatachannel, as OBS has one, and with what OBS asks for: one H.264 and one Opus stream with their sources told. It does not
 * trickle. GStreamer encodes.
 */
export class LibDataChannelClient {
  readonly #peer = new PeerConnection('whip', { iceServers: [], disableAutoNegotiation: true });
  readonly #sockets = [dgram.createSocket('udp4'), dgram.createSocket('udp4')] as const;
  #encoder: ChildProcess | undefined;
  #session = '';

  private constructor(
    private readonly endpoint: string,
    private readonly token: string,
  ) {}

  /** Starts one, and waits until its session has begun and it is connected. */
  static async start(endpoint: string, token: string, look: Look): Promise<LibDataChannelClient> {
    const client = new LibDataChannelClient(endpoint, token);
    try {
      await client.#begin(look);
    } catch (error) {
      client.free();
      throw error;
    }
    return client;
  }

  async #begin({ colour, tone }: Look): Promise<void> {
    const audio = new Audio('0', 'SendOnly');
    audio.addOpusCodec(AUDIO.type);
    audio.addSSRC(AUDIO.ssrc, 'sender', 'stream', 'sender-audio');
    const video = new Video('1', 'SendOnly');
    video.addH264Codec(VIDEO.type);
    video.addSSRC(VIDEO.ssrc, 'sender', 'stream', 'sender-video');
    const tracks = [this.#peer.addTrack(audio), this.#peer.addTrack(video)] as const;
    const [audioPort, videoPort] = await Promise.all([forward(this.#sockets[0], tracks[0]), forward(this.#sockets[1], tracks[1])]);

    this.#peer.setLocalDescription('offer');
    const offer = this.#peer.localDescription()?.sdp ?? '';
    const answer = await this.#request('POST', this.endpoint, offer);
    if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
    this.#session = new URL(answer.headers.location ?? '', this.endpoint).href;
    this.#peer.setRemoteDescription(answer.text, 'answer');
    await until('libdatachannel is connected', () => this.#peer.state() === 'connected');

    const shown = `0xff${colour.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
    const pipeline = `
      videotestsrc is-live=true pattern=solid-color foreground-color=${shown} ! video/x-raw,format=I420,width=320,height=240,framerate=15/1
        ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bframes=0 bitrate=300 ! video/x-h264,profile=constrained-baseline
        ! rtph264pay pt=${VIDEO.type} ssrc=${VIDEO.ssrc} config-interval=-1 aggregate-mode=zero-latency ! udpsink host=127.0.0.1 port=${videoPort} sync=false
      audiotestsrc is-live=true freq=${tone} volume=0.5 ! audio/x-raw,rate=48000,channels=2 ! opusenc
        ! rtpopuspay pt=${AUDIO.type} ssrc=${AUDIO.ssrc} ! udpsink host=127.0.0.1 port=${audioPort} sync=false`;
    this.#encoder = spawn('gst-launch-1.0', ['-q', ...pipeline.split(/\s+/).filter(Boolean)], { stdio: ['ignore', 'ignore', 'inherit'] });
  }

  /** Ends its session; the answer's status. */
  async end(): Promise<number> {
    return (await this.#request('DELETE', this.#session)).status;
  }

  #request(method: string, url: string, body?: string): Promise<Answer> {
    const headers = { authorization: `Bearer ${this.token}`, ...(body !== undefined && { 'content-type': 'application/sdp' }) };
    return request(url, { method, headers, body });
  }

  /** Leaves nothing behind, without a word to the server. */
  free(): void {
    this.#encoder?.kill('SIGKILL');
    for (const socket of this.#sockets) socket.close();
    this.#peer.close();
  }
}
