import { io as io3 } from 'socket.io-client';
import io2 from 'socket.io-client-2';
import { io as io4 } from 'socket.io-client-4';
import type { Protocol } from '../page/wire';
import { matches } from './matches';
import { PATIENCE, until } from './until';

/** What is used of a Socket.IO client, whichever its version. */
export interface Emitter {
  readonly io: { engine: { readyState: string; transport: { name: string } } };
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  emit(event: string, ...args: unknown[]): unknown;
  close(): unknown;
}

export interface Ack {
  status: unknown;
  data: unknown;
}

/** What a login is answered with, as far as it is looked at. */
export interface LoginReply {
  id: string;
  user: unknown;
  role: string;
  permission: { publish: Record<'audio' | 'video', boolean>; subscribe: Record<'audio' | 'video', boolean> };
  room: {
    id: string;
    views: string[];
    participants: { id: string; user: unknown; role: string }[];
    streams: StreamInfo[];
  };
  reconnectionTicket: string;
}

/** A stream as any version is told of it; `media` differs among them. */
export interface StreamInfo {
  id: string;
  type: string;
  media: { tracks: unknown[] };
  data: unknown;
  info: Record<string, unknown>;
}

/** What `publish` and `subscribe` are answered with. */
export interface Session {
  id: string;
  transportId: string;
}

/** What is inside a token. */
export interface Token {
  tokenId: string;
  host: string;
  secure: boolean;
  signature: string;
}

export function decodeToken(token: string): Token {
  return JSON.parse(Buffer.from(token, 'base64').toString('utf8')) as Token;
}

export function encodeToken(token: Token): string {
  return Buffer.from(JSON.stringify(token)).toString('base64');
}

export const USER_AGENT = { sdk: { type: 'JavaScript', version: '5.1' } };

export type Transport = 'polling' | 'websocket';

export interface ConnectOptions {
  /** Which generation of Socket.IO is spoken: 2 is Engine.IO 3, 3 and 4 are Engine.IO 4. */
  generation?: 2 | 3 | 4;
  transports?: Transport[];
}

export interface LoginOptions {
  protocol?: Protocol;
  userAgent?: unknown;
}

export interface Notification {
  event: string;
  data: unknown;
  /** All arguments after the data. */
  more: unknown[];
}

const EVENTS = ['participant', 'stream', 'progress', 'session-progress', 'text', 'drop'];

const CLIENTS = { 2: io2, 3: io3, 4: io4 };

/** A client of the portal that speaks OWT's protocol by hand, through a real Socket.IO client. */
export class Signaling {
  /** All notifications so far, in order. */
  readonly notifications: Notification[] = [];
  disconnected = false;

  private constructor(private readonly socket: Emitter) {
    for (const event of EVENTS) {
      socket.on(event, (data, ...more) => void this.notifications.push({ event, data, more }));
    }
    socket.on('disconnect', () => {
      this.disconnected = true;
    });
  }

  static async connect(url: string, { generation = 3, transports = ['polling', 'websocket'] }: ConnectOptions = {}): Promise<Signaling> {
    const options = { transports, reconnection: false, forceNew: true, rejectUnauthorized: false };
    const socket = CLIENTS[generation](url, options);
    const client = new Signaling(socket);
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => fail(`no connection within ${PATIENCE} ms`), PATIENCE);
      const fail = (why: unknown): void => {
        clearTimeout(timer);
        socket.close();
        reject(new Error(String(why)));
      };
      socket.on('connect_error', fail);
      socket.on('connect', () => {
        clearTimeout(timer);
        resolve();
      });
    });
    return client;
  }

  /** What it speaks over at the moment. */
  get transport(): string {
    return this.socket.io.engine.transport.name;
  }

  /** Sends a request and waits for its acknowledgement. */
  request(name: string, ...data: unknown[]): Promise<Ack> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${name} was not acknowledged within ${PATIENCE} ms`)), PATIENCE);
      this.socket.emit(name, ...data, (status: unknown, reply: unknown) => {
        clearTimeout(timer);
        resolve({ status, data: reply });
      });
    });
  }

  /** Sends a request without an acknowledgement's id, as some SDKs do: nothing comes back. */
  send(name: string, ...data: unknown[]): void {
    this.socket.emit(name, ...data);
  }

  /** Sends a request that has to be granted; the data of its answer. */
  async granted<T = unknown>(name: string, ...data: unknown[]): Promise<T> {
    const ack = await this.request(name, ...data);
    if (ack.status !== 'ok') throw new Error(`${name}: ${JSON.stringify(ack)}`);
    return ack.data as T;
  }

  /** Logs in as the JavaScript SDK does unless told otherwise; the raw acknowledgement. */
  tryLogin(token: unknown, { protocol = '1.2', userAgent = USER_AGENT }: LoginOptions = {}): Promise<Ack> {
    return this.request('login', { token, userAgent, protocol });
  }

  async login(token: string, options: LoginOptions = {}): Promise<LoginReply> {
    const ack = await this.tryLogin(token, options);
    if (ack.status !== 'ok') throw new Error(`login: ${JSON.stringify(ack)}`);
    return ack.data as LoginReply;
  }

  /** Waits until it was notified of something that has at least these members; the data of the first such notification. */
  told<T = unknown>(event: string, wanted: unknown): Promise<T> {
    return this.toldThat<T>(event, (data) => matches(data, wanted), JSON.stringify(wanted));
  }

  /** Waits until it was notified of something of which that is true; its data. */
  async toldThat<T = unknown>(event: string, isWanted: (data: unknown) => boolean, what = 'of some kind'): Promise<T> {
    const heard = (): Notification | undefined => this.notifications.find((one) => one.event === event && isWanted(one.data));
    const found = await until(`${event} ${what}`, () => heard() ?? complain(this.notifications), PATIENCE, 5);
    return found.data as T;
  }

  /** What it was told so far that has at least these members. */
  heard(event: string, wanted: unknown = {}): unknown[] {
    return this.notifications.filter((one) => one.event === event && matches(one.data, wanted)).map(({ data }) => data);
  }

  /**
   * What it was told so far of streams, or of one, without whole streams told again: those come when a picture's size becomes known or changes,
   * which is the publisher's doing.
   */
  changes(id?: string): unknown[] {
    const whole = { status: 'update', data: { field: '.' } };
    return this.heard('stream', id === undefined ? {} : { id }).filter((data) => !matches(data, whole));
  }

  /** Forgets what it was told so far. */
  forget(): void {
    this.notifications.length = 0;
  }

  /** Leaves the room and hangs up. */
  async leave(): Promise<void> {
    if (!this.disconnected) await this.request('logout');
    this.close();
  }

  close(): void {
    this.socket.close();
  }

  /** Hangs up, and waits until its machine, too, takes no more of what comes: a connection that still has to say something closes later. */
  async hangUp(): Promise<void> {
    this.close();
    await until('the connection is closed', () => this.socket.io.engine.readyState === 'closed');
  }
}

function complain(notifications: Notification[]): never {
  const told = notifications.slice(-10).map(({ event, data }) => `${event} ${JSON.stringify(data)?.slice(0, 200)}`);
  throw new Error(`told: ${told.join('; ') || 'nothing'}`);
}
