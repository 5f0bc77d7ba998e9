// Frames encrypted with SFrame (RFC 9605), whose header is at their end, so that what forwarders and packetizers look at stays in its place:
//
//   clear bytes | encrypted bytes, tag | header | layout (1 byte) | length of the header and of these two (1 byte)
//
// Authenticated beside what is encrypted are header, layout and clear bytes.

import { type Bytes, concat } from './bytes.js';
import { decodeHeader, encodeHeader, MAX_HEADER_BYTES } from './header.js';
import { deriveFrameKey, drawKid, type FrameKey, keyIdOf, type KeyRing, nonceOf } from './keys.js';
import { authenticated, type EncryptableCodec, join, layoutOf, part, restore, split } from './layout.js';
import { ReplayWindow } from './replay.js';

/** Bytes of AES-GCM's tag. */
const TAG_BYTES = 16;
/** Layout and length. */
const MARK_BYTES = 2;
/** Most of those who encrypt that a receiver remembers; those who select among speakers change often. */
const MAX_CONTEXTS = 64;

/**
 * Why a frame can't be decrypted.
 *
 * - `not-encrypted`: it is no encrypted frame
 * - `unknown-key`: there is no key of its key id
 * - `wrong-key`: it wasn't encrypted with the key of its key id, or it was altered on its way
 * - `replayed`: it was there before, or is too old to tell
 */
export type DecryptionFailure = 'not-encrypted' | 'unknown-key' | 'wrong-key' | 'replayed';

/** What became of a frame. */
export type Decrypted = { frame: Bytes; keyId: number } | { failure: DecryptionFailure; keyId: number | undefined };

interface Context {
  kid: bigint;
  key: FrameKey;
}

/** Encrypts what one sender sends, in one size or several. */
export class FrameEncryptor {
  readonly #ring: KeyRing;
  #context: (Context & { keyId: number }) | undefined;
  #counter = 0n;

  constructor(ring: KeyRing) {
    this.#ring = ring;
  }

  /** The encrypted frame; `undefined` if there is no key to encrypt with, or it is no frame of that codec. */
  async encrypt(codec: EncryptableCodec, frame: Uint8Array): Promise<Bytes | undefined> {
    const divided = split(codec, frame);
    const context = await this.#current();
    if (!divided || !context) return undefined;
    const counter = this.#counter++;
    const header = encodeHeader({ kid: context.kid, counter });
    const mark = Uint8Array.of(divided.layout, header.length + MARK_BYTES);
    const algorithm = {
      name: 'AES-GCM',
      iv: nonceOf(context.key.salt, counter),
      additionalData: concat(header, mark.subarray(0, 1), authenticated(divided.layout, divided.clear)),
    };
    const encrypted = await crypto.subtle.encrypt(algorithm, context.key.key, concat(divided.secret));
    return join(divided, concat(new Uint8Array(encrypted), header, mark));
  }

  async #current(): Promise<Context | undefined> {
    const keyId = this.#ring.current;
    const base = keyId === undefined ? undefined : this.#ring.base(keyId);
    if (keyId === undefined || !base) return undefined;
    if (this.#context?.keyId !== keyId || this.#context.key.base !== base) {
      const kid = drawKid(keyId);
      this.#context = { kid, keyId, key: await deriveFrameKey(this.#ring.cipher, base, kid) };
      this.#counter = 0n;
    }
    return this.#context;
  }
}

/** Decrypts what one receiver receives, from one sender or several in turn. */
export class FrameDecryptor {
  readonly #ring: KeyRing;
  /** Of those whose frames have proved genuine, the last heard at the end. */
  readonly #contexts = new Map<bigint, { key: FrameKey; window: ReplayWindow }>();

  constructor(ring: KeyRing) {
    this.#ring = ring;
  }

  async decrypt(frame: Uint8Array): Promise<Decrypted> {
    const opened = parse(frame);
    if (!opened) return { failure: 'not-encrypted', keyId: undefined };
    const { kid, counter, encrypted, clear, layout, header } = opened;
    const keyId = keyIdOf(kid);
    const base = this.#ring.base(keyId);
    if (!base) return { failure: 'unknown-key', keyId };
    let context = this.#contexts.get(kid);
    if (context?.key.base !== base) context = { key: await deriveFrameKey(this.#ring.cipher, base, kid), window: new ReplayWindow() };
    if (!context.window.admits(counter)) return { failure: 'replayed', keyId };
    const algorithm = {
      name: 'AES-GCM',
      iv: nonceOf(context.key.salt, BigInt(counter)),
      additionalData: concat(header, Uint8Array.of(layout), authenticated(layout, clear)),
    };
    let secret: ArrayBuffer;
    try {
      secret = await crypto.subtle.decrypt(algorithm, context.key.key, concat(encrypted));
    } catch {
      return { failure: 'wrong-key', keyId };
    }
    context.window.accept(counter);
    this.#contexts.delete(kid);
    this.#contexts.set(kid, context);
    for (const oldest of this.#contexts.keys()) {
      if (this.#contexts.size <= MAX_CONTEXTS) break;
      this.#contexts.delete(oldest);
    }
    return { frame: restore(layout, clear, new Uint8Array(secret)), keyId };
  }
}

interface Opened {
  kid: bigint;
  counter: number;
  layout: number;
  header: Uint8Array;
  clear: Uint8Array;
  encrypted: Uint8Array;
}

/** Finds its parts in an encrypted frame; `undefined` if it is none. */
function parse(frame: Uint8Array): Opened | undefined {
  const layout = layoutOf(frame);
  const trailer = frame[frame.length - 1] ?? 0;
  if (layout === undefined || trailer <= MARK_BYTES || trailer > MAX_HEADER_BYTES + MARK_BYTES) return undefined;
  const parts = part(layout, frame);
  if (!parts || parts.encrypted.length < TAG_BYTES + trailer) return undefined;
  const end = parts.encrypted.length - trailer;
  const header = parts.encrypted.subarray(end, parts.encrypted.length - MARK_BYTES);
  const decoded = decodeHeader(header);
  if (!decoded || decoded.counter > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return { kid: decoded.kid, counter: Number(decoded.counter), layout, header, clear: parts.clear, encrypted: parts.encrypted.subarray(0, end) };
}

