import { createHmac, randomBytes } from 'node:crypto';
import { type Answer, request } from './http';

export interface Credentials {
  id: string;
  key: string;
}

/** The `Authorization` header of the management API: MAuth, as OWT's REST clients write it. */
export function mauth({ id, key }: Credentials, now = Date.now()): string {
  const cnonce = randomBytes(8).toString('hex');
  const hex = createHmac('sha256', key).update(`${now},${cnonce}`).digest('hex');
  const fields = {
    mauth_signature_method: 'HMAC_SHA256',
    mauth_serviceid: id,
    mauth_cnonce: cnonce,
    mauth_timestamp: String(now),
    mauth_signature: Buffer.from(hex).toString('base64'),
  };
  const list = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
  return `MAuth realm=http://kaigi.test,${list.join(',')}`;
}

export interface RestStream {
  id: string;
  type: 'forward' | 'mixed';
  media: Record<'audio' | 'video', { status?: string } | undefined>;
  info: { owner?: string; label?: string; inViews?: string[]; layout?: unknown[]; filter?: string };
}

export interface Operation {
  op: 'add' | 'remove' | 'replace';
  path: string;
  value: unknown;
}

/** A client of the management API, as a service's own server would be. */
export class Rest {
  constructor(
    private readonly base: string,
    private readonly credentials: Credentials,
  ) {}

  /** Any request, signed, whatever comes of it. */
  call(method: string, path: string, body?: unknown, host?: string): Promise<Answer> {
    const headers: Record<string, string> = { authorization: mauth(this.credentials), ...(host !== undefined && { host }) };
    const text = body === undefined ? undefined : JSON.stringify(body);
    if (text !== undefined) {
      headers['content-type'] = 'application/json';
      headers['content-length'] = String(Buffer.byteLength(text));
    }
    return request(this.base + path, { method, headers, body: text });
  }

  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.call(method, path, body);
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return JSON.parse(answer.text) as T;
  }

  /** A new room; its id. */
  async createRoom(name: string, options: object = {}): Promise<string> {
    return (await this.json<{ _id: string }>('POST', '/v1/rooms', { name, options }))._id;
  }

  rooms(): Promise<{ _id: string; name: string }[]> {
    return this.json('GET', '/v1/rooms');
  }

  /** A token. It sends the client to `host`, by default to where this asks. */
  async token(room: string, user: string, role = 'presenter', host?: string): Promise<string> {
    const preference = { isp: 'isp', region: 'region' };
    const answer = await this.call('POST', `/v1/rooms/${room}/tokens/`, { user, role, preference }, host);
    if (answer.status !== 200) throw new Error(`token: ${answer.status} ${answer.text}`);
    return answer.text;
  }

  streams(room: string): Promise<RestStream[]> {
    return this.json('GET', `/v1/rooms/${room}/streams/`);
  }

  stream(room: string, id: string): Promise<RestStream> {
    return this.json('GET', `/v1/rooms/${room}/streams/${id}`);
  }

  patchStream(room: string, id: string, operations: Operation[]): Promise<RestStream> {
    return this.json('PATCH', `/v1/rooms/${room}/streams/${id}`, operations);
  }

  /** The live workers of a purpose. */
  async workers(purpose: string): Promise<{ id: string; endpoint: string; publicAddress: string }[]> {
    const all = await this.json<{ id: string; purpose: string; endpoint: string; publicAddress: string }[]>('GET', '/cluster/nodes');
    return all.filter((worker) => worker.purpose === purpose);
  }

  participants(room: string): Promise<{ id: string; user: unknown; role: string }[]> {
    return this.json('GET', `/v1/rooms/${room}/participants/`);
  }

  /** Changes what a participant may do: pairs of a path below `/permission`, such as `publish/audio`, and whether it may. */
  async permit(room: string, id: string, changes: Record<string, boolean>): Promise<void> {
    const operations = Object.entries(changes).map(([path, value]) => ({ op: 'replace', path: `/permission/${path}`, value }));
    await this.succeeds('PATCH', `/v1/rooms/${room}/participants/${id}`, operations);
  }

  async dropParticipant(room: string, id: string): Promise<void> {
    await this.succeeds('DELETE', `/v1/rooms/${room}/participants/${id}`);
  }

  async deleteRoom(room: string): Promise<void> {
    await this.succeeds('DELETE', `/v1/rooms/${room}`);
  }

  private async succeeds(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await this.call(method, path, body);
    if (answer.status < 200 || answer.status > 299) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return answer;
  }
}
