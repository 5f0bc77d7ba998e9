import { ApiError, readError } from './error.js';
import { type Credentials, Signer } from './sign.js';

/** What the portal says about itself (`config.json` beside this page). */
export interface ConsoleConfig {
  scheme: string;
  port: number;
  url?: string;
  sample?: boolean;
}

/** How long an answer is waited for, in ms. */
const PATIENCE = 20_000;

/** The management API's address for a page that was found at `host`. */
export function apiBase(config: ConsoleConfig, host: string): string {
  return config.url ?? `${config.scheme}://${host}:${config.port}`;
}

export interface CallOptions {
  body?: unknown;
  /** Only if the document still has this ETag. */
  ifMatch?: string | undefined;
  signal?: AbortSignal | undefined;
}

export interface Answer<T> {
  value: T;
  etag: string | undefined;
}

/** The management API, as one service sees it. */
export class Api {
  readonly #signer: Signer;
  /** Told when the credentials are refused. */
  onUnauthorized: (error: ApiError) => void = () => {};

  constructor(
    readonly base: string,
    credentials: Credentials,
  ) {
    this.#signer = new Signer(credentials);
  }

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.call<T>('GET', path, { signal });
  }

  async call<T = unknown>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    return (await this.exchange<T>(method, path, options)).value;
  }

  /**
   * One signed request. What is no JSON is given as text.
   *
   * @throws ApiError
   */
  async exchange<T = unknown>(method: string, path: string, { body, ifMatch, signal }: CallOptions = {}): Promise<Answer<T>> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (ifMatch !== undefined) headers['If-Match'] = ifMatch;
    const response = await this.fetch(path, {
      method,
      headers,
      signal: AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])]),
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) {
      const error = readError(response.status, text);
      if (error.isUnauthorized) this.onUnauthorized(error);
      throw error;
    }
    const isJson = response.headers.get('content-type')?.includes('json') ?? false;
    return { value: (isJson && text !== '' ? JSON.parse(text) : text) as T, etag: response.headers.get('etag') ?? undefined };
  }

  /** As `fetch`, signed. An answer that does not come is an {@link ApiError}, unless it was given up. */
  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { ...(init.headers as Record<string, string>), Authorization: await this.#signer.header() };
    try {
      return await fetch(this.base + path, { ...init, headers, cache: 'no-store', credentials: 'omit' });
    } catch (cause) {
      if ((cause as Error).name === 'AbortError') throw cause;
      throw new ApiError(`The management API at ${this.base} can’t be reached.`, 0);
    }
  }
}
