import { ConferenceError } from './errors.js';

/** How a data channel carries messages; without `maxRetransmits` and `maxPacketLifeTime` it is reliable. */
export interface DataOptions {
  /** Whether messages arrive in the order in which they were sent; true if not said. */
  ordered?: boolean;
  /** How often a lost message is sent again before it is given up. Excludes `maxPacketLifeTime`. */
  maxRetransmits?: number;
  /** For how long a message is tried to be sent, in milliseconds. Excludes `maxRetransmits`. */
  maxPacketLifeTime?: number;
}

/** What can be sent: a text, or bytes. */
export type DataMessage = string | ArrayBuffer | Uint8Array;

/** The largest message, in bytes (of UTF-8 for a text). */
export const MAX_DATA_BYTES = 65_536;
/** Above so many bytes under way a sender is asked to wait, until no more than `LOW_WATER_BYTES` are left. */
const HIGH_WATER_BYTES = 1_048_576;
const LOW_WATER_BYTES = 262_144;
/** So many bytes under way are the most; browsers close a channel that has 16 MiB. */
const MAX_BUFFERED_BYTES = 8_388_608;

/** So many calls of `send` wait at most: for the channel to open, or for room. */
const MAX_WAITING = 1_024;

/** The channel's settings as the browser takes them. Throws `invalid-argument` for settings that exclude each other. */
export function channelInit(options: DataOptions | true): RTCDataChannelInit {
  const { ordered = true, maxRetransmits, maxPacketLifeTime } = options === true ? {} : options;
  if (maxRetransmits !== undefined && maxPacketLifeTime !== undefined) {
    throw new ConferenceError('invalid-argument', 'A data channel has maxRetransmits or maxPacketLifeTime, not both.');
  }
  const init: RTCDataChannelInit = { ordered };
  if (maxRetransmits !== undefined) init.maxRetransmits = maxRetransmits;
  if (maxPacketLifeTime !== undefined) init.maxPacketLifeTime = maxPacketLifeTime;
  return init;
}

/** The sending end of a publication's data: over one channel after another, when the publication is made anew. */
export class DataSender {
  #channel: RTCDataChannel | undefined;
  #waiting: { resolve: () => void; reject: (error: ConferenceError) => void }[] = [];

  /** Bytes that were given to `send` and haven't left this machine. */
  get bufferedAmount(): number {
    return this.#channel?.bufferedAmount ?? 0;
  }

  /** Sends over another channel from now on; `undefined` while there is none. Who waits for the old one fails. */
  use(channel: RTCDataChannel | undefined): void {
    this.#settle(new ConferenceError('disconnected', 'The data channel was closed before everything was sent.'));
    this.#channel = channel;
    if (!channel) return;
    channel.bufferedAmountLowThreshold = LOW_WATER_BYTES;
    const current = (then: () => void) => () => this.#channel === channel && then();
    channel.onopen = current(() => this.#settle());
    channel.onbufferedamountlow = current(() => this.#settle());
    channel.onclose = current(() => this.#settle(new ConferenceError('disconnected', 'The data channel was closed.')));
  }

  /** Sends one message at once, and resolves when there is room for the next. */
  async send(message: DataMessage): Promise<void> {
    const size = sizeOf(message);
    if (size > MAX_DATA_BYTES) {
      throw new ConferenceError('invalid-argument', `A message has ${size} bytes; the most are ${MAX_DATA_BYTES}.`);
    }
    if (this.#waiting.length >= MAX_WAITING) {
      throw new ConferenceError('overloaded', 'Too many messages wait to be sent; await what `send` returns.');
    }
    const channel = this.#channel;
    if (channel?.readyState === 'connecting') {
      await this.#wait();
      return this.send(message);
    }
    if (channel?.readyState !== 'open') throw new ConferenceError('disconnected', 'The data channel is not open.');
    if (channel.bufferedAmount + size > MAX_BUFFERED_BYTES) {
      throw new ConferenceError('overloaded', 'Too much data waits to be sent; await what `send` returns.');
    }
    try {
      channel.send(message as string & ArrayBufferView<ArrayBuffer>);
    } catch (cause) {
      throw new ConferenceError('disconnected', 'The data channel takes no message.', { cause });
    }
    if (channel.bufferedAmount > HIGH_WATER_BYTES) await this.#wait();
  }

  #wait(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #settle(error?: ConferenceError): void {
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (error) reject(error);
      else resolve();
    }
  }
}

function sizeOf(message: DataMessage): number {
  return typeof message === 'string' ? new TextEncoder().encode(message).length : message.byteLength;
}
