import { type ConferenceClient, ConferenceError, type MediaKind, type RemoteStream, type Subscription } from '../../sdk/src/kaigi.js';
import type { Tile } from './tile.js';

/** Waits between attempts to subscribe again, in milliseconds; after the last the stream is given up. */
const RETRY_MS = [1_000, 2_000, 4_000, 8_000];

/**
 * A remote stream and the tile that shows it. `wanted` says whether it should be received; the subscription follows.
 * One that isn't wanted any more is paused, so that it is there at once when it is wanted again.
 */
export class Feed {
  #client: ConferenceClient;
  #subscription: Subscription | undefined;
  #paused = false;
  #wanted = false;
  #working = false;
  #closed = false;
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(
    client: ConferenceClient,
    readonly stream: RemoteStream,
    readonly tile: Tile,
    private readonly encrypted: boolean,
  ) {
    this.#client = client;
    tile.silent = true;
    this.refresh();
  }

  get subscription(): Subscription | undefined {
    return this.#subscription;
  }

  /** Receives the stream, or stops receiving it. */
  want(wanted: boolean): void {
    if (this.#wanted === wanted) return;
    this.#wanted = wanted;
    this.#failures = 0;
    this.tile.silent = !wanted;
    void this.#follow();
  }

  /** Shows what the stream says about itself now. */
  refresh(): void {
    const forward = this.stream.type === 'forward';
    this.tile.picture = this.stream.isActive('video');
    this.tile.microphoneOff = forward && this.stream.source('audio') !== 'screen-cast' && !this.stream.isActive('audio');
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    void this.#subscription?.stop();
    this.tile.close();
  }

  /** Brings the subscription to what is wanted, step by step, until it is there. */
  async #follow(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    clearTimeout(this.#retry);
    try {
      while (!this.#closed) {
        if (this.#wanted && !this.#subscription) await this.#subscribe();
        // What is being made anew can be paused, or not, when it is there again.
        else if (this.#subscription?.recovering === false && this.#wanted === this.#paused) await this.#pause(!this.#wanted);
        else break;
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#working = false;
    }
  }

  async #subscribe(): Promise<void> {
    const allowed = this.#client.info?.permission.subscribe;
    const takes = (kind: MediaKind) => this.stream.has(kind) && allowed?.[kind] !== false;
    if (!takes('audio') && !takes('video')) throw new ConferenceError('refused', 'Your role can’t receive this.');
    if (this.encrypted !== (this.stream.encryption !== undefined)) {
      throw new ConferenceError('refused', this.encrypted ? 'It isn’t encrypted.' : 'It is encrypted, and you joined without its passphrase.');
    }
    this.tile.setState('connecting');
    const subscription = await this.#client.subscribe(this.stream, { audio: takes('audio'), video: takes('video') });
    if (this.#closed) return void subscription.stop();
    this.#subscription = subscription;
    this.#paused = false;
    this.#failures = 0;
    subscription.once('ended', () => this.#onEnded(subscription));
    if (subscription.ended) return this.#onEnded(subscription);
    subscription.on('recovering', () => this.tile.setState('connecting'));
    subscription.on('recovered', () => {
      this.tile.setState('live');
      void this.#follow();
    });
    subscription.on('decryptionfailed', () => this.tile.setState('failed', 'Can’t be decrypted: is the passphrase the same?'));
    subscription.on('decryptionrecovered', () => this.tile.setState('live'));
    this.tile.receive(subscription);
    this.tile.setState('live');
  }

  async #pause(pause: boolean): Promise<void> {
    const subscription = this.#subscription;
    if (!subscription) return;
    const kinds = subscription.stream.getTracks().map(({ kind }) => kind as MediaKind);
    const kind = kinds.length > 1 ? 'av' : (kinds[0] ?? 'av');
    this.#paused = pause;
    try {
      await (pause ? subscription.mute(kind) : subscription.unmute(kind));
    } catch {
      // What can't be paused is ended, and subscribed anew when it is wanted again.
      await subscription.stop();
    }
  }

  #onEnded(subscription: Subscription): void {
    if (this.#subscription !== subscription) return;
    this.#subscription = undefined;
    this.tile.receive(undefined);
    if (this.#closed || this.stream.ended || !this.#wanted) return;
    this.#failed(new ConferenceError('session-failed', 'The connection was interrupted.'));
  }

  #failed(error: unknown): void {
    if (this.#closed || this.stream.ended || !this.#client.info) return;
    const wait = RETRY_MS[this.#failures++];
    if (error instanceof ConferenceError && error.code === 'refused') {
      this.tile.setState('failed', `Not available: ${error.message}`);
    }
    if (wait === undefined) {
      this.tile.setState('failed', error instanceof Error ? error.message : String(error));
      return;
    }
    this.#retry = setTimeout(() => void this.#follow(), wait);
  }
}
