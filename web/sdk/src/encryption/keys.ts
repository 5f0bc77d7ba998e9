import { type Bytes, bigEndian, concat } from './bytes.js';

/** How frames are encrypted: AES-GCM with tags of 128 bits, as RFC 9605 §4.5 names it. */
export type Cipher = 'AES-128-GCM' | 'AES-256-GCM';

/**
 * What keys are made of, and what everyone who is to see and hear must have: words and a salt (such as the name of the meeting), or at least
 * 16 random bytes.
 */
export type EncryptionKey = { passphrase: string; salt: string } | { raw: Uint8Array | ArrayBuffer };

interface Suite {
  /** In RFC 9605's registry. */
  id: number;
  hash: string;
  /** Bytes of a key. */
  keyLength: number;
}

const SUITES: Record<Cipher, Suite> = {
  'AES-128-GCM': { id: 4, hash: 'SHA-256', keyLength: 16 },
  'AES-256-GCM': { id: 5, hash: 'SHA-512', keyLength: 32 },
};

/** Bytes of a nonce. */
export const NONCE_BYTES = 12;
/** The shortest raw key, in bytes: AES-128's own. */
export const MIN_RAW_BYTES = 16;
/** Rounds of PBKDF2: what OWASP asks for with SHA-256. A guess costs an attacker that many hashes, a start some tenths of a second. */
export const PBKDF2_ROUNDS = 600_000;
/** The largest id of a key; an id has 16 of a key identifier's 64 bits. */
export const MAX_KEY_ID = 0xffff;
/** Bits of a key identifier that tell those apart who encrypt with the same key. */
const CONTEXT_BITS = 48n;

const utf8 = new TextEncoder();

/** The id of the shared key in a frame's key identifier. */
export function keyIdOf(kid: bigint): number {
  return Number(kid >> CONTEXT_BITS);
}

/**
 * A key identifier for one who encrypts with a shared key. All share the key, so each draws a number for itself, from which its own key and salt are
 * derived: no two encrypt with the same nonce.
 */
export function drawKid(keyId: number): bigint {
  const random = crypto.getRandomValues(new Uint8Array(6));
  return random.reduce((kid, byte) => (kid << 8n) | BigInt(byte), BigInt(keyId));
}

/** What frames of one key identifier are encrypted with. */
export interface FrameKey {
  readonly key: CryptoKey;
  readonly salt: Bytes;
  /** The shared key that it was derived from. */
  readonly base: CryptoKey;
}

/** The base key of RFC 9605 §4.4.2, of which nothing leaves WebCrypto any more. */
export async function baseKeyOf(material: EncryptionKey): Promise<CryptoKey> {
  const { subtle } = crypto;
  let secret: Uint8Array | ArrayBuffer;
  if ('passphrase' in material) {
    const words = await subtle.importKey('raw', utf8.encode(material.passphrase.normalize('NFKC')), 'PBKDF2', false, ['deriveBits']);
    const derivation = { name: 'PBKDF2', hash: 'SHA-256', salt: utf8.encode(material.salt), iterations: PBKDF2_ROUNDS };
    secret = await subtle.deriveBits(derivation, words, 256);
  } else {
    secret = material.raw;
  }
  return subtle.importKey('raw', new Uint8Array(secret), 'HKDF', false, ['deriveBits']);
}

/** Derives key and salt of a key identifier (RFC 9605 §4.4.2). */
export async function deriveFrameKey(cipher: Cipher, base: CryptoKey, kid: bigint): Promise<FrameKey> {
  const suite = SUITES[cipher];
  const identity = concat(bigEndian(kid, 8), bigEndian(BigInt(suite.id), 2));
  const derive = (label: string, length: number) => {
    const info = concat(utf8.encode(label), identity);
    return crypto.subtle.deriveBits({ name: 'HKDF', hash: suite.hash, salt: new Uint8Array(), info }, base, 8 * length);
  };
  const secret = await derive('SFrame 1.0 Secret key ', suite.keyLength);
  const salt = new Uint8Array(await derive('SFrame 1.0 Secret salt ', NONCE_BYTES));
  const key = await crypto.subtle.importKey('raw', secret, 'AES-GCM', false, ['encrypt', 'decrypt']);
  return { key, salt, base };
}

/** The nonce of a frame: the salt and its counter (RFC 9605 §4.4.3). */
export function nonceOf(salt: Uint8Array, counter: bigint): Bytes {
  return bigEndian(counter, NONCE_BYTES).map((byte, i) => byte ^ (salt[i] ?? 0));
}

/** The shared keys by their ids, one of which is encrypted with. */
export class KeyRing {
  readonly #bases = new Map<number, CryptoKey>();
  #current: number | undefined;

  constructor(readonly cipher: Cipher) {}

  /** The id of the key that is encrypted with. */
  get current(): number | undefined {
    return this.#current;
  }

  async add(id: number, material: EncryptionKey): Promise<void> {
    this.#bases.set(id, await baseKeyOf(material));
  }

  /** Encrypts with that key from now on; it has to be there. */
  use(id: number): void {
    if (!this.#bases.has(id)) throw new Error(`There is no key ${id}.`);
    this.#current = id;
  }

  /** Nothing is encrypted any more if it was that key that was encrypted with. */
  remove(id: number): void {
    this.#bases.delete(id);
    if (this.#current === id) this.#current = undefined;
  }

  base(id: number): CryptoKey | undefined {
    return this.#bases.get(id);
  }
}
