import { io as io3 } from 'socket.io-client';
import io2 from 'socket.io-client-2';
import { PATIENCE, until } from './until';

/** What is used of a Socket.IO client, whichever its version. */
export interface Emitter {
  readonly connected: boolean;
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
    streams: { id: string; type: string; media: { tracks: unknown[] }; info: Record<string, unknown> }[];
  };
  reconnectionTicket: string;
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

export interface ConnectOptions {
  /** Which generation of Socket.IO is spoken: 2 is Engine.IO 3, 3 is Engine.IO 4. */
  generation?: 2 | 3;
  transports?: ('polling' | 'websocket')[];
}

/** A client of the portal that speaks OWT's protocol by hand, through a real Socket.IO client. */
export class Signaling {
  /** All notifications so far, in order. */
  readonly notifications: { event: string; data: unknown }[] = [];
  disconnected = false;

  private constructor(private readonly socket: Emitter) {
    for (const event of ['participant', 'stream', 'progress', 'text', 'drop']) {
      socket.on(event, (data) => void this.notifications.push({ event, data }));
    }
    socket.on('disconnect', () => {
      this.disconnected = true;
    });
  }

  static async connect(url: string, { generation = 3, transports = ['polling', 'websocket'] }: ConnectOptions = {}): Promise<Signaling> {
    const options = { transports, reconnection: false, forceNew: true, rejectUnauthorized: false };
    const socket = generation === 2 ? io2(url, options) : io3(url, options);
    const client = new Signaling(socket);
    try {
      await until('the socket is connected', () => socket.connected);
    } catch (error) {
      socket.close();
      throw error;
    }
    return client;
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

  /** Logs in as the JavaScript SDK does; the raw acknowledgement. */
  tryLogin(token: unknown): Promise<Ack> {
    return this.request('login', { token, userAgent: USER_AGENT, protocol: '1.2' });
  }

  async login(token: string): Promise<LoginReply> {
    const ack = await this.tryLogin(token);
    if (ack.status !== 'ok') throw new Error(`login: ${JSON.stringify(ack)}`);
    return ack.data as LoginReply;
  }

  close(): void {
    this.socket.close();
  }
}
