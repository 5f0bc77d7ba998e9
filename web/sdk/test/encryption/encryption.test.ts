// The page's end, with a worker and transceivers that are played by the test.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Encryption } from '../../src/encryption/encryption.js';
import type { ToWorker, TransformState } from '../../src/encryption/messages.js';
import { LocalStream } from '../../src/streams.js';
import { Bench, fakeMedia, FakeMediaStream, FakeTransceiver, settle } from '../fakes.js';

class FakeWorker {
  readonly posted: ToWorker[] = [];
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onerror: ((event: { message: string; preventDefault(): void }) => void) | null = null;
  refuses: string | undefined;
  terminated = false;

  postMessage(message: ToWorker): void {
    this.posted.push(message);
    if ('request' in message) queueMicrotask(() => this.onmessage?.({ data: { type: 'done', request: message.request, error: this.refuses } }));
  }

  terminate(): void {
    this.terminated = true;
  }

  tell(transform: number, state: TransformState): void {
    this.onmessage?.({ data: { type: 'state', transform, state } });
  }
}

interface FakeTransform {
  options: { transform: number; role: string; required: boolean };
}

const RAW = { raw: new Uint8Array(16) };
let worker: FakeWorker;

beforeEach(() => {
  vi.stubGlobal('MediaStream', FakeMediaStream);
  vi.stubGlobal('RTCRtpSender', class { set transform(_: unknown) {} });
  vi.stubGlobal('RTCRtpScriptTransform', class { constructor(readonly worker: unknown, readonly options: unknown) {} });
});
afterEach(() => vi.unstubAllGlobals());

function encryption(): Encryption {
  worker = new FakeWorker();
  return new Encryption({ createWorker: () => worker as unknown as Worker });
}

async function ready(): Promise<Encryption> {
  const made = encryption();
  await made.setKey(RAW);
  return made;
}

/** What the senders or receivers of a bench's transceivers are transformed by. */
const transforms = (bench: Bench, side: 'sender' | 'receiver') =>
  bench.connection.transceivers.flatMap((transceiver) => ((transceiver[side] as { transform?: FakeTransform }).transform ?? []));

const stream = (more: object = {}) => ({ id: 'remote', type: 'forward', media: { tracks: [{ type: 'audio' }, { type: 'video' }] }, info: { owner: 'other', ...more } });

describe('keys', () => {
  it('are added, used and removed', async () => {
    const made = encryption();
    expect(made.currentKey).toBeUndefined();
    await made.setKey({ passphrase: 'words', salt: 'here' }, 4);
    expect(made.currentKey).toBe(4);
    await made.addKey(RAW, 5);
    await made.removeKey(5);
    expect(made.currentKey).toBe(4);
    await made.removeKey(4);
    expect(made.currentKey).toBeUndefined();
    expect(worker.posted.map(({ type }) => type)).toEqual(['add', 'use', 'add', 'remove', 'remove']);
  });

  it.each([
    ['an id that is none', () => encryption().addKey(RAW, 1.5)],
    ['an id that is too large', () => encryption().useKey(65_536)],
    ['a raw key that is too short', () => encryption().setKey({ raw: new Uint8Array(15) })],
    ['an empty passphrase', () => encryption().setKey({ passphrase: '', salt: 'a' })],
    ['an empty salt', () => encryption().setKey({ passphrase: 'a', salt: '' })],
  ])('are refused with %s', async (_, call) => {
    await expect(call()).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('that the worker refuses are not used', async () => {
    const made = encryption();
    worker.refuses = 'There is no key 2.';
    await expect(made.useKey(2)).rejects.toMatchObject({ code: 'invalid-argument', message: 'There is no key 2.' });
    expect(made.currentKey).toBeUndefined();
  });

  it('are of no use in a browser that can not do it, or with a worker that can not run', async () => {
    const made = await ready();
    worker.onerror?.({ message: '', preventDefault: () => {} });
    await expect(made.setKey(RAW)).rejects.toMatchObject({ code: 'unsupported' });
    expect(worker.terminated).toBe(true);
    vi.unstubAllGlobals();
    expect(Encryption.supported).toBe(false);
    await expect(encryption().setKey(RAW)).rejects.toMatchObject({ code: 'unsupported' });
  });

  it('are forgotten when it is closed', async () => {
    const made = await ready();
    made.close();
    expect(made.currentKey).toBeUndefined();
    await expect(made.setKey(RAW)).rejects.toMatchObject({ code: 'invalid-state' });
  });
});

describe('publishing', () => {
  it('encrypts all tracks before anything is offered, and says so', async () => {
    const bench = await Bench.joined(undefined, { encryption: await ready() });
    const publishing = bench.client.publish(new LocalStream(fakeMedia('audio', 'video'), { attributes: { name: 'Aki' } }));
    const { data } = await bench.serve('publish', 's1', 's1');
    expect(data.attributes).toEqual({ name: 'Aki', e2ee: 'sframe' });
    expect(transforms(bench, 'sender').map(({ options }) => options)).toMatchObject([{ role: 'encrypt' }, { role: 'encrypt' }]);

    const publication = await publishing;
    const told: unknown[] = [];
    publication.on('encryptionfailed', (event) => told.push(event));
    publication.on('encryptionrecovered', (event) => told.push(event));
    const [{ options }] = transforms(bench, 'sender') as [FakeTransform];
    await new Promise((resolve) => setTimeout(resolve));
    worker.tell(options.transform, { works: true });
    worker.tell(options.transform, { works: false, failure: 'no-key', keyId: undefined });
    worker.tell(options.transform, { works: true });
    expect(told).toEqual([{ kind: 'audio', reason: 'no-key' }, { kind: 'audio' }]);
    const stopping = publication.stop();
    (await bench.socket.next('unpublish')).ok();
    await stopping;
    expect(worker.posted.filter(({ type }) => type === 'end')).toHaveLength(2);
  });

  it('without a key, or of data, is an error that sends nothing', async () => {
    const bench = await Bench.joined(undefined, { encryption: encryption() });
    await expect(bench.client.publish(new LocalStream(fakeMedia('audio')))).rejects.toMatchObject({ code: 'invalid-state' });
    const other = await ready();
    const both = bench.client.publish(new LocalStream(fakeMedia('audio')), { data: true, encryption: other });
    await expect(both).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(bench.socket.unread).toEqual([]);
  });

  it('in the clear is what is asked for', async () => {
    const bench = await Bench.joined(undefined, { encryption: await ready() });
    const publishing = bench.client.publish(new LocalStream(fakeMedia('video')), { encryption: false });
    expect((await bench.serve('publish', 's1', 's1')).data.attributes).toEqual({});
    await publishing;
    expect(transforms(bench, 'sender')).toEqual([]);
  });
});

describe('subscribing', () => {
  it('decrypts what says that it is encrypted, and takes nothing else for it', async () => {
    const bench = await Bench.joined(undefined, { encryption: await ready() });
    bench.socket.notify('stream', { id: 'remote', status: 'add', data: stream({ attributes: { e2ee: 'sframe' } }) });
    bench.socket.notify('stream', { id: 'open', status: 'add', data: { ...stream(), id: 'open' } });
    const subscribing = bench.client.subscribe('remote');
    await bench.serve('subscribe', 's1', 's1');
    const subscription = await subscribing;
    expect(transforms(bench, 'receiver').map(({ options }) => options)).toMatchObject([
      { role: 'decrypt', required: true },
      { role: 'decrypt', required: true },
    ]);
    const updating = subscription.update({ from: 'open' });
    (await bench.socket.next('subscription-control')).ok();
    await updating;
    expect(worker.posted.filter(({ type }) => type === 'require')).toMatchObject([{ required: false }, { required: false }]);
  });

  it('tells of what can not be decrypted, also if that was before anybody could listen', async () => {
    const bench = await Bench.joined(undefined, { encryption: await ready() });
    bench.socket.notify('stream', { id: 'remote', status: 'add', data: stream({ attributes: { e2ee: true } }) });
    const subscribing = bench.client.subscribe('remote', { audio: false });
    await bench.serve('subscribe', 's1', 's1');
    const [{ options }] = transforms(bench, 'receiver') as [FakeTransform];
    worker.tell(options.transform, { works: false, failure: 'unknown-key', keyId: 3 });
    const subscription = await subscribing;
    const told: unknown[] = [];
    subscription.on('decryptionfailed', (event) => told.push(event));
    subscription.on('decryptionrecovered', (event) => told.push(event));
    await new Promise((resolve) => setTimeout(resolve));
    worker.tell(options.transform, { works: true });
    expect(told).toEqual([{ kind: 'video', reason: 'unknown-key', keyId: 3 }, { kind: 'video' }]);
  });

  it('without keys is an error, unless it is wanted as it is', async () => {
    const bench = await Bench.joined();
    bench.socket.notify('stream', { id: 'remote', status: 'add', data: stream({ attributes: { e2ee: 'sframe' } }) });
    expect(bench.client.info?.streams.get('remote')?.encryption).toBe('sframe');
    await expect(bench.client.subscribe('remote')).rejects.toMatchObject({ code: 'invalid-argument' });
    await settle();
    expect(bench.socket.unread).toEqual([]);
    const subscribing = bench.client.subscribe('remote', { encryption: false });
    await bench.serve('subscribe', 's1', 's1');
    await subscribing;
  });
});

describe('a browser with streams of frames instead of script transforms', () => {
  it('has a connection made for it, and hands the streams to the worker', async () => {
    vi.stubGlobal('RTCRtpScriptTransform', undefined);
    vi.stubGlobal('RTCRtpSender', class { createEncodedStreams(): void {} });
    const bench = await Bench.joined(undefined, { encryption: await ready() });
    const taken = { readable: new ReadableStream(), writable: new WritableStream() };
    FakeTransceiver.encodedStreams = taken;
    const publishing = bench.client.publish(new LocalStream(fakeMedia('video')));
    await bench.serve('publish', 's1', 's1');
    await publishing;
    expect(bench.connection.configuration).toMatchObject({ encodedInsertableStreams: true });
    expect(worker.posted.filter(({ type }) => type === 'begin')).toMatchObject([{ options: { role: 'encrypt' }, ...taken }]);
    expect(worker.posted.find(({ type }) => type === 'codecs')).toMatchObject({ codecs: { 96: 'video/VP8' } });
  });
});
