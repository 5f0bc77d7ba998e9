import { type Bytes, concat } from './bytes.js';

/** NAL units of H.264 with a part of a picture: 1 (of others) and 5 (of an IDR picture), of Table 7-1. */
const SLICE_TYPES = [1, 5];
/** What stands before each NAL unit in what is authenticated, however it was told apart on the way. */
const START_CODE = Uint8Array.of(0, 0, 1);

/** A NAL unit in a byte stream (ITU-T H.264 Annex B), from its header byte to the byte behind its last one. */
interface Unit {
  start: number;
  end: number;
}

/** The NAL units, without their start codes and without zeros behind them. */
function* unitsOf(stream: Uint8Array): Generator<Unit> {
  let start = -1;
  const until = (end: number): Unit => {
    let last = end;
    while (last > start && stream[last - 1] === 0) last--;
    return { start, end: last };
  };
  for (let i = 0; i + 2 < stream.length; i++) {
    if (stream[i] !== 0 || stream[i + 1] !== 0 || stream[i + 2] !== 1) continue;
    if (start >= 0) yield until(i);
    start = i + 3;
    i += 2;
  }
  if (start >= 0) yield until(stream.length);
}

/** The first NAL unit that has a part of a picture. */
export function firstSlice(stream: Uint8Array): Unit | undefined {
  for (const unit of unitsOf(stream)) if (SLICE_TYPES.includes((stream[unit.start] ?? 0) & 0x1f)) return unit;
  return undefined;
}

/** The NAL units as they are on either side of a way that writes start codes of its own. */
export function canonical(stream: Uint8Array): Bytes {
  const units = [...unitsOf(stream)];
  return concat(...units.flatMap(({ start, end }) => [START_CODE, stream.subarray(start, end)]));
}

/** How many zeros are at the end, two at most. */
function zerosAtEnd(bytes: Uint8Array): number {
  let zeros = 0;
  while (zeros < 2 && zeros < bytes.length && bytes[bytes.length - 1 - zeros] === 0) zeros++;
  return zeros;
}

/** What may follow `before` in a NAL unit: an emulation prevention byte goes wherever there would be a start code (§7.4.1). */
export function escape(before: Uint8Array, bytes: Uint8Array): Bytes {
  // One byte for every two at most.
  const escaped = new Uint8Array(bytes.length + (bytes.length >> 1) + 1);
  let [zeros, length] = [zerosAtEnd(before), 0];
  for (const byte of bytes) {
    if (zeros === 2 && byte <= 3) {
      escaped[length++] = 3;
      zeros = 0;
    }
    escaped[length++] = byte;
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return escaped.slice(0, length);
}

/** Undoes {@link escape}. */
export function unescape(before: Uint8Array, escaped: Uint8Array): Bytes {
  const bytes = new Uint8Array(escaped.length);
  let [zeros, length] = [zerosAtEnd(before), 0];
  for (const byte of escaped) {
    if (zeros === 2 && byte === 3) {
      zeros = 0;
      continue;
    }
    bytes[length++] = byte;
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return bytes.slice(0, length);
}
