// The worker's end, with frames that are given to it by hand.
import { describe, expect, it } from 'vitest';
import { Host } from '../../src/encryption/host.js';
import type { FromWorker, TransformOptions } from '../../src/encryption/messages.js';
import type { EncodedFrame } from '../../src/encryption/pipe.js';
import { until } from '../fakes.js';
import { noise } from './frames.js';

const KEY = { raw: noise(32, 3) };
const OTHER = { raw: noise(32, 4) };
const VP8_KEY = Uint8Array.of(0x10, 2, 0, 0x9d, 1, 0x2a, 64, 0, 64, 0, ...noise(50));
const VP8_DELTA = Uint8Array.of(0x31, 2, 0, ...noise(40));

const frame = (data: Uint8Array, metadata: object = { mimeType: 'video/VP8' }, type = (data[0]! & 1) === 0 ? 'key' : 'delta') =>
  ({ data: data.slice().buffer, type, getMetadata: () => metadata }) as EncodedFrame;

/** A worker, and what it has told. */
class Bench {
  readonly told: FromWorker[] = [];
  readonly host = new Host((message) => this.told.push(message));
  keyFrameRequests = 0;
  #requests = 0;

  async ask(request: object): Promise<string | undefined> {
    const number = ++this.#requests;
    this.host.onMessage({ cipher: 'AES-128-GCM', ...request, request: number } as never);
    const answer = () => this.told.find((message) => message.type === 'done' && message.request === number);
    await until(() => answer() !== undefined);
    return (answer() as { error: string | undefined }).error;
  }

  /** Gives a transform frames, and takes what comes out. */
  begin(transform: number, role: TransformOptions['role'], required = true) {
    const [entry, exit] = [new TransformStream(), new TransformStream()];
    const options: TransformOptions = { transform, role, cipher: 'AES-128-GCM', required };
    this.host.begin(options, entry.readable, exit.writable, () => void this.keyFrameRequests++);
    const writer = entry.writable.getWriter();
    const out: EncodedFrame[] = [];
    void (async () => {
      const reader = exit.readable.getReader();
      for (let next = await reader.read(); !next.done; next = await reader.read()) out.push(next.value as EncodedFrame);
    })();
    return { put: (one: EncodedFrame) => void writer.write(one), out, end: () => writer.close() };
  }

  states(transform: number): unknown[] {
    return this.told.flatMap((message) => (message.type === 'state' && message.transform === transform ? [message.state] : []));
  }
}

async function withKey(): Promise<Bench> {
  const bench = new Bench();
  expect(await bench.ask({ type: 'add', id: 0, key: KEY })).toBeUndefined();
  expect(await bench.ask({ type: 'use', id: 0 })).toBeUndefined();
  return bench;
}

describe('keys', () => {
  it('that are not there can not be used', async () => {
    const bench = new Bench();
    expect(await bench.ask({ type: 'use', id: 3 })).toBe('There is no key 3.');
    expect(await bench.ask({ type: 'remove', id: 3 })).toBeUndefined();
  });
});

describe('what is sent', () => {
  it('is encrypted, by the codec that the frame names or that its payload type stands for', async () => {
    const bench = await withKey();
    const sender = bench.begin(1, 'encrypt');
    bench.host.onMessage({ type: 'codecs', transform: 1, codecs: { 96: 'video/VP8' } });
    sender.put(frame(VP8_KEY));
    sender.put(frame(VP8_KEY, { payloadType: 96 }));
    await until(() => sender.out.length === 2);
    for (const { data } of sender.out) {
      expect(new Uint8Array(data).slice(0, 10)).toEqual(VP8_KEY.slice(0, 10));
      expect(data.byteLength).toBeGreaterThan(VP8_KEY.length + 16);
    }
    expect(bench.states(1)).toEqual([{ works: true }]);
  });

  it('is held back if it can not be encrypted, which is told once', async () => {
    const bench = new Bench();
    const sender = bench.begin(1, 'encrypt');
    sender.put(frame(VP8_KEY));
    sender.put(frame(VP8_KEY));
    sender.put(frame(VP8_KEY, { mimeType: 'video/H265' }));
    sender.put(frame(VP8_KEY, {}));
    await until(() => bench.states(1).length === 2);
    expect(sender.out).toEqual([]);
    expect(bench.states(1)).toEqual([
      { works: false, failure: 'no-key', keyId: undefined },
      { works: false, failure: 'unsupported-codec', keyId: undefined },
    ]);
    await bench.ask({ type: 'add', id: 7, key: KEY });
    await bench.ask({ type: 'use', id: 7 });
    sender.put(frame(VP8_KEY));
    await until(() => sender.out.length === 1);
    expect(bench.states(1).at(-1)).toEqual({ works: true });
  });
});

describe('what is received', () => {
  it('is decrypted, and what is not encrypted is kept out', async () => {
    const bench = await withKey();
    const [sender, receiver] = [bench.begin(1, 'encrypt'), bench.begin(2, 'decrypt')];
    receiver.put(frame(VP8_KEY));
    sender.put(frame(VP8_KEY));
    await until(() => sender.out.length === 1);
    receiver.put(sender.out[0]!);
    await until(() => receiver.out.length === 1);
    expect(new Uint8Array(receiver.out[0]!.data)).toEqual(VP8_KEY);
    expect(bench.states(2)).toEqual([{ works: false, failure: 'not-encrypted', keyId: undefined }, { works: true }]);
  });

  it('comes through as it is where nothing has to be encrypted', async () => {
    const bench = await withKey();
    const receiver = bench.begin(2, 'decrypt', false);
    receiver.put(frame(VP8_KEY));
    await until(() => receiver.out.length === 1);
    expect(new Uint8Array(receiver.out[0]!.data)).toEqual(VP8_KEY);
    // Until it has to be.
    bench.host.onMessage({ type: 'require', transform: 2, required: true });
    receiver.put(frame(VP8_KEY));
    await until(() => bench.states(2).length === 2);
    expect(receiver.out).toHaveLength(1);
  });

  it('is kept out all the same if it is encrypted with other keys: it would be noise', async () => {
    const [ann, bob] = [await withKey(), new Bench()];
    const [sender, receiver] = [ann.begin(1, 'encrypt'), bob.begin(2, 'decrypt', false)];
    for (let i = 0; i < 20; i++) sender.put(frame(VP8_DELTA));
    await until(() => sender.out.length === 20);
    for (const one of sender.out) receiver.put(one);
    await until(() => bob.states(2).length === 2);
    expect(bob.states(2).at(-1)).toEqual({ works: false, failure: 'unknown-key', keyId: 0 });
    receiver.put(frame(VP8_KEY));
    await until(() => bob.states(2).length === 3);
    expect(receiver.out.length).toBeLessThan(6);
    expect(new Uint8Array(receiver.out.at(-1)!.data)).toEqual(VP8_KEY);
  });

  it('is shown again from a key frame on, which is asked for', async () => {
    const [ann, bob] = [await withKey(), new Bench()];
    await bob.ask({ type: 'add', id: 0, key: OTHER });
    const [sender, receiver] = [ann.begin(1, 'encrypt'), bob.begin(2, 'decrypt')];
    const pass = async (data: Uint8Array) => {
      const sent = sender.out.length;
      sender.put(frame(data));
      await until(() => sender.out.length > sent);
      receiver.put(sender.out.at(-1)!);
    };
    await pass(VP8_KEY);
    await until(() => bob.states(2).length === 1);
    await bob.ask({ type: 'add', id: 0, key: KEY });
    await pass(VP8_DELTA);
    await until(() => receiver.out.length === 1);
    expect(bob.keyFrameRequests).toBe(1);
    await pass(VP8_DELTA);
    await until(() => receiver.out.length === 2);
    expect(bob.keyFrameRequests).toBe(1);
    expect(bob.states(2)).toEqual([{ works: false, failure: 'wrong-key', keyId: 0 }, { works: true }]);
  });

  it('twice is taken once, and nothing is said of it', async () => {
    const bench = await withKey();
    const [sender, receiver] = [bench.begin(1, 'encrypt'), bench.begin(2, 'decrypt')];
    sender.put(frame(VP8_KEY));
    sender.put(frame(VP8_DELTA));
    await until(() => sender.out.length === 2);
    const again = frame(new Uint8Array(sender.out[0]!.data));
    for (const one of [sender.out[0]!, again, sender.out[1]!]) receiver.put(one);
    await until(() => receiver.out.length === 2);
    expect(bench.states(2)).toEqual([{ works: true }]);
  });
});
