/// <reference path="./worker-inline.d.ts" />
import { Deferred } from '../deferred.js';
import { ConferenceError } from '../errors.js';
import type { DecryptionFailure } from './frame.js';
import { type Cipher, type EncryptionKey, MAX_KEY_ID, MIN_RAW_BYTES } from './keys.js';
import type { EncryptionFailure, FromWorker, KeyRequest, PayloadTypes, ToWorker, TransformOptions, TransformState } from './messages.js';
import { hasScriptTransforms, hasStreams, streamsOf } from './support.js';
import EncryptionWorker from './worker.js?worker&inline';

/** What an {@link Encryption} is made with. */
export interface EncryptionOptions {
  /** `AES-128-GCM` if not said. All who use the same keys use the same. */
  cipher?: Cipher;
  /** @internal */
  createWorker?: () => Worker;
}

/** A media track that is encrypted or decrypted from now on. */
export interface Transform {
  /** What payload types stand for, for browsers whose frames don't tell. */
  useCodecs(codecs: PayloadTypes): void;
  /** Whether what isn't encrypted is let through (false), or kept out. */
  require(required: boolean): void;
  /** Nothing is told of it any more. */
  end(): void;
}

/**
 * End-to-end encryption of audio and video: the keys, and a worker that uses them. What is published with it only those can see and hear who
 * have the same key under the same id; the server forwards it as it is.
 *
 * ```ts
 * const encryption = new Encryption();
 * await encryption.setKey({ passphrase: 'correct horse battery staple', salt: 'monday meeting' });
 * const client = new ConferenceClient({ encryption });
 * ```
 *
 * To change keys while all can see and hear each other, everyone gets the new one first (`addKey` with another id), then those who publish use it
 * (`useKey`), then the old one goes (`removeKey`).
 */
export class Encryption {
  /** How frames are encrypted. */
  readonly cipher: Cipher;
  readonly #createWorker: () => Worker;
  #worker: Worker | undefined;
  readonly #requests = new Map<number, Deferred<void>>();
  readonly #transforms = new Map<number, (state: TransformState) => void>();
  #numbers = 0;
  #current: number | undefined;
  #closed: ConferenceError | undefined;

  constructor(options: EncryptionOptions = {}) {
    this.cipher = options.cipher ?? 'AES-128-GCM';
    this.#createWorker = options.createWorker ?? (() => new EncryptionWorker({ name: 'encryption' }));
  }

  /** Whether this browser can do it. */
  static get supported(): boolean {
    return hasScriptTransforms() || hasStreams();
  }

  /** The id of the key that is encrypted with; undefined without one. */
  get currentKey(): number | undefined {
    return this.#current;
  }

  /** Adds a key and encrypts with it from now on. Rejects as {@link addKey} does. */
  async setKey(key: EncryptionKey, id = 0): Promise<void> {
    await this.addKey(key, id);
    await this.useKey(id);
  }

  /**
   * Adds a key to decrypt with, in the place of one that has the same id (0 to 65,535).
   *
   * Rejects with `invalid-argument` if it is none, `unsupported` if this browser can't do it (or the page's
   * Content-Security-Policy doesn't allow workers from `blob:`), or `invalid-state` if it was closed.
   */
  async addKey(key: EncryptionKey, id = 0): Promise<void> {
    checkId(id);
    checkKey(key);
    await this.#request({ type: 'add', cipher: this.cipher, id, key: 'raw' in key ? { raw: new Uint8Array(key.raw) } : key });
  }

  /** Encrypts with that key from now on. Rejects with `invalid-argument` if it isn't there. */
  async useKey(id: number): Promise<void> {
    checkId(id);
    await this.#request({ type: 'use', cipher: this.cipher, id });
    this.#current = id;
  }

  /** Forgets a key: nothing can be decrypted with it, and nothing is sent any more if it was the one encrypted with. */
  async removeKey(id: number): Promise<void> {
    checkId(id);
    await this.#request({ type: 'remove', cipher: this.cipher, id });
    if (this.#current === id) this.#current = undefined;
  }

  /** Forgets all keys and ends the worker: what was published with it isn't sent any more, what is received stands still. */
  close(): void {
    this.#fail(new ConferenceError('invalid-state', 'The encryption was closed.'));
  }

  /** @internal Throws unless something could be encrypted now. */
  assertReady(): void {
    this.#start();
    if (this.#current === undefined) throw new ConferenceError('invalid-state', 'There is no key to encrypt with.');
  }

  /** @internal Encrypts what is sent. */
  encrypt(sender: RTCRtpSender, told: (failure: EncryptionFailure | undefined) => void): Transform {
    return this.#attach(sender, 'encrypt', true, (state) => told(state.works ? undefined : (state.failure as EncryptionFailure)));
  }

  /** @internal Decrypts what is received; with `required` nothing else comes through. */
  decrypt(receiver: RTCRtpReceiver, required: boolean, told: (failure: DecryptionFailure | undefined, keyId?: number) => void): Transform {
    return this.#attach(receiver, 'decrypt', required, (state) =>
      state.works ? told(undefined) : told(state.failure as DecryptionFailure, state.keyId),
    );
  }

  #attach(target: RTCRtpSender | RTCRtpReceiver, role: TransformOptions['role'], required: boolean, told: (state: TransformState) => void): Transform {
    const worker = this.#start();
    const transform = ++this.#numbers;
    const options: TransformOptions = { transform, role, cipher: this.cipher, required };
    this.#transforms.set(transform, told);
    // At once, before there are frames that could go out as they are.
    if (hasScriptTransforms()) {
      (target as { transform?: unknown }).transform = new RTCRtpScriptTransform(worker, options);
    } else {
      const { readable, writable } = streamsOf(target);
      this.#post({ type: 'begin', options, readable, writable }, [readable, writable]);
    }
    return {
      useCodecs: (codecs) => this.#post({ type: 'codecs', transform, codecs }),
      require: (now) => this.#post({ type: 'require', transform, required: now }),
      end: () => {
        if (this.#transforms.delete(transform)) this.#post({ type: 'end', transform });
      },
    };
  }

  #start(): Worker {
    if (this.#closed) throw this.#closed;
    if (this.#worker) return this.#worker;
    if (!Encryption.supported) throw unsupported('This browser can not encrypt media end to end.');
    const worker = this.#createWorker();
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#onMessage(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(unsupported(`The worker that encrypts can't run: ${event.message || 'the page may not allow workers from blob:'}`));
    };
    this.#worker = worker;
    return worker;
  }

  #onMessage(message: FromWorker): void {
    if (message.type === 'state') return this.#transforms.get(message.transform)?.(message.state);
    const request = this.#requests.get(message.request);
    this.#requests.delete(message.request);
    if (message.error === undefined) request?.resolve();
    else request?.reject(new ConferenceError('invalid-argument', message.error));
  }

  async #request(request: KeyRequest): Promise<void> {
    this.#start();
    const number = ++this.#numbers;
    const done = new Deferred<void>();
    this.#requests.set(number, done);
    this.#post({ ...request, request: number });
    await done.promise;
  }

  #post(message: ToWorker, transferred: Transferable[] = []): void {
    this.#worker?.postMessage(message, transferred);
  }

  #fail(error: ConferenceError): void {
    if (this.#closed) return;
    this.#closed = error;
    this.#current = undefined;
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const request of this.#requests.values()) request.reject(error);
    this.#requests.clear();
    this.#transforms.clear();
  }
}

function unsupported(why: string): ConferenceError {
  return new ConferenceError('unsupported', why);
}

function checkId(id: number): void {
  if (Number.isInteger(id) && id >= 0 && id <= MAX_KEY_ID) return;
  throw new ConferenceError('invalid-argument', `The id of a key is a whole number of at most ${MAX_KEY_ID}; ${id} is none.`);
}

function checkKey(key: EncryptionKey): void {
  if ('passphrase' in key) {
    if (key.passphrase === '' || key.salt === '') throw new ConferenceError('invalid-argument', 'A passphrase and its salt have at least one character.');
  } else if (key.raw.byteLength < MIN_RAW_BYTES) {
    throw new ConferenceError('invalid-argument', `A raw key has at least ${MIN_RAW_BYTES} bytes; this one has ${key.raw.byteLength}.`);
  }
}
