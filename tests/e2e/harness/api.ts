import { type KeyObject, createHmac, sign } from 'node:crypto';
import { expect } from 'vitest';
import { request } from './http';
import { type Credentials, mauth } from './rest';

/** What the management API answered. */
export interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  /** The body, if it is JSON by its type and by its content. */
  // What it is, is what the specifications look at.
  json: any;
}

export interface CallOptions {
  body?: unknown;
  /** In place of JSON: this text and its type. */
  raw?: [text: string, type: string];
  headers?: Record<string, string>;
  /** The `Authorization` header in place of a signature; `null` = none. */
  authorization?: string | null;
}

/** Requests to the management API in the name of a service, whatever comes of them. */
export class Api {
  constructor(
    readonly base: string,
    readonly service: Credentials,
  ) {}

  /** In the name of another one. */
  as(service: Credentials): Api {
    return new Api(this.base, service);
  }

  async call(method: string, path: string, { body, raw, headers = {}, authorization = mauth(this.service) }: CallOptions = {}): Promise<Reply> {
    const [text, type] = raw ?? [body === undefined ? undefined : JSON.stringify(body), 'application/json'];
    const all: Record<string, string> = { ...headers };
    if (authorization !== null) all.authorization = authorization;
    if (text !== undefined) Object.assign(all, { 'content-type': type, 'content-length': String(Buffer.byteLength(text)) });
    const answer = await request(this.base + path, { method, headers: all, body: text, timeout: 30_000 });
    return { ...answer, json: parsed(answer.text, answer.headers['content-type']) };
  }

  get = (path: string, options?: CallOptions): Promise<Reply> => this.call('GET', path, options);
  delete = (path: string, options?: CallOptions): Promise<Reply> => this.call('DELETE', path, options);
  post = (path: string, body?: unknown, options?: CallOptions): Promise<Reply> => this.call('POST', path, { body, ...options });
  put = (path: string, body?: unknown, options?: CallOptions): Promise<Reply> => this.call('PUT', path, { body, ...options });
  patch = (path: string, body?: unknown, options?: CallOptions): Promise<Reply> => this.call('PATCH', path, { body, ...options });

  /** A call that has to succeed; its JSON. */
  async ok(method: string, path: string, body?: unknown, options?: CallOptions): Promise<any> {
    const reply = await this.call(method, path, { body, ...options });
    if (reply.status !== 200) throw new Error(`${method} ${path}: ${reply.status} ${reply.text}`);
    return reply.json;
  }

  /** A fresh room; its id. */
  async room(options: object = {}, name = 'room'): Promise<string> {
    return (await this.ok('POST', '/v1/rooms', { name, options }))._id as string;
  }

  /** A fresh service. */
  async tenant(name: string): Promise<Credentials> {
    return (await this.ok('POST', '/services', { name })) as Credentials;
  }
}

function parsed(text: string, type = ''): unknown {
  if (text === '' || !type.startsWith('application/json')) return undefined;
  return JSON.parse(text);
}

/** A refusal as OWT words it: nothing but the status, the code and a text. */
export function refusal(status: number, code: number, message: unknown = expect.stringMatching(/\S/)): object {
  return expect.objectContaining({ status, json: { error: { code, message } } });
}

/** Refusals that many routes share. */
export const REFUSED = {
  unauthorized: refusal(401, 1101),
  forbidden: refusal(403, 1102, 'Permission denied'),
  noPath: refusal(404, 1001),
  noService: refusal(404, 1002, 'Service not found'),
  noRoom: refusal(404, 1003, 'Room not found'),
  noStream: refusal(404, 1004, 'Stream not found'),
  noParticipant: refusal(404, 1005, 'Participant not found'),
  malformed: refusal(400, 1201),
  failed: refusal(500, 1301),
};

const base64url = (text: string | Buffer): string => Buffer.from(text).toString('base64url');

/** A JSON Web Token of any header and claims, signed with a service's key or a private key. */
export function jwt(claims: object, key: string | KeyObject, header: object = { typ: 'JWT', alg: typeof key === 'string' ? 'HS256' : 'EdDSA' }): string {
  const signed = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`;
  const signature = typeof key === 'string' ? createHmac('sha256', key).update(signed).digest() : sign(null, Buffer.from(signed), key);
  return `${signed}.${base64url(signature)}`;
}

/** Seconds since 1970, so many from now. */
export const seconds = (fromNow: number): number => Math.floor(Date.now() / 1000) + fromNow;

/** An `Authorization` header with a token that is good for ten minutes. */
export function bearer({ id, key }: Credentials, grants?: object): string {
  return `Bearer ${jwt({ iss: id, exp: seconds(600), grants }, key)}`;
}
