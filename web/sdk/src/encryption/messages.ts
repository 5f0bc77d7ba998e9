// What the page and the worker that encrypts tell each other.

import type { DecryptionFailure } from './frame.js';
import type { Cipher, EncryptionKey } from './keys.js';

/**
 * Why nothing is sent of a track.
 *
 * - `no-key`: there is no key to encrypt with
 * - `unsupported-codec`: frames of the negotiated codec can't be encrypted
 */
export type EncryptionFailure = 'no-key' | 'unsupported-codec';

/** A transform as it begins. Given to `RTCRtpScriptTransform` as its options, or posted. */
export interface TransformOptions {
  /** Names it in messages. */
  transform: number;
  role: 'encrypt' | 'decrypt';
  cipher: Cipher;
  /** What is received has to be encrypted. */
  required: boolean;
}

/** Codecs by their payload types, for browsers whose frames don't say theirs. */
export type PayloadTypes = Record<number, string>;

/** Requests about keys, each answered with its number. */
export type KeyRequest =
  | { type: 'add'; cipher: Cipher; id: number; key: EncryptionKey }
  | { type: 'use'; cipher: Cipher; id: number }
  | { type: 'remove'; cipher: Cipher; id: number };

export type ToWorker =
  | (KeyRequest & { request: number })
  | { type: 'begin'; options: TransformOptions; readable: ReadableStream; writable: WritableStream }
  | { type: 'codecs'; transform: number; codecs: PayloadTypes }
  | { type: 'require'; transform: number; required: boolean }
  | { type: 'end'; transform: number };

/** A transform works, or doesn't. */
export type TransformState =
  | { works: true }
  | { works: false; failure: DecryptionFailure | EncryptionFailure; keyId: number | undefined };

export type FromWorker =
  | { type: 'done'; request: number; error: string | undefined }
  | { type: 'state'; transform: number; state: TransformState };
