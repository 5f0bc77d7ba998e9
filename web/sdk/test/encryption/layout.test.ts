import { describe, expect, it } from 'vitest';
import { escape, unescape } from '../../src/encryption/annexb.js';
import { concat } from '../../src/encryption/bytes.js';
import { FrameDecryptor, FrameEncryptor } from '../../src/encryption/frame.js';
import { KeyRing } from '../../src/encryption/keys.js';
import { bytes, FRAMES, H264_KEY, hex, noise, PPS, SPS } from './frames.js';

const keys = new KeyRing('AES-128-GCM');
await keys.add(0, { raw: noise(16) });
keys.use(0);
const sender = new FrameEncryptor(keys);
const opens = async (sealed: Uint8Array) => new FrameDecryptor(keys).decrypt(sealed);

/** Where start codes are, as packetizers look for them. */
const starts = (stream: Uint8Array) => [...stream.keys()].filter((i) => stream[i] === 0 && stream[i + 1] === 0 && (stream[i + 2] ?? 9) <= 2);

describe('what is seen of an encrypted frame', () => {
  it.each([
    ['Opus', 1],
    ['a VP8 key frame', 10],
    ['a VP8 delta frame', 3],
    ['VP9', 0],
    ['PCMU', 0],
  ])('of %s is its first bytes, %i of them', async (what, length) => {
    const [, codec, frame] = FRAMES.find(([name]) => name === what)!;
    const sealed = (await sender.encrypt(codec, frame))!;
    expect(sealed.slice(0, length)).toEqual(frame.slice(0, length));
    expect(sealed.slice(length, length + 16)).not.toEqual(frame.slice(length, length + 16));
  });

  it('of H.264 are parameter sets, and the header of one slice that has all the rest', async () => {
    const sealed = (await sender.encrypt('h264', H264_KEY))!;
    const clear = 4 + SPS.length + 4 + PPS.length + 4 + 5;
    expect(sealed.slice(0, clear)).toEqual(H264_KEY.slice(0, clear));
    expect(starts(sealed.slice(clear - 2))).toEqual([]);
    expect(sealed.at(-1)).not.toBe(0);
  });

  it('of AV1 are the sequence header, if there is one, and the header of one OBU of the type of frames', async () => {
    const [, , unit] = FRAMES.find(([name]) => name === 'an AV1 key frame')!;
    const sealed = (await sender.encrypt('av1', unit))!;
    // Without the temporal delimiter, which packetizers leave out.
    expect(hex(sealed.slice(0, 6))).toBe('0a0301020332');
    expect((sealed[6]! & 0x7f) | (sealed[7]! << 7)).toBe(sealed.length - 8);
    const [, , delta] = FRAMES.find(([name]) => name === 'an AV1 delta frame')!;
    expect((await sender.encrypt('av1', delta))![0]).toBe(0x32);
  });
});

describe('an encrypted frame is decrypted', () => {
  it('of H.264 when its start codes were written in another way', async () => {
    const sealed = (await sender.encrypt('h264', H264_KEY))!;
    const short = bytes(hex(sealed).replaceAll('00000001', '000001'));
    expect(short.length).toBe(sealed.length - 3);
    expect(await opens(short)).toHaveProperty('frame');
    const altered = short.slice();
    altered[4]! ^= 1;
    expect(await opens(altered)).toMatchObject({ failure: 'wrong-key' });
  });

  it('of AV1 when sizes were written in more bytes', async () => {
    const [, , unit] = FRAMES.find(([name]) => name === 'an AV1 key frame')!;
    const sealed = (await sender.encrypt('av1', unit))!;
    const longer = concat(bytes('0a830001020332'), sealed.slice(6, 7), Uint8Array.of(sealed[7]! | 0x80, 0), sealed.slice(8));
    expect(await opens(longer)).toMatchObject({ frame: unit });
    longer[3]! ^= 1;
    expect(await opens(longer)).toMatchObject({ failure: 'wrong-key' });
  });
});

describe('emulation prevention', () => {
  it.each([
    ['', '000000', '00000300'],
    ['', '000001', '00000301'],
    ['', '000002', '00000302'],
    ['', '000003', '00000303'],
    ['', '000004', '000004'],
    ['', '0000000000', '000003000003' + '00'],
    ['0000', '01', '0301'],
    ['00', '0003', '000303'],
    ['000003', '01', '01'],
  ])('behind %j makes of %s %s', (before, plain, escaped) => {
    const made = escape(bytes(before), bytes(plain));
    expect(hex(made)).toBe(escaped);
    expect(hex(unescape(bytes(before), made))).toBe(plain);
  });

  it('leaves no start code in anything, and is undone', () => {
    for (let seed = 0; seed < 300; seed++) {
      // Mostly zeros and ones.
      const mostlyZeros = noise(200, seed).map((byte) => (byte & 0x0f) >> 2);
      const made = escape(new Uint8Array(), mostlyZeros);
      expect(starts(made)).toEqual([]);
      expect(unescape(new Uint8Array(), made)).toEqual(mostlyZeros);
    }
  });
});
