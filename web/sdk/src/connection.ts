import { io } from 'socket.io-client';
import { ConferenceError } from './errors.js';
import { Deferred, within } from './deferred.js';

/** The part of a Socket.IO client socket that signaling uses. */
export interface SignalingSocket {
  on(event: string, listener: (...args: any[]) => void): unknown;
  emit(event: string, ...args: unknown[]): unknown;
  connect(): unknown;
  disconnect(): unknown;
}

/** Makes an unconnected socket to the server at `url`. */
export type SocketFactory = (url: string) => SignalingSocket;

const NOTIFICATIONS = ['participant', 'stream', 'progress', 'text', 'layers'] as const;
export type NotificationName = (typeof NOTIFICATIONS)[number];

/** How long a server may take to accept a connection or acknowledge a request, in milliseconds. */
export const ANSWER_TIMEOUT_MS = 10_000;

/**
 * WebSocket first saves the upgrade's round trips; polling is for proxies that don't let it through. The Socket.IO
 * client doesn't reconnect: a connection that is lost is replaced, perhaps by one to another host.
 */
export const connectSocketIo: SocketFactory = (url) =>
  io(url, {
    autoConnect: false,
    forceNew: true,
    reconnection: false,
    timeout: ANSWER_TIMEOUT_MS,
    transports: ['websocket', 'polling'],
    tryAllTransports: true,
  });

export interface RequestOptions {
  /** Runs inside the acknowledgement: what it registers is in place before the next packet is read. */
  accepted?: (data: unknown) => void;
  /** Runs instead of `accepted` if the request had timed out by then, so that its effect can be undone. */
  late?: (data: unknown) => void;
  /** Doing it twice is as good as once, so it is sent again if a connection broke before it was acknowledged. */
  repeatable?: boolean;
}

/** A request on its way to its acknowledgement, over one connection or several. */
export class Request {
  readonly #answer = new Deferred<unknown>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #settled = false;

  constructor(
    readonly name: string,
    readonly data: unknown,
    readonly options: RequestOptions = {},
  ) {}

  /** The data of its positive acknowledgement. */
  get answer(): Promise<unknown> {
    return this.#answer.promise;
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** From now on it may take so many milliseconds. */
  expireAfter(ms: number, why: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fail(new ConferenceError('timeout', `${this.name}: ${why}`)), ms);
  }

  fail(error: ConferenceError): void {
    if (this.#settled) return;
    this.#settled = true;
    clearTimeout(this.#timer);
    this.#answer.reject(error);
  }

  acknowledge(status: unknown, data: unknown): void {
    const ok = status === 'ok' || status === 'success';
    if (this.#settled) {
      if (ok) this.options.late?.(data);
      return;
    }
    if (!ok) return this.fail(new ConferenceError('refused', reasonOf(data)));
    try {
      this.options.accepted?.(data);
    } catch (error) {
      const refused = error instanceof ConferenceError ? error : new ConferenceError('refused', `${this.name}: ${String(error)}`);
      return this.fail(refused);
    }
    this.#settled = true;
    clearTimeout(this.#timer);
    this.#answer.resolve(data);
  }
}

export interface ConnectionHandlers {
  /** `seq` is what the server numbered it with; 0 if it didn't. */
  notification(name: NotificationName, data: unknown, seq: number): void;
  /** The server said that it is over, or the connection broke. Called once, and not by `close`. */
  closed(reason: 'dropped' | 'lost'): void;
}

/** One socket to one server, from its opening to its end. */
export class Connection {
  readonly #socket: SignalingSocket;
  readonly #handlers: ConnectionHandlers;
  readonly #opened = new Deferred<void>();
  readonly #outstanding = new Set<Request>();
  #closed = false;

  constructor(socket: SignalingSocket, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    socket.on('connect', () => this.#opened.resolve());
    socket.on('connect_error', (error: unknown) => this.#opened.reject(unreachable(error)));
    socket.on('disconnect', () => this.#end('lost'));
    socket.on('drop', () => this.#end('dropped'));
    for (const name of NOTIFICATIONS) {
      socket.on(name, (data: unknown, seq?: unknown) => {
        if (!this.#closed) handlers.notification(name, data, typeof seq === 'number' ? seq : 0);
      });
    }
  }

  /** Resolves when the socket is open; rejects with `connect-failed`, `timeout` or `disconnected`. */
  async open(): Promise<void> {
    this.#socket.connect();
    await within(this.#opened.promise, ANSWER_TIMEOUT_MS, 'connect');
  }

  send(request: Request): void {
    this.#outstanding.add(request);
    request.expireAfter(ANSWER_TIMEOUT_MS, `no answer after ${ANSWER_TIMEOUT_MS / 1000} s`);
    const acknowledge = (status: unknown, data: unknown) => {
      this.#outstanding.delete(request);
      if (!this.#closed) request.acknowledge(status, data);
    };
    if (request.data === undefined) this.#socket.emit(request.name, acknowledge);
    else this.#socket.emit(request.name, request.data, acknowledge);
  }

  /** Ends the connection. Returns the requests that it leaves unanswered. */
  close(): Request[] {
    const unanswered = [...this.#outstanding].filter((request) => !request.settled);
    this.#outstanding.clear();
    if (!this.#closed) {
      this.#closed = true;
      this.#opened.reject(new ConferenceError('disconnected', 'The connection to the server ended.'));
      this.#socket.disconnect();
    }
    return unanswered;
  }

  #end(reason: 'dropped' | 'lost'): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#opened.reject(new ConferenceError('disconnected', 'The connection to the server ended.'));
    this.#socket.disconnect();
    this.#handlers.closed(reason);
  }
}

function unreachable(error: unknown): ConferenceError {
  const message = error instanceof Error ? error.message : String(error);
  return new ConferenceError('connect-failed', `The server can't be reached: ${message}`, { cause: error });
}

function reasonOf(data: unknown): string {
  if (typeof data === 'string' && data !== '') return data;
  const message = (data as { message?: unknown } | null | undefined)?.message;
  return typeof message === 'string' ? message : 'The server refused the request.';
}
