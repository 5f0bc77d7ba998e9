import { type Bytes, concat } from './bytes.js';

/** Types of OBUs (AV1 §6.2.2). */
export const OBU_SEQUENCE_HEADER = 1;
const OBU_TEMPORAL_DELIMITER = 2;
const OBU_FRAME = 6;

const EXTENSION_FLAG = 0x04;
const SIZE_FLAG = 0x02;

/** An OBU in the low-overhead format (AV1 §5.2), in which sizes may be written in more bytes than they need, or the last one left out. */
export interface Obu {
  type: number;
  /** Header, with its extension if it has one. */
  header: Uint8Array;
  payload: Uint8Array;
  /** Behind its last byte. */
  end: number;
}

/** The OBU that begins there; `undefined` if there is none, or not all of it. */
export function readObu(stream: Uint8Array, start: number): Obu | undefined {
  const first = stream[start];
  if (first === undefined) return undefined;
  let at = start + ((first & EXTENSION_FLAG) === 0 ? 1 : 2);
  const header = stream.subarray(start, at);
  let size = stream.length - at;
  if ((first & SIZE_FLAG) !== 0) {
    size = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = stream[at++];
      if (byte === undefined || shift > 28) return undefined;
      size += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) break;
    }
  }
  const end = at + size;
  return end <= stream.length ? { type: (first >> 3) & 0xf, header, payload: stream.subarray(at, end), end } : undefined;
}

/** The sequence header with which the frames of a temporal unit begin, if they do. */
export function leadingSequenceHeader(unit: Uint8Array): Obu | undefined {
  const first = readObu(unit, 0);
  const next = first?.type === OBU_TEMPORAL_DELIMITER ? readObu(unit, first.end) : first;
  return next?.type === OBU_SEQUENCE_HEADER ? next : undefined;
}

/** An OBU with its size, in as few bytes as it needs. */
export function writeObu({ header, payload }: Pick<Obu, 'header' | 'payload'>): Bytes {
  const sized = header.slice();
  sized[0] = (sized[0] ?? 0) | SIZE_FLAG;
  return concat(sized, leb128(payload.length), payload);
}

/** An OBU that packetizers leave whole. */
export function frameObu(payload: Uint8Array): Bytes {
  return writeObu({ header: Uint8Array.of(OBU_FRAME << 3), payload });
}

export function isFrame(obu: Obu): boolean {
  return obu.type === OBU_FRAME;
}

function leb128(value: number): Bytes {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    const last = rest < 0x80;
    bytes.push(last ? rest : (rest & 0x7f) | 0x80);
    if (last) return Uint8Array.from(bytes);
  }
}
