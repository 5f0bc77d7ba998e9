import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';

/** What a service is known by. The key stays in this page: it signs, and is never sent. */
export interface Credentials {
  id: string;
  key: string;
}

/** For how long a signed token is good, in seconds: short, but longer than this clock may be slow. */
const LIFE = 300;
/** A token that is older than this, in seconds, is made anew. */
const RENEWAL = 60;

/** Base64 for URLs (RFC 4648 §5), without padding. */
export function base64url(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/**
 * HMAC-SHA256 by the browser, or, on pages that came by plain HTTP from another machine (there browsers offer no WebCrypto),
 * by a library.
 */
async function hmacSha256(key: string, text: string): Promise<Uint8Array> {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) return hmac(sha256, utf8(key), utf8(text));
  const imported = await subtle.importKey('raw', utf8(key), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await subtle.sign('HMAC', imported, utf8(text)));
}

/** A JSON Web Token of a service (RFC 7519, HS256) that is good for all that the service may do, from `now` (Unix ms). */
export async function bearer({ id, key }: Credentials, now: number): Promise<string> {
  const exp = Math.floor(now / 1000) + LIFE;
  const part = (value: object): string => base64url(utf8(JSON.stringify(value)));
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: id, exp })}`;
  return `${signed}.${base64url(await hmacSha256(key, signed))}`;
}

/** Signs requests: one token for those of the same minute. */
export class Signer {
  #token: Promise<string> | undefined;
  #madeAt = 0;

  constructor(readonly credentials: Credentials) {}

  /** The `Authorization` header at `now` (Unix ms). */
  async header(now = Date.now()): Promise<string> {
    if (!this.#token || Math.abs(now - this.#madeAt) > RENEWAL * 1000) {
      this.#token = bearer(this.credentials, now);
      this.#madeAt = now;
    }
    return `Bearer ${await this.#token}`;
  }
}
