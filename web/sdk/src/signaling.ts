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

/** Why signaling ended without the client asking for it. */
export type SignalingEnd = 'dropped' | 'connection-lost';

export interface SignalingHandlers {
  notification(name: NotificationName, data: unknown): unknown;
  ended(reason: SignalingEnd): unknown;
}

const NOTIFICATIONS = ['participant', 'stream', 'progress', 'text'] as const;
export type NotificationName = (typeof NOTIFICATIONS)[number];

/** How long a server may take to accept a connection or acknowledge a request, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** WebSocket first saves the upgrade's round trips; polling is for proxies that don't let it through. */
export const connectSocketIo: SocketFactory = (url) =>
  io(url, {
    autoConnect: false,
    forceNew: true,
    reconnection: false,
    timeout: ANSWER_TIMEOUT_MS,
    transports: ['websocket', 'polling'],
    tryAllTransports: true,
  });

/** Requests with acknowledgements and notifications over one socket. */
export class Signaling {
  readonly #socket: SignalingSocket;
  readonly #handlers: SignalingHandlers;
  readonly #pending = new Set<Deferred<unknown>>();
  readonly #connected = new Deferred<void>();
  #closed = false;

  constructor(socket: SignalingSocket, handlers: SignalingHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    socket.on('connect', () => this.#connected.resolve());
    socket.on('connect_error', (error: unknown) => this.#connectFailed(error));
    socket.on('disconnect', () => this.#end('connection-lost'));
    socket.on('drop', () => this.#end('dropped'));
    for (const name of NOTIFICATIONS) {
      socket.on(name, (data: unknown) => {
        if (!this.#closed) handlers.notification(name, data);
      });
    }
  }

  /** Resolves when the socket is open. */
  async connect(): Promise<void> {
    this.#socket.connect();
    await within(this.#connected.promise, ANSWER_TIMEOUT_MS, 'connect');
  }

  /**
   * Sends a request and resolves with the data of its positive acknowledgement.
   *
   * `accepted` runs synchronously when the acknowledgement arrives: what it registers is in place before the next
   * packet is read, which a continuation of the returned promise can't promise. `late` runs instead if the request
   * had timed out by then, so that what the server did after all can be undone.
   */
  request(
    name: string,
    data?: unknown,
    accepted?: (data: unknown) => void,
    late?: (data: unknown) => void,
  ): Promise<unknown> {
    if (this.#closed) return Promise.reject(new ConferenceError('disconnected', `${name}: not connected.`));
    const pending = new Deferred<unknown>();
    this.#pending.add(pending);
    const acknowledge = (status: unknown, result: unknown) => {
      const ok = status === 'ok' || status === 'success';
      if (!this.#pending.delete(pending)) {
        if (ok && !this.#closed) late?.(result);
        return;
      }
      if (!ok) {
        pending.reject(new ConferenceError('refused', reasonOf(result)));
        return;
      }
      try {
        accepted?.(result);
        pending.resolve(result);
      } catch (error) {
        pending.reject(
          error instanceof ConferenceError ? error : new ConferenceError('refused', `${name}: ${String(error)}`),
        );
      }
    };
    if (data === undefined) this.#socket.emit(name, acknowledge);
    else this.#socket.emit(name, data, acknowledge);
    return within(pending.promise, ANSWER_TIMEOUT_MS, name).finally(() => this.#pending.delete(pending));
  }

  /** Ends the connection; requests under way fail and no handler is called any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const error = new ConferenceError('disconnected', 'The connection to the server ended.');
    this.#connected.reject(error);
    for (const pending of this.#pending) pending.reject(error);
    this.#pending.clear();
    this.#socket.disconnect();
  }

  #connectFailed(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#connected.reject(new ConferenceError('connect-failed', `The server can't be reached: ${message}`, { cause: error }));
  }

  #end(reason: SignalingEnd): void {
    if (this.#closed) return;
    this.close();
    this.#handlers.ended(reason);
  }
}

function reasonOf(data: unknown): string {
  if (typeof data === 'string' && data !== '') return data;
  const message = (data as { message?: unknown } | null | undefined)?.message;
  return typeof message === 'string' ? message : 'The server refused the request.';
}
