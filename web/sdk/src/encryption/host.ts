import { KeyRing } from './keys.js';
import type { FromWorker, KeyRequest, ToWorker, TransformOptions } from './messages.js';
import { decrypting, encrypting, type Settings } from './pipe.js';

/** The worker's end: the keys, and the transforms that use them. */
export class Host {
  readonly #post: (message: FromWorker) => void;
  readonly #settings = new Map<number, Settings>();
  #ring: KeyRing | undefined;
  /** Requests about keys are done one after the other: deriving one takes its time. */
  #queue: Promise<void> = Promise.resolve();

  constructor(post: (message: FromWorker) => void) {
    this.#post = post;
  }

  onMessage(message: ToWorker): void {
    switch (message.type) {
      case 'add':
      case 'use':
      case 'remove': {
        const done = (error?: string) => this.#post({ type: 'done', request: message.request, error });
        this.#queue = this.#queue.then(() => this.#change(message)).then(
          () => done(),
          (error: unknown) => done(error instanceof Error ? error.message : String(error)),
        );
        break;
      }
      case 'begin':
        this.begin(message.options, message.readable, message.writable, () => {});
        break;
      case 'codecs':
        this.#of(message.transform).codecs = message.codecs;
        break;
      case 'require':
        this.#of(message.transform).required = message.required;
        break;
      case 'end':
        this.#settings.delete(message.transform);
        break;
    }
  }

  /** Runs a transform until its frames end. Messages about it may have come before. */
  begin(options: TransformOptions, readable: ReadableStream, writable: WritableStream, requestKeyFrame: () => void): void {
    const { transform, role, cipher, required } = options;
    const settings = this.#of(transform, required);
    const handlers = { state: (state: Extract<FromWorker, { type: 'state' }>['state']) => this.#post({ type: 'state', transform, state }), requestKeyFrame };
    const ring = this.#keys(cipher);
    const run = role === 'encrypt' ? encrypting(ring, settings, handlers) : decrypting(ring, settings, handlers);
    const forget = () => void this.#settings.delete(transform);
    readable.pipeThrough(new TransformStream({ transform: run })).pipeTo(writable).then(forget, forget);
  }

  async #change(request: KeyRequest): Promise<void> {
    const ring = this.#keys(request.cipher);
    switch (request.type) {
      case 'add':
        return ring.add(request.id, request.key);
      case 'use':
        return ring.use(request.id);
      case 'remove':
        return ring.remove(request.id);
    }
  }

  #keys(cipher: TransformOptions['cipher']): KeyRing {
    this.#ring ??= new KeyRing(cipher);
    return this.#ring;
  }

  #of(transform: number, required = true): Settings {
    const settings = this.#settings.get(transform) ?? { codecs: {}, required };
    this.#settings.set(transform, settings);
    return settings;
  }
}
