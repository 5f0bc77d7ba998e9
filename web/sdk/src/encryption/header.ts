import { type Bytes, bigEndian, concat } from './bytes.js';

/** The header of an SFrame (RFC 9605 §4.3): which key, and the number of the frame under it. */
export interface Header {
  /** Up to 64 bits. */
  kid: bigint;
  /** Up to 64 bits. */
  counter: bigint;
}

/** The longest header: the configuration byte, and two numbers of 64 bits. */
export const MAX_HEADER_BYTES = 17;

/** A number below 8 goes into three bits of the configuration byte, a larger one behind that in as few bytes as it needs. */
function encodeNumber(value: bigint): { bits: number; bytes: Bytes } {
  if (value < 8n) return { bits: Number(value), bytes: new Uint8Array() };
  let length = 1;
  while (value >> BigInt(8 * length) > 0n) length++;
  return { bits: 0x8 | (length - 1), bytes: bigEndian(value, length) };
}

export function encodeHeader({ kid, counter }: Header): Bytes {
  const key = encodeNumber(kid);
  const count = encodeNumber(counter);
  return concat(Uint8Array.of((key.bits << 4) | count.bits), key.bytes, count.bytes);
}

/** Reads a header that the bytes consist of; `undefined` if they are none, or not all of it. */
export function decodeHeader(bytes: Uint8Array): Header | undefined {
  const configuration = bytes[0];
  if (configuration === undefined) return undefined;
  let at = 1;
  const decodeNumber = (bits: number): bigint => {
    if ((bits & 0x8) === 0) return BigInt(bits);
    let value = 0n;
    for (const end = at + (bits & 0x7) + 1; at < end; at++) value = (value << 8n) | BigInt(bytes[at] ?? 0);
    return value;
  };
  const kid = decodeNumber(configuration >> 4);
  const counter = decodeNumber(configuration & 0xf);
  return at === bytes.length ? { kid, counter } : undefined;
}
