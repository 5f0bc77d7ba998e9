// Frames as encoders make them, as far as anybody on the way looks at them.
import { concat } from '../../src/encryption/bytes.js';
import type { EncryptableCodec } from '../../src/encryption/layout.js';

/** Bytes that look like nothing, the same every time. */
export function noise(length: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => (state = (state * 1_103_515_245 + 12_345) & 0x7fffffff) >> 16);
}

const START = Uint8Array.of(0, 0, 0, 1);
const SHORT_START = Uint8Array.of(0, 0, 1);
export const SPS = Uint8Array.of(0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40);
export const PPS = Uint8Array.of(0x68, 0xce, 0x3c, 0x80);
/** Without emulation of start codes, as encoders write them. */
const slice = (header: number, length: number) => concat(Uint8Array.of(header, 0x88), noise(length).map((byte) => byte | 4));

/** An IDR picture of two slices with its parameter sets. */
export const H264_KEY = concat(START, SPS, START, PPS, START, slice(0x65, 300), SHORT_START, slice(0x65, 200));

export const FRAMES: [string, EncryptableCodec, Uint8Array][] = [
  ['Opus', 'opus', concat(Uint8Array.of(0x78), noise(80))],
  ['Opus in silence', 'opus', Uint8Array.of(0x78)],
  ['a VP8 key frame', 'vp8', concat(Uint8Array.of(0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01), noise(500))],
  ['a VP8 delta frame', 'vp8', concat(Uint8Array.of(0x31, 0x02, 0x00), noise(90))],
  ['a VP8 frame of one byte', 'vp8', Uint8Array.of(0x31)],
  ['VP9', 'vp9', noise(200)],
  ['an H.264 key frame', 'h264', H264_KEY],
  ['an H.264 delta frame', 'h264', concat(START, slice(0x41, 40))],
  ['the shortest H.264 frame', 'h264', concat(SHORT_START, Uint8Array.of(0x41, 0x9a))],
  ['an AV1 key frame', 'av1', concat(Uint8Array.of(0x12, 0x00, 0x0a, 0x03, 1, 2, 3, 0x30), noise(400))],
  ['an AV1 delta frame', 'av1', concat(Uint8Array.of(0x12, 0x00, 0x32, 200, 1), noise(200))],
  ['PCMU', 'pcmu', noise(160)],
];

/** As text, to be compared and searched. */
export const hex = (bytes: ArrayBuffer | Uint8Array) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');

export const bytes = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
