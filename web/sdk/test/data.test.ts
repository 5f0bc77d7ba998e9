import { beforeAll, describe, expect, it } from 'vitest';
import type { Publication } from '../src/publication.js';
import { LocalStream } from '../src/streams.js';
import { answerTo, Bench, FakeMediaStream, fakeMedia, settle } from './fakes.js';

beforeAll(() => Object.assign(globalThis, { MediaStream: FakeMediaStream }));

/** A client that publishes data alone, as p1. */
async function publishing(): Promise<{ bench: Bench; publication: Publication }> {
  const bench = await Bench.joined();
  const opening = bench.client.publishData({ attributes: { topic: 'positions' } });
  const request = await bench.serve('publish', 'p1', 'p1');
  expect(request.data).toEqual({ media: null, data: true, attributes: { topic: 'positions' }, transport: { type: 'webrtc' } });
  const publication = await opening;
  bench.channel('p1').open();
  return { bench, publication };
}

const DATA_STREAM = { id: 'news', type: 'forward', media: { tracks: [] }, data: true, info: { owner: 'other' } };

describe('publishing data', () => {
  it('opens a channel that is named after the session, as asked', async () => {
    const bench = await Bench.joined();
    const opening = bench.client.publish(new LocalStream(fakeMedia('audio')), { data: { ordered: false, maxRetransmits: 0 } });
    const request = await bench.serve('publish', 'p1', 'p1');
    expect(request.data).toMatchObject({ media: { tracks: [{ type: 'audio', mid: '0' }] }, data: true });
    await opening;
    expect(bench.channel('p1').init).toEqual({ ordered: false, maxRetransmits: 0 });
  });

  it('needs no offer when there is a line for data already', async () => {
    const { bench } = await publishing();
    const opening = bench.client.publishData();
    (await bench.socket.next('publish')).ok({ id: 'p2', transportId: 'p1' });
    await settle();
    expect(bench.socket.unread).toEqual([]);
    bench.progress('p1', { sessionId: 'p2', status: 'ready' });
    expect((await opening).id).toBe('p2');
    expect(bench.channel('p2')).toBeDefined();
  });

  it('fails if the server refuses the line', async () => {
    const bench = await Bench.joined();
    const opening = bench.client.publishData();
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    const { sdp } = answerTo(soac.data.signaling.sdp);
    bench.progress('p1', { status: 'soac', data: { type: 'answer', sdp: sdp.replace('m=application 9', 'm=application 0') } });
    (await bench.socket.next('unpublish')).ok();
    await expect(opening).rejects.toMatchObject({ code: 'negotiation-failed' });
  });

  it('with settings that exclude each other is an error that sends nothing', async () => {
    const bench = await Bench.joined();
    await expect(bench.client.publishData({ maxRetransmits: 1, maxPacketLifeTime: 100 })).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(bench.socket.names()).toEqual(['login']);
  });
});

describe('sending', () => {
  it('takes texts and bytes', async () => {
    const { bench, publication } = await publishing();
    const bytes = new Uint8Array([1, 2]);
    await publication.send('hello');
    await publication.send(bytes);
    await publication.send(bytes.buffer);
    expect(bench.channel('p1').sent).toEqual(['hello', bytes, bytes.buffer]);
    expect(publication.bufferedAmount).toBe(9);
  });

  it('waits while the channel opens', async () => {
    const bench = await Bench.joined();
    const opening = bench.client.publishData();
    await bench.serve('publish', 'p1', 'p1');
    const publication = await opening;
    const sending = publication.send('early');
    await settle();
    expect(bench.channel('p1').sent).toEqual([]);
    const others = Array.from({ length: 1_023 }, () => publication.send('y'));
    await expect(publication.send('too many')).rejects.toMatchObject({ code: 'overloaded' });
    bench.channel('p1').open();
    await Promise.all([sending, ...others]);
    expect(bench.channel('p1').sent).toHaveLength(1_024);
    expect(bench.channel('p1').sent[0]).toBe('early');
  });

  it('asks to wait when much is under way, and refuses when it is too much', async () => {
    const { bench, publication } = await publishing();
    const channel = bench.channel('p1');
    channel.bufferedAmount = 1_048_576;
    let room = false;
    const sending = publication.send('x').then(() => (room = true));
    await settle();
    expect(room).toBe(false);
    channel.drain();
    await sending;
    expect(channel.bufferedAmountLowThreshold).toBe(262_144);
    channel.bufferedAmount = 8_388_608;
    await expect(publication.send('x')).rejects.toMatchObject({ code: 'overloaded' });
  });

  it('refuses messages of more than 65,536 bytes', async () => {
    const { publication } = await publishing();
    await publication.send('x'.repeat(65_536));
    await expect(publication.send('ü'.repeat(32_769))).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(publication.send(new ArrayBuffer(65_537))).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('fails without data, and after the end', async () => {
    const bench = await Bench.joined();
    const opening = bench.client.publish(new LocalStream(fakeMedia('audio')));
    await bench.serve('publish', 'p1', 'p1');
    const publication = await opening;
    await expect(publication.send('x')).rejects.toMatchObject({ code: 'invalid-argument' });
    const stopping = publication.stop();
    (await bench.socket.next('unpublish')).ok();
    await stopping;
    await expect(publication.send('x')).rejects.toMatchObject({ code: 'invalid-state' });
  });

  it('goes on over the channel of the publication that is made anew', async () => {
    const { bench, publication } = await publishing();
    const first = bench.channel('p1');
    first.bufferedAmount = 2_000_000;
    const stuck = publication.send('lost');
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    await expect(stuck).rejects.toMatchObject({ code: 'disconnected' });
    await expect(publication.send('meanwhile')).rejects.toMatchObject({ code: 'disconnected' });
    await bench.serve('publish', 'p2', 'p2');
    await settle();
    bench.channel('p2').open();
    await publication.send('again');
    expect(bench.channel('p2').sent).toEqual(['again']);
    expect(bench.channel('p2').init).toEqual(first.init);
  });
});

describe('subscribing data', () => {
  it('alone is what happens to a stream that has nothing else', async () => {
    const bench = await Bench.joined();
    bench.socket.notify('stream', { id: 'news', status: 'add', data: DATA_STREAM });
    const subscribing = bench.client.subscribe('news');
    const request = await bench.serve('subscribe', 's1', 's1');
    expect(request.data).toEqual({ media: null, data: { from: 'news' }, transport: { type: 'webrtc' } });
    const subscription = await subscribing;
    const received: unknown[] = [];
    subscription.on('message', ({ data }) => received.push(data));
    const channel = bench.channel('s1');
    expect(channel).toMatchObject({ binaryType: 'arraybuffer', init: { ordered: true } });
    channel.onmessage?.({ data: 'hello' });
    expect(received).toEqual(['hello']);
    const stopping = subscription.stop();
    (await bench.socket.next('unsubscribe')).ok();
    await stopping;
    expect(channel.readyState).toBe('closed');
  });

  it('beside media is done when it is asked for', async () => {
    const bench = await Bench.joined();
    bench.socket.notify('stream', { id: 'both', status: 'add', data: { ...DATA_STREAM, id: 'both', media: { tracks: [{ type: 'audio' }] } } });
    const without = bench.client.subscribe('both');
    expect((await bench.serve('subscribe', 's1', 's1')).data.data).toBeUndefined();
    await without;
    const including = bench.client.subscribe('both', { data: { maxPacketLifeTime: 500 } });
    expect((await bench.serve('subscribe', 's2', 's1')).data.data).toEqual({ from: 'both' });
    await including;
    expect(bench.channel('s2').init).toEqual({ ordered: true, maxPacketLifeTime: 500 });
  });

  it('of a stream that has none is an error', async () => {
    const bench = await Bench.joined();
    await expect(bench.client.subscribe('theirs', { data: true })).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});
