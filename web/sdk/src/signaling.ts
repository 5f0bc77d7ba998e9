import { backoff, type BackoffOptions, Pause } from './backoff.js';
import { Connection, type NotificationName, Request, type RequestOptions, type SocketFactory } from './connection.js';
import { Deferred, within } from './deferred.js';
import { ConferenceError, toConferenceError } from './errors.js';
import type { Page } from './page.js';
import { Tickets } from './tickets.js';
import { serverUrls } from './token.js';

/**
 * Why the conference ended without the application asking for it.
 *
 * - `dropped`: the server ended it for this client
 * - `connection-lost`: the server couldn't be reached again, or coming back isn't possible without a token provider
 * - `refused`: the server was reached, but didn't take the client back
 */
export type DisconnectReason = 'dropped' | 'connection-lost' | 'refused';

/** Gets a new login token from the application's own server. */
export type TokenProvider = () => Promise<string>;

export interface SignalingOptions {
  createSocket: SocketFactory;
  /** Hosts to try besides the token's. */
  hosts: readonly string[];
  tokenProvider: TokenProvider | undefined;
  /** How long to try to come back, in milliseconds; 0 = not at all. */
  reconnectMs: number;
  page: Page;
}

export interface SignalingHandlers {
  /** Runs inside the login's acknowledgement; `again` if it is not the first. What it throws fails the login. */
  entered(ack: unknown, again: boolean): void;
  notification(name: NotificationName, data: unknown): void;
  /** Attempt 1, 2, … to come back begins. */
  reconnecting(attempt: number, cause: ConferenceError): void;
  /** Back: as the same participant, or (`entered` was called) as a new one. */
  reconnected(sameParticipant: boolean): void;
  /** It is over. Not called by `close`. */
  ended(reason: DisconnectReason, error: ConferenceError): void;
}

/** Waits between attempts to come back. */
const RECONNECT: BackoffOptions = { firstMs: 500, maxMs: 5_000 };
/** How long a request waits for the connection to come back, in milliseconds. */
const WAIT_TIMEOUT_MS = 30_000;
/** How many requests wait for that; the server takes some more at once. */
const MAX_WAITING = 128;
/** How long the application may take for a new token, in milliseconds. */
const TOKEN_TIMEOUT_MS = 15_000;
/** How many new tokens the server may refuse in a row. */
const MAX_REFUSALS = 3;
/** How long a connection has to prove itself after the network came or went, in milliseconds. */
const PROBE_TIMEOUT_MS = 3_000;
/** When a refresh of the ticket failed, the next is tried after so many milliseconds. */
const REFRESH_RETRY_MS = 10_000;

/** With these, other tickets are worth nothing either. */
const GONE = ['Client does NOT exist', 'Reconnection is not allowed'];

/**
 * Requests with acknowledgements, and notifications, for as long as the participant has its place in the conference:
 * over one connection after another, each of which takes up where the last one broke.
 */
export class Signaling {
  readonly #options: SignalingOptions;
  readonly #handlers: SignalingHandlers;
  readonly #tickets = new Tickets();
  readonly #pause = new Pause();
  readonly #stopListening: (() => void)[];
  #state: 'joining' | 'online' | 'offline' | 'closed' = 'joining';
  #connection: Connection | undefined;
  #urls: string[] = [];
  /** Counts connections, so that each attempt tries the next host. */
  #url = 0;
  #attempt = 0;
  #waiting: Request[] = [];
  #online = new Deferred<void>();
  /** The number of the last notification that was processed. */
  #seq = 0;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: SignalingOptions, handlers: SignalingHandlers) {
    this.#options = options;
    this.#handlers = handlers;
    this.#stopListening = [
      options.page.on('online', () => this.#onNetwork()),
      options.page.on('offline', () => this.#onNetwork()),
    ];
  }

  get connected(): boolean {
    return this.#state === 'online';
  }

  /** Connects to the token's host, or if that can't be reached to another one, and logs in. */
  async login(token: string): Promise<void> {
    this.#urls = serverUrls(token, this.#options.hosts);
    let failure: unknown;
    for (this.#url = 0; this.#url < this.#urls.length; this.#url++) {
      let connection: Connection;
      try {
        connection = await this.#open();
      } catch (error) {
        failure = error;
        if (this.#state === 'closed') break;
        continue;
      }
      return this.#login(connection, token, false);
    }
    throw failure;
  }

  /** Resolves when requests reach the server (now, or when the client is back); rejects when it is over. */
  whenConnected(): Promise<void> {
    return this.#online.promise;
  }

  /** Sends a request, or has it wait until the client is back, and resolves with the data of its acknowledgement. */
  request(name: string, data?: unknown, options?: RequestOptions): Promise<unknown> {
    const request = new Request(name, data, options);
    if (this.#state === 'online') {
      this.#connection!.send(request);
    } else if (this.#state === 'closed') {
      request.fail(new ConferenceError('disconnected', `${name}: not connected.`));
    } else {
      this.#enqueue([request]);
    }
    return request.answer;
  }

  /** Ends it; requests under way fail and no handler is called any more. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    for (const stop of this.#stopListening) stop();
    clearTimeout(this.#refreshTimer);
    this.#tickets.clear();
    const error = new ConferenceError('disconnected', 'The connection to the server ended.');
    for (const request of [...(this.#connection?.close() ?? []), ...this.#waiting.splice(0)]) request.fail(error);
    this.#online.reject(error);
    this.#pause.end();
  }

  async #open(): Promise<Connection> {
    const socket = this.#options.createSocket(this.#urls[this.#url % this.#urls.length]!);
    const connection: Connection = new Connection(socket, {
      notification: (name, data, seq) => this.#onNotification(connection, name, data, seq),
      closed: (reason) => this.#onClosed(connection, reason),
    });
    this.#connection = connection;
    try {
      await connection.open();
    } catch (error) {
      connection.close();
      throw error;
    }
    return connection;
  }

  async #login(connection: Connection, token: string, again: boolean): Promise<void> {
    await this.#ask(connection, 'login', loginRequest(token, this.#options.reconnectMs > 0), (ack) => {
      this.#seq = 0;
      this.#tickets.clear();
      this.#tickets.add((ack as { reconnectionTicket?: unknown } | null)?.reconnectionTicket, Date.now());
      // What waited was meant for the place that is lost, but for what is said to people.
      if (again) this.#discard();
      this.#handlers.entered(ack, again);
      this.#goOnline(connection);
    });
  }

  async #relogin(connection: Connection, ticket: string): Promise<void> {
    await this.#ask(connection, 'relogin', { ticket, seq: this.#seq }, (ack) => {
      this.#tickets.add(ack, Date.now());
      this.#goOnline(connection);
    });
  }

  /** A request of the handshake, past the queue. A connection on which it fails is given up. */
  async #ask(connection: Connection, name: string, data: unknown, accepted: (ack: unknown) => void): Promise<void> {
    const request = new Request(name, data, { accepted });
    connection.send(request);
    try {
      await request.answer;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  #goOnline(connection: Connection): void {
    if (connection !== this.#connection || this.#state === 'closed') return;
    this.#state = 'online';
    this.#online.resolve();
    for (const request of this.#waiting.splice(0)) if (!request.settled) connection.send(request);
    if (this.#tickets.wantsSpare) void this.#refresh(connection);
    this.#scheduleRefresh();
  }

  #onNotification(connection: Connection, name: NotificationName, data: unknown, seq: number): void {
    if (connection !== this.#connection) return;
    if (seq > 0) {
      if (seq <= this.#seq) return;
      this.#seq = seq;
    }
    this.#handlers.notification(name, data);
  }

  #onClosed(connection: Connection, reason: 'dropped' | 'lost'): void {
    const unanswered = connection.close();
    const error = new ConferenceError('disconnected', 'The connection to the server was lost.');
    if (connection !== this.#connection || this.#state !== 'online') {
      for (const request of unanswered) request.fail(error);
      return;
    }
    clearTimeout(this.#refreshTimer);
    const { reconnectMs, tokenProvider } = this.#options;
    const possible = reconnectMs > 0 && (this.#tickets.has(Date.now()) || tokenProvider !== undefined);
    if (reason === 'dropped' || !possible) {
      for (const request of unanswered) request.fail(error);
      if (reason === 'lost') return this.#end('connection-lost', error);
      return this.#end('dropped', new ConferenceError('disconnected', 'The server ended the conference for this client.'));
    }
    this.#state = 'offline';
    this.#online = new Deferred();
    // It is not known whether the server got these; what can't be done twice is left to those who asked.
    for (const request of unanswered) if (!request.options.repeatable) request.fail(error);
    this.#enqueue(unanswered.filter(({ options }) => options.repeatable));
    void this.#reconnect(error);
  }

  async #reconnect(cause: ConferenceError): Promise<void> {
    const giveUpAt = Date.now() + this.#options.reconnectMs;
    let refusals = 0;
    let last = cause;
    this.#attempt = 0;
    for (let count = 1; this.#state === 'offline'; count++) {
      this.#handlers.reconnecting(count, last);
      const wait = this.#options.page.onLine ? backoff(this.#attempt++, RECONNECT) : RECONNECT.maxMs;
      await this.#pause.wait(Math.min(wait, Math.max(0, giveUpAt - Date.now())));
      // The application may have left meanwhile.
      if (!this.#isOffline()) return;
      if (Date.now() >= giveUpAt) return this.#end('connection-lost', last);
      try {
        const sameParticipant = await this.#comeBack();
        // A connection that broke again at once has begun another story.
        if (this.connected) this.#handlers.reconnected(sameParticipant);
        return;
      } catch (reason) {
        last = toConferenceError(reason, 'connect-failed');
        const refused = last.code === 'refused' || last.code === 'login-refused';
        if (!refused || this.#tickets.has(Date.now())) continue;
        if (!this.#options.tokenProvider || ++refusals > MAX_REFUSALS) return this.#end('refused', last);
      }
    }
  }

  /** One attempt, at the next host: with a ticket, or without one with a new token. */
  async #comeBack(): Promise<boolean> {
    const held = this.#tickets.take(Date.now());
    if (held) {
      try {
        const connection = await this.#openNext();
        await this.#relogin(connection, held.ticket);
        return true;
      } catch (reason) {
        const refused = reason instanceof ConferenceError && reason.code === 'refused';
        if (!refused) held.giveBack();
        else if (GONE.includes(reason.message)) this.#tickets.clear();
        throw reason;
      }
    }
    if (!this.#options.tokenProvider) throw new ConferenceError('refused', 'The reconnection tickets have expired.');
    const token = await within(this.#options.tokenProvider(), TOKEN_TIMEOUT_MS, 'tokenProvider');
    this.#urls = serverUrls(token, this.#options.hosts);
    await this.#login(await this.#openNext(), token, true);
    return false;
  }

  /** The last host comes first: it is the likeliest to know the client. */
  async #openNext(): Promise<Connection> {
    if (!this.#isOffline()) throw new ConferenceError('disconnected', 'The client has left.');
    try {
      return await this.#open();
    } catch (error) {
      this.#url++;
      throw error;
    }
  }

  #isOffline(): boolean {
    return this.#state === 'offline';
  }

  #enqueue(requests: readonly Request[]): void {
    this.#waiting = this.#waiting.filter((request) => !request.settled);
    for (const request of requests) {
      if (this.#waiting.length >= MAX_WAITING) {
        request.fail(new ConferenceError('overloaded', `${request.name}: too many requests wait for the connection.`));
        continue;
      }
      request.expireAfter(WAIT_TIMEOUT_MS, `no connection for ${WAIT_TIMEOUT_MS / 1000} s`);
      this.#waiting.push(request);
    }
  }

  #discard(): void {
    const error = new ConferenceError('disconnected', 'The place in the conference was lost; the client has joined anew.');
    for (const request of this.#waiting) if (request.name !== 'text') request.fail(error);
    this.#waiting = this.#waiting.filter((request) => !request.settled);
  }

  /** The network came or went: a connection that doesn't answer now is gone, long before its pings would show it. */
  #onNetwork(): void {
    if (this.#state === 'offline' && this.#options.page.onLine) {
      this.#attempt = 0;
      this.#pause.end();
    } else if (this.#state === 'online' && this.#tickets.has(Date.now())) {
      void this.#refresh(this.#connection!, PROBE_TIMEOUT_MS);
    }
  }

  #scheduleRefresh(): void {
    clearTimeout(this.#refreshTimer);
    const now = Date.now();
    const at = this.#tickets.refreshAt(now);
    if (at === undefined) return;
    this.#refreshTimer = setTimeout(() => void this.#refresh(this.#connection!), Math.max(0, at - now));
  }

  /** Gets another ticket. With `probeMs`, a connection that doesn't answer in that time is given up. */
  async #refresh(connection: Connection, probeMs?: number): Promise<void> {
    const request = new Request('refreshReconnectionTicket', undefined);
    connection.send(request);
    if (probeMs !== undefined) request.expireAfter(probeMs, 'no answer');
    const error = await request.answer.then(
      (ticket) => void this.#tickets.add(ticket, Date.now()),
      (reason) => toConferenceError(reason, 'refused'),
    );
    if (this.#state !== 'online' || connection !== this.#connection) return;
    if (!error) return this.#scheduleRefresh();
    if (probeMs !== undefined && error.code === 'timeout') return this.#onClosed(connection, 'lost');
    clearTimeout(this.#refreshTimer);
    if (error.code === 'timeout') this.#refreshTimer = setTimeout(() => void this.#refresh(connection), REFRESH_RETRY_MS);
  }

  #end(reason: DisconnectReason, error: ConferenceError): void {
    if (this.#state === 'closed') return;
    this.close();
    this.#handlers.ended(reason, error);
  }
}

/**
 * The SDK names itself, so that the server numbers its notifications and takes the number back at a `relogin`. Who won't
 * come back says so, and leaves the conference with its connection.
 */
function loginRequest(token: string, reconnection: boolean): object {
  const request = { token, userAgent: { sdk: { type: 'Kaigi', version: '0.1.0' } }, protocol: '1.2' };
  return reconnection ? request : { ...request, reconnection };
}
