import { canonical, escape, firstSlice, unescape } from './annexb.js';
import { type Bytes, concat } from './bytes.js';
import { frameObu, isFrame, leadingSequenceHeader, readObu, writeObu } from './obu.js';

/**
 * How an encrypted frame lies in a codec's frame, told by its last byte but one:
 *
 * - up to 15: so many bytes at the beginning are in the clear;
 * - 0x40 and more (H.264): everything is in the clear up to the first slice and so many bytes of that, header included; what follows is escaped;
 * - 0x80 (AV1): the encrypted temporal unit is the payload of one OBU; before it is, in the clear, the sequence header that the unit begins with, if
 *   it does: by that packetizers know key frames.
 *
 * Neither this byte nor the one behind it may be below 4, as far as H.264 is concerned: nothing is escaped there, so that it can be read first.
 */
const SLICE = 0x40;
const OBU = 0x80;

/** Clear bytes of a VP8 frame (RFC 6386 §9.1): the frame tag, of key frames also start code and size. */
const VP8_KEY_BYTES = 10;
const VP8_DELTA_BYTES = 3;
/** Clear bytes of an Opus packet: the TOC byte (RFC 6716 §3.1). */
const OPUS_BYTES = 1;
/** Clear bytes of an H.264 slice: its header byte, and what names its picture parameter set (§7.3.3), at most 25 bits. */
const SLICE_BYTES = 5;

/** A frame as it is encrypted. */
export interface Split {
  layout: number;
  /** What is left in the clear, as it goes out. */
  clear: Uint8Array;
  /** What is encrypted. */
  secret: Uint8Array;
}

/** Codecs whose frames can be encrypted, by the names in SDP, in lower case. */
export const ENCRYPTABLE = ['opus', 'pcmu', 'pcma', 'g722', 'vp8', 'vp9', 'h264', 'av1'] as const;
export type EncryptableCodec = (typeof ENCRYPTABLE)[number];

/** Divides a frame of that codec; `undefined` if it is no such frame. */
export function split(codec: EncryptableCodec, frame: Uint8Array): Split | undefined {
  const after = (length: number, layout = Math.min(length, frame.length)): Split => ({
    layout,
    clear: frame.subarray(0, length),
    secret: frame.subarray(length),
  });
  switch (codec) {
    case 'opus':
      return after(OPUS_BYTES);
    case 'vp8':
      return after(((frame[0] ?? 1) & 1) === 0 ? VP8_KEY_BYTES : VP8_DELTA_BYTES);
    case 'h264': {
      const slice = firstSlice(frame);
      if (!slice) return undefined;
      const shown = Math.min(SLICE_BYTES, slice.end - slice.start);
      return after(slice.start + shown, SLICE | shown);
    }
    case 'av1': {
      const sequence = leadingSequenceHeader(frame);
      return { layout: OBU, clear: sequence ? writeObu(sequence) : new Uint8Array(), secret: frame };
    }
    // Of these a payload descriptor tells everything, or there is nothing to be told.
    case 'vp9':
    case 'pcmu':
    case 'pcma':
    case 'g722':
      return after(0);
  }
}

/** What of the clear bytes is the same at both ends, and is therefore authenticated. */
export function authenticated(layout: number, clear: Uint8Array): Uint8Array {
  return isSlice(layout) ? canonical(clear) : clear;
}

/** Puts a frame together whose secret is encrypted. */
export function join({ layout, clear }: Split, encrypted: Uint8Array): Bytes {
  if (isSlice(layout)) return concat(clear, escape(clear, encrypted));
  if (layout === OBU) return concat(clear, frameObu(encrypted));
  return concat(clear, encrypted);
}

/** The layout of a frame that was put together; `undefined` if it has none. */
export function layoutOf(frame: Uint8Array): number | undefined {
  const layout = frame[frame.length - 2];
  if (layout === undefined) return undefined;
  return layout < 16 || layout === OBU || isSlice(layout) ? layout : undefined;
}

/** Takes a frame of that layout apart again; `undefined` if it can't have it. */
export function part(layout: number, frame: Uint8Array): { clear: Uint8Array; encrypted: Uint8Array } | undefined {
  if (isSlice(layout)) {
    const slice = firstSlice(frame);
    if (!slice) return undefined;
    const at = slice.start + (layout & ~SLICE);
    const clear = frame.subarray(0, at);
    return { clear, encrypted: unescape(clear, frame.subarray(at)) };
  }
  if (layout === OBU) {
    const sequence = leadingSequenceHeader(frame);
    const obu = readObu(frame, sequence?.end ?? 0);
    if (!obu || !isFrame(obu) || obu.end !== frame.length) return undefined;
    return { clear: sequence ? writeObu(sequence) : new Uint8Array(), encrypted: obu.payload };
  }
  return { clear: frame.subarray(0, layout), encrypted: frame.subarray(layout) };
}

/** What the decoder is given: the clear bytes belong to the frame, but for a sequence header, which was encrypted too. */
export function restore(layout: number, clear: Uint8Array, secret: Uint8Array): Bytes {
  return layout === OBU ? concat(secret) : concat(clear, secret);
}

function isSlice(layout: number): boolean {
  return layout > SLICE && layout <= (SLICE | SLICE_BYTES);
}
