// Runs in the browser: publishes and subscribes encrypted end to end.
import type { Look, Rgb } from '../harness/colours';
import type * as Sdk from '../../../web/sdk/src/kaigi';
import { Screen, hum, paint } from './media.js';

/** What is published, and how. */
export interface SealedWish {
  look: Look;
  /** Put before all others. */
  codec?: string;
  layers?: RTCRtpEncodingParameters[];
  /** In the clear. */
  plain?: boolean;
}

// Browsers without the standard's way have the one before.
if (new URLSearchParams(location.search).has('streams')) Reflect.deleteProperty(window, 'RTCRtpScriptTransform');
const { ConferenceClient, Encryption, LocalStream } = (await import(new URL('/sdk/kaigi.js', location.href).href)) as typeof Sdk;

declare global {
  interface Window {
    sealed: Sealed;
  }
}

export class Sealed {
  readonly #encryption = new Encryption();
  /** Without `key` in its address the page knows nothing of encryption. */
  readonly #client = new ConferenceClient(new URLSearchParams(location.search).has('key') ? { encryption: this.#encryption } : {});
  #publication: Sdk.Publication | undefined;
  #subscription: Sdk.Subscription | undefined;
  #screen: Screen | undefined;
  readonly #told: string[] = [];

  async join(token: string, passphrase?: string): Promise<void> {
    if (passphrase !== undefined) await this.#encryption.setKey({ passphrase, salt: 'test' });
    await this.#client.join(token);
  }

  /** Adds a raw key, all of whose bytes are that. */
  addKey(id: number, byte: number): Promise<void> {
    return this.#encryption.addKey({ raw: new Uint8Array(32).fill(byte) }, id);
  }

  /** Adds a key in the place of the first. */
  replaceKey(passphrase: string): Promise<void> {
    return this.#encryption.addKey({ passphrase, salt: 'test' });
  }

  useKey(id: number): Promise<void> {
    return this.#encryption.useKey(id);
  }

  removeKey(id: number): Promise<void> {
    return this.#encryption.removeKey(id);
  }

  async publish({ look, codec, layers, plain }: SealedWish): Promise<string> {
    const size = layers ? { width: 1280, height: 720, framerate: 10, noise: true } : {};
    const stream = new LocalStream(new MediaStream([hum(look.tone), paint(look.colour, size)]));
    const video = { ...(codec && { codecs: [codec] }), ...(layers && { encodings: layers }) };
    this.#publication = await this.#client.publish(stream, { video, ...(plain && { encryption: false }) });
    const publication = this.#publication;
    publication.on('encryptionfailed', ({ kind, reason }) => this.#told.push(`${kind} not sent: ${reason}`));
    publication.on('encryptionrecovered', ({ kind }) => this.#told.push(`${kind} sent`));
    return publication.id;
  }

  mix(view: string): Promise<void> {
    return this.#of(this.#publication).mix(view);
  }

  /** Whether a stream says that it is encrypted; undefined while it isn't there. */
  says(id: string): string | undefined {
    const stream = this.#client.info?.streams.get(id);
    return stream && (stream.encryption ?? 'nothing');
  }

  async subscribe(id: string, options: { raw?: boolean } = {}): Promise<void> {
    this.#subscription = await this.#client.subscribe(id, options.raw ? { encryption: false } : {});
    const subscription = this.#subscription;
    subscription.on('decryptionfailed', ({ kind, reason, keyId }) => this.#told.push(`${kind} ${reason} ${keyId}`));
    subscription.on('decryptionrecovered', ({ kind }) => this.#told.push(`${kind} recovered`));
    this.#screen = new Screen(subscription.stream);
  }

  update(update: Sdk.SubscriptionUpdate): Promise<void> {
    return this.#of(this.#subscription).update(update);
  }

  async unsubscribe(): Promise<void> {
    await this.#subscription?.stop();
    this.#screen?.remove();
  }

  told(): string[] {
    return this.#told;
  }

  frames(): number {
    return this.#of(this.#screen).frames();
  }

  colour(): Rgb | undefined {
    return this.#of(this.#screen).colours([[0.5, 0.5]])[0];
  }

  levels(tones: number[]): number[] {
    return this.#of(this.#screen).levels(tones);
  }

  /** Of the picture: how it is coded, how wide it is, how many frames were decoded and how many of them not. */
  async video(): Promise<{ codec: string; width: number; decoded: number; received: number }> {
    const stats = [...(await this.#of(this.#subscription).getStats()).values()] as unknown as Record<string, never>[];
    const inbound = stats.find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
    const codec = stats.find(({ id }) => id === inbound?.codecId);
    return {
      codec: String(codec?.mimeType).toLowerCase().replace('video/', ''),
      width: inbound?.frameWidth ?? 0,
      decoded: inbound?.framesDecoded ?? 0,
      received: inbound?.packetsReceived ?? 0,
    };
  }

  #of<T>(what: T | undefined): T {
    if (what === undefined) throw new Error('there is none yet');
    return what;
  }
}

window.sealed = new Sealed();
