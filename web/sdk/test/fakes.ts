import { vi } from 'vitest';
import type { SignalingSocket } from '../src/connection.js';
import { ConferenceClient, type ConferenceClientOptions } from '../src/client.js';
import type { Page, PageEvent } from '../src/page.js';

type Acknowledge = (status: string, data?: unknown) => void;

/** A request that the client sent, waiting to be acknowledged. */
export interface Request {
  name: string;
  data: any;
  ok: (data?: unknown) => void;
  refuse: (reason: string) => void;
}

/** The clock of the machine, also while the test plays with time. */
const { setTimeout: realTimeout } = globalThis;
const turn = () => new Promise((resolve) => realTimeout(resolve, 0));

/** Waits until `condition` holds, giving pending continuations their turns and, where time is played, time. */
export async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; turns < 1000; turns++) {
    if (condition()) return;
    if (vi.isFakeTimers()) await vi.advanceTimersByTimeAsync(100);
    await turn();
  }
  throw new Error(`never came true: ${condition}`);
}

/** Lets everything that is ready to run, run. */
export async function settle(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
  await turn();
}

/** The server's end of a Socket.IO connection, played by the test. */
export class FakeSocket implements SignalingSocket {
  readonly requests: Request[] = [];
  readonly #listeners = new Map<string, (...args: any[]) => void>();
  #taken = 0;
  connected = false;
  accepts = true;

  on(event: string, listener: (...args: any[]) => void): void {
    this.#listeners.set(event, listener);
  }

  emit(name: string, ...args: unknown[]): void {
    const acknowledge = args.pop() as Acknowledge;
    this.requests.push({
      name,
      data: args[0],
      ok: (data) => acknowledge('ok', data),
      refuse: (reason) => acknowledge('error', reason),
    });
  }

  connect(): void {
    queueMicrotask(() => {
      this.connected = this.accepts;
      if (this.accepts) this.notify('connect');
      else this.notify('connect_error', new Error('xhr poll error'));
    });
  }

  disconnect(): void {
    this.connected = false;
  }

  notify(event: string, ...data: unknown[]): void {
    this.#listeners.get(event)?.(...data);
  }

  /** The next request, in order, which must be a `name`. */
  async next(name: string): Promise<Request> {
    await until(() => this.requests.length > this.#taken);
    const request = this.requests[this.#taken++]!;
    if (request.name !== name) throw new Error(`expected ${name}, the client sent ${request.name}`);
    return request;
  }

  /** The requests that no `next` has taken. */
  get unread(): Request[] {
    return this.requests.slice(this.#taken);
  }

  names(): string[] {
    return this.requests.map(({ name }) => name);
  }
}

export function fakeTrack(kind: string): MediaStreamTrack {
  const track = { kind, stopped: false, stop: () => void (track.stopped = true) };
  return track as unknown as MediaStreamTrack;
}

export class FakeMediaStream {
  constructor(private readonly tracks: MediaStreamTrack[] = []) {}
  getTracks = () => [...this.tracks];
  addTrack = (track: MediaStreamTrack) => void this.tracks.push(track);
  removeTrack = (track: MediaStreamTrack) => void this.tracks.splice(this.tracks.indexOf(track), 1);
  getAudioTracks = () => this.tracks.filter(({ kind }) => kind === 'audio');
  getVideoTracks = () => this.tracks.filter(({ kind }) => kind === 'video');
}

export function fakeMedia(...kinds: string[]): MediaStream {
  return new FakeMediaStream(kinds.map(fakeTrack)) as unknown as MediaStream;
}

export class FakeTransceiver {
  mid: string | null = null;
  currentDirection: string | null = null;
  encodings: { rid?: string; active: boolean }[] = [];
  sender = {
    track: null as unknown,
    replaceTrack: async (track: unknown) => void (this.sender.track = track),
    getParameters: () => ({
      codecs: [{ payloadType: 96, mimeType: 'video/VP8' }],
      encodings: this.encodings.map((encoding) => ({ ...encoding })),
    }),
    createEncodedStreams: () => FakeTransceiver.encodedStreams,
    setParameters: async ({ encodings }: { encodings: { rid?: string; active: boolean }[] }) => void (this.encodings = encodings),
  };
  receiver;
  /** What Chromium once gave of senders and receivers. */
  static encodedStreams: { readable: ReadableStream; writable: WritableStream } | undefined;

  constructor(
    readonly kind: string,
    public direction: string,
  ) {
    this.receiver = { track: fakeTrack(kind) };
  }
}

/** One end of a data channel, opened and drained by the test. */
export class FakeChannel {
  readyState = 'connecting';
  binaryType = 'blob';
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  readonly sent: unknown[] = [];
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onbufferedamountlow: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor(
    readonly label: string,
    readonly init: RTCDataChannelInit,
  ) {}

  send(message: string | Uint8Array): void {
    this.sent.push(message);
    this.bufferedAmount += typeof message === 'string' ? message.length : message.byteLength;
  }

  open(): void {
    this.readyState = 'open';
    this.onopen?.();
  }

  drain(): void {
    this.bufferedAmount = 0;
    this.onbufferedamountlow?.();
  }

  close(): void {
    this.readyState = 'closed';
    this.onclose?.();
  }
}

/**
 * Offer/answer and its states as RFC 8829 has them, with m-lines that hold nothing but a mid and a direction, one for
 * data last of all, and ICE credentials that count restarts.
 */
export class FakePeerConnection {
  transceivers: FakeTransceiver[] = [];
  signalingState = 'stable';
  connectionState = 'new';
  iceConnectionState = 'new';
  remoteDescription: RTCSessionDescriptionInit | null = null;
  remoteCandidates: RTCIceCandidateInit[] = [];
  canRollBack = true;
  closed = false;
  onicecandidate: ((event: { candidate: unknown }) => void) | null = null;
  onconnectionstatechange: (() => void) | null = null;
  oniceconnectionstatechange: (() => void) | null = null;
  readonly channels: FakeChannel[] = [];
  restarts = 0;
  rollbacks = 0;
  #mids = 0;
  #offered: FakeTransceiver[] = [];

  constructor(readonly configuration: RTCConfiguration) {}

  addTransceiver(trackOrKind: MediaStreamTrack | string, init: RTCRtpTransceiverInit): RTCRtpTransceiver {
    const kind = typeof trackOrKind === 'string' ? trackOrKind : trackOrKind.kind;
    const transceiver = new FakeTransceiver(kind, init.direction ?? 'sendrecv');
    if (typeof trackOrKind !== 'string') transceiver.sender.track = trackOrKind;
    this.transceivers.push(transceiver);
    return transceiver as unknown as RTCRtpTransceiver;
  }

  async createOffer(): Promise<RTCSessionDescriptionInit> {
    let next = this.#mids;
    const lines = this.transceivers.map(({ kind, direction, mid }) => `m=${kind}\r\na=mid:${mid ?? next++}\r\na=${direction}\r\n`);
    const data = this.channels.length > 0 ? `m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n` : '';
    return { type: 'offer', sdp: `v=0\r\na=ice-ufrag:${this.restarts}\r\n${lines.join('')}${data}` };
  }

  createDataChannel(label: string, init: RTCDataChannelInit): RTCDataChannel {
    const channel = new FakeChannel(label, init);
    this.channels.push(channel);
    return channel as unknown as RTCDataChannel;
  }

  restartIce(): void {
    this.restarts++;
  }

  async setLocalDescription({ type }: RTCSessionDescriptionInit): Promise<void> {
    if (type === 'rollback') {
      this.rollbacks++;
      if (!this.canRollBack || this.signalingState !== 'have-local-offer') throw new Error('InvalidStateError');
      for (const transceiver of this.#offered) transceiver.mid = null;
      this.#offered = [];
      this.signalingState = 'stable';
      return;
    }
    for (const transceiver of this.transceivers.filter(({ mid }) => mid === null)) {
      transceiver.mid = String(this.#mids++);
      this.#offered.push(transceiver);
    }
    this.signalingState = 'have-local-offer';
  }

  async setRemoteDescription(answer: RTCSessionDescriptionInit): Promise<void> {
    if (this.signalingState !== 'have-local-offer') throw new Error('InvalidStateError');
    const directions = [...(answer.sdp ?? '').matchAll(/^a=(sendonly|recvonly|inactive)/gm)].map((match) => match[1]);
    const mirrored: Record<string, string> = { sendonly: 'recvonly', recvonly: 'sendonly', inactive: 'inactive' };
    this.transceivers.forEach((transceiver, line) => {
      transceiver.currentDirection = mirrored[directions[line] ?? 'inactive'] ?? 'inactive';
    });
    this.remoteDescription = answer;
    this.signalingState = 'stable';
    this.#offered = [];
  }

  async addIceCandidate(candidate: RTCIceCandidateInit): Promise<void> {
    this.remoteCandidates.push(candidate);
  }

  gather(candidate: string | null): void {
    this.onicecandidate?.({ candidate: candidate === null ? null : { candidate, sdpMid: '0', sdpMLineIndex: 0 } });
  }

  /** ICE and DTLS get into a state. */
  become(state: 'connected' | 'disconnected' | 'failed'): void {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  break(): void {
    this.become('failed');
  }

  close(): void {
    this.closed = true;
    this.signalingState = 'closed';
  }
}

/** The answer that takes everything an offer has, but for the mids in `refused`. */
export function answerTo(offer: string, refused: string[] = []): { type: 'answer'; sdp: string } {
  const mirrored: Record<string, string> = { sendonly: 'recvonly', recvonly: 'sendonly', inactive: 'inactive' };
  const sdp = offer.replace(/a=mid:(\S+)\r\na=(\w+)/g, (_, mid: string, direction: string) => {
    return `a=mid:${mid}\r\na=${refused.includes(mid) ? 'inactive' : mirrored[direction]}`;
  });
  return { type: 'answer', sdp };
}

export const TOKEN = btoa(JSON.stringify({ tokenId: 't', host: 'conference.example:8080', secure: true, signature: 's' }));

export function streamInfo(id: string, owner = 'other', kinds = ['audio', 'video']): object {
  const tracks = kinds.map((type) => ({
    type,
    source: type === 'audio' ? 'mic' : 'camera',
    status: 'active',
    format: { codec: type === 'audio' ? 'opus' : 'vp8' },
    optional: { parameters: { resolution: [], framerate: [], bitrate: ['x0.5'], keyFrameInterval: [] } },
  }));
  return { id, type: 'forward', media: { tracks }, info: { owner, type: 'webrtc', inViews: [], attributes: { name: id } } };
}

export const MIX = {
  id: 'room-common',
  type: 'mixed',
  media: { tracks: [{ type: 'audio', source: 'mixed' }, { type: 'video', source: 'mixed' }] },
  info: { label: 'common', layout: [] },
};

export const LOGIN = {
  id: 'me',
  user: 'Aki',
  role: 'presenter',
  permission: { publish: { audio: true, video: true }, subscribe: { audio: true, video: true } },
  room: {
    id: 'room',
    views: ['common'],
    participants: [
      { id: 'me', user: 'Aki', role: 'presenter' },
      { id: 'other', user: 'Ben', role: 'presenter' },
    ],
    streams: [MIX, streamInfo('theirs')],
  },
};

/** A reconnection ticket that is good for so many seconds. */
export function ticket(id: string, seconds = 600): string {
  return btoa(JSON.stringify({ participantId: 'me', ticketId: id, notBefore: 1_000, notAfter: 1_000 + seconds * 1_000 }));
}

/** A page that goes on and off line, and behind others, when the test says so. */
export class FakePage implements Page {
  onLine = true;
  visible = true;
  readonly #listeners = new Map<PageEvent, Set<() => void>>();

  on(name: PageEvent, listener: () => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  tell(name: PageEvent): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener();
  }

  /** How many listeners nobody has taken away. */
  get watched(): number {
    return [...this.#listeners.values()].reduce((sum, { size }) => sum + size, 0);
  }
}

/** A client and the two things it talks to. */
export class Bench {
  readonly sockets: { url: string; socket: FakeSocket }[] = [];
  /** Whether sockets that are made from now on reach their server. */
  reachable: (url: string) => boolean = () => true;
  readonly page = new FakePage();
  readonly connections: FakePeerConnection[] = [];
  readonly client: ConferenceClient;

  constructor(timeouts = { answer: 10_000, ready: 10_000 }, options: ConferenceClientOptions = {}) {
    this.client = new ConferenceClient({
      page: this.page,
      ...options,
      createSocket: (url) => {
        const socket = new FakeSocket();
        socket.accepts = this.reachable(url);
        this.sockets.push({ url, socket });
        return socket;
      },
      createPeerConnection: (configuration) => {
        const connection = new FakePeerConnection(configuration);
        this.connections.push(connection);
        return connection as unknown as RTCPeerConnection;
      },
      timeouts,
    });
  }

  static async joined(timeouts?: { answer: number; ready: number }, options?: ConferenceClientOptions): Promise<Bench> {
    const bench = new Bench(timeouts, options);
    const joining = bench.client.join(TOKEN);
    (await bench.socket.next('login')).ok(LOGIN);
    await joining;
    return bench;
  }

  /** A client in a conference that can come back to its place, with two tickets: `t1` from the login, and `t2`. */
  static async resumable(options?: ConferenceClientOptions): Promise<Bench> {
    const bench = new Bench(undefined, options);
    const joining = bench.client.join(TOKEN);
    (await bench.socket.next('login')).ok({ ...LOGIN, reconnectionTicket: ticket('t1') });
    await joining;
    (await bench.socket.next('refreshReconnectionTicket')).ok(ticket('t2'));
    await settle();
    return bench;
  }

  /** Waits for the next socket, which is the `count`th. */
  async reconnects(count: number): Promise<FakeSocket> {
    await until(() => this.sockets.length >= count);
    return this.sockets[count - 1]!.socket;
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!.socket;
  }

  /** The data channel of a session. */
  channel(id: string): FakeChannel {
    return this.connection.channels.find(({ label }) => label === id)!;
  }

  get connection(): FakePeerConnection {
    return this.connections.at(-1)!;
  }

  /** Accepts the next `publish` or `subscribe` and carries its negotiation to `ready`. */
  async serve(name: 'publish' | 'subscribe', id: string, transportId: string): Promise<Request> {
    const request = await this.socket.next(name);
    request.ok({ id, transportId });
    const soac = await this.socket.next('soac');
    soac.ok();
    this.progress(transportId, { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    this.progress(transportId, { sessionId: id, status: 'ready' });
    return request;
  }

  progress(id: string, message: object): void {
    this.socket.notify('progress', { id, ...message });
  }
}
