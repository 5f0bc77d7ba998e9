import { beforeAll, describe, expect, it } from 'vitest';
import { concat } from '../../src/encryption/bytes.js';
import { FrameDecryptor, FrameEncryptor } from '../../src/encryption/frame.js';
import { KeyRing } from '../../src/encryption/keys.js';
import { REPLAY_WINDOW } from '../../src/encryption/replay.js';
import { FRAMES, hex, noise } from './frames.js';

const SECRET = { raw: noise(32, 7) };
const OTHER = { raw: noise(32, 8) };
const VP8 = FRAMES[3]![2];

async function ring(keys: [number, { raw: Uint8Array }][] = [[0, SECRET]], current = 0): Promise<KeyRing> {
  const made = new KeyRing('AES-128-GCM');
  for (const [id, key] of keys) await made.add(id, key);
  made.use(current);
  return made;
}

/** One who sends and one who receives, with the same keys. */
async function pair(): Promise<{ keys: KeyRing; sender: FrameEncryptor; receiver: FrameDecryptor }> {
  const keys = await ring();
  return { keys, sender: new FrameEncryptor(keys), receiver: new FrameDecryptor(keys) };
}

const seal = async (sender: FrameEncryptor, frame = VP8) => (await sender.encrypt('vp8', frame))!;

describe('a frame', () => {
  it.each(FRAMES)('(%s) comes out as it went in, and nothing of it is seen on its way', async (_, codec, frame) => {
    const { sender, receiver } = await pair();
    const sealed = (await sender.encrypt(codec, frame))!;
    expect(await receiver.decrypt(sealed)).toEqual({ frame, keyId: 0 });
    const secret = frame.slice(-24);
    if (frame.length > 60) expect(hex(sealed)).not.toContain(hex(secret));
  });

  it('is never encrypted with the same nonce by two who share the key, or twice by one', async () => {
    const keys = await ring();
    const senders = [new FrameEncryptor(keys), new FrameEncryptor(keys)];
    const sealed = [];
    for (const sender of [...senders, ...senders]) sealed.push(hex(await seal(sender)));
    expect(new Set(sealed.map((frame) => frame.slice(6, -50))).size).toBe(4);
  });

  it('is cut short by nothing that is worth more than its overhead', async () => {
    const { sender } = await pair();
    expect((await seal(sender)).length - VP8.length).toBeLessThanOrEqual(16 + 1 + 8 + 1 + 2);
  });

  it('of which any byte was altered is refused', async () => {
    for (const [what, codec, frame] of FRAMES) {
      const { sender, receiver } = await pair();
      const sealed = (await sender.encrypt(codec, frame))!;
      for (let at = 0; at < sealed.length; at++) {
        const altered = sealed.slice();
        altered[at]! ^= 0x11;
        // How start codes and sizes are written is up to the way.
        if (codec === 'h264' && sealed[at]! <= 1) continue;
        if (codec === 'av1' && at < 8) continue;
        const result = await receiver.decrypt(altered);
        expect('failure' in result && result.failure, `${what}, byte ${at} of ${sealed.length}`).toMatch(/^(wrong-key|unknown-key|not-encrypted)$/);
      }
      expect(await receiver.decrypt(sealed), what).toMatchObject({ keyId: 0 });
    }
  });

  it('that lost its end, or is none at all, is not taken for an encrypted one', async () => {
    const { sender, receiver } = await pair();
    const sealed = await seal(sender);
    for (let length = 0; length < sealed.length; length++) expect(await receiver.decrypt(sealed.slice(0, length))).toHaveProperty('failure');
    for (const [, , plain] of FRAMES) expect(await receiver.decrypt(plain)).toMatchObject({ failure: expect.stringMatching(/not-encrypted|unknown-key/) });
    for (let seed = 0; seed < 500; seed++) expect(await receiver.decrypt(noise(seed % 60, seed))).toHaveProperty('failure');
  });

  it('of another key is refused, whether there is one of its id or not', async () => {
    const { sender } = await pair();
    const sealed = await seal(sender);
    expect(await new FrameDecryptor(await ring([[0, OTHER]])).decrypt(sealed)).toEqual({ failure: 'wrong-key', keyId: 0 });
    expect(await new FrameDecryptor(await ring([[3, SECRET]], 3)).decrypt(sealed)).toEqual({ failure: 'unknown-key', keyId: 0 });
  });

  it('is not made without a key, nor of what is no frame of its codec', async () => {
    const { keys, sender } = await pair();
    expect(await sender.encrypt('h264', noise(40).map((byte) => byte | 2))).toBeUndefined();
    keys.remove(0);
    expect(await sender.encrypt('vp8', VP8)).toBeUndefined();
    expect(() => keys.use(0)).toThrow('There is no key 0.');
  });
});

describe('a frame that comes', () => {
  let sealed: Uint8Array[];
  const keys = ring();

  beforeAll(async () => {
    const sender = new FrameEncryptor(await keys);
    sealed = [];
    for (let i = 0; i < REPLAY_WINDOW + 50; i++) sealed.push(await seal(sender));
  });

  it('again is refused, late is taken', async () => {
    const receiver = new FrameDecryptor(await keys);
    const decrypt = async (i: number) => ('frame' in (await receiver.decrypt(sealed[i]!)) ? 'taken' : 'refused');
    expect(await decrypt(0)).toBe('taken');
    expect(await decrypt(0)).toBe('refused');
    expect(await decrypt(20)).toBe('taken');
    expect(await decrypt(7)).toBe('taken');
    expect(await decrypt(7)).toBe('refused');
    const last = sealed.length - 1;
    expect(await decrypt(last)).toBe('taken');
    expect(await decrypt(last)).toBe('refused');
    // So far back it can't be told any more.
    expect(await decrypt(8)).toBe('refused');
    expect(await decrypt(last - REPLAY_WINDOW + 1)).toBe('taken');
    expect(await receiver.decrypt(sealed[last]!)).toEqual({ failure: 'replayed', keyId: 0 });
  });

  it('altered with a number far ahead does not shut out those that follow', async () => {
    const receiver = new FrameDecryptor(await keys);
    const header = sealed[0]!.length - 3;
    const forged = sealed[0]!.slice();
    forged[header - 7]! ^= 0x07;
    expect(await receiver.decrypt(forged)).toHaveProperty('failure');
    expect(await receiver.decrypt(sealed[1]!)).toHaveProperty('frame');
  });
});

describe('keys', () => {
  it('can be changed without losing a frame', async () => {
    const mine = await ring();
    const theirs = await ring();
    const [sender, receiver] = [new FrameEncryptor(mine), new FrameDecryptor(theirs)];
    const arrives = async () => 'frame' in (await receiver.decrypt(await seal(sender)));
    expect(await arrives()).toBe(true);
    const late = await seal(sender);
    await theirs.add(1, OTHER);
    await mine.add(1, OTHER);
    mine.use(1);
    const first = await seal(sender);
    expect(await receiver.decrypt(first)).toMatchObject({ keyId: 1 });
    // One that was sent before comes late.
    expect(await receiver.decrypt(late)).toMatchObject({ keyId: 0, frame: VP8 });
    theirs.remove(0);
    mine.remove(0);
    expect(await arrives()).toBe(true);
    expect(await receiver.decrypt(late)).toEqual({ failure: 'unknown-key', keyId: 0 });
  });

  it('in the place of another with the same id are used at both ends', async () => {
    const mine = await ring();
    const theirs = await ring();
    const [sender, receiver] = [new FrameEncryptor(mine), new FrameDecryptor(theirs)];
    expect(await receiver.decrypt(await seal(sender))).toHaveProperty('frame');
    await mine.add(0, OTHER);
    expect(await receiver.decrypt(await seal(sender))).toEqual({ failure: 'wrong-key', keyId: 0 });
    await theirs.add(0, OTHER);
    expect(await receiver.decrypt(await seal(sender))).toHaveProperty('frame');
  });

  it('of 256 bits serve as those of 128', async () => {
    const keys = new KeyRing('AES-256-GCM');
    await keys.add(65_535, SECRET);
    keys.use(65_535);
    const sealed = (await new FrameEncryptor(keys).encrypt('opus', concat(VP8)))!;
    expect(await new FrameDecryptor(keys).decrypt(sealed)).toEqual({ frame: VP8, keyId: 65_535 });
    expect(await new FrameDecryptor(await ring([[65_535, SECRET]], 65_535)).decrypt(sealed)).toMatchObject({ failure: 'wrong-key' });
  });
});
