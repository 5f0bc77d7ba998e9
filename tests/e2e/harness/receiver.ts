import { createHmac } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { matches } from './matches';
import { until } from './until';

/** What a webhook's message holds. */
export interface Event {
  id: string;
  type: string;
  time: number;
  service: string;
  room?: string;
  // Differs by type.
  data: any;
}

/** A server's certificate and its key (PEM). */
export interface Tls {
  cert: string;
  key: string;
}

/** Where webhooks are sent: keeps what came, and looks at each signature with its own HMAC. */
export class Receiver {
  /** Messages that were answered with 200, in the order of their coming. */
  readonly accepted: Event[] = [];
  /** Secrets as the management API told them; a message has to be signed with one of them. */
  readonly secrets: string[] = [];
  /** What came last, as it came. */
  last?: { headers: http.IncomingHttpHeaders; body: string };
  /** What messages are answered with. */
  status = 200;
  private server?: http.Server;
  private readonly sockets = new Set<Socket>();

  private port = 0;

  private constructor(private readonly tls?: Tls) {}

  /** On a free port; by HTTPS with that certificate. */
  static async listen(tls?: Tls): Promise<Receiver> {
    const receiver = new Receiver(tls);
    await receiver.open();
    return receiver;
  }

  get url(): string {
    return `${this.tls ? 'https' : 'http'}://127.0.0.1:${this.port}/hook`;
  }

  get types(): string[] {
    return this.accepted.map(({ type }) => type);
  }

  /** Listens, again on the same port if it has listened before. */
  async open(): Promise<void> {
    const listener: http.RequestListener = (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const body = Buffer.concat(chunks).toString('utf8');
        this.last = { headers: request.headers, body };
        const status = this.isSigned(request.headers, body) ? this.status : 401;
        if (status === 200) this.accepted.push(JSON.parse(body) as Event);
        response.writeHead(status).end();
      });
    };
    const server = this.tls ? https.createServer(this.tls, listener) : http.createServer(listener);
    server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.once('close', () => this.sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(this.port, '127.0.0.1', resolve));
    this.port = (server.address() as AddressInfo).port;
    this.server = server;
  }

  /** Is not there any more: connections are refused. */
  async close(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  /** Waits for a message that has at least these members. */
  gets(wanted: object): Promise<Event> {
    return until(`a message ${JSON.stringify(wanted)}, of ${this.types.join(' ')}`, () => this.accepted.find((event) => matches(event, wanted)), 30_000);
  }

  /** Standard Webhooks, version 1: HMAC-SHA256 of "id.timestamp.body". */
  private isSigned(headers: http.IncomingHttpHeaders, body: string): boolean {
    const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = headers;
    if (id !== (JSON.parse(body) as Event).id || Math.abs(Date.now() / 1000 - Number(timestamp)) > 60) return false;
    const signature = (secret: string): string => {
      const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
      return `v1,${createHmac('sha256', key).update(`${String(id)}.${String(timestamp)}.${body}`).digest('base64')}`;
    };
    return this.secrets.some((secret) => String(signatures).split(' ').includes(signature(secret)));
  }
}
