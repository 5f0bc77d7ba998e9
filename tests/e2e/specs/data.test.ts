import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import type { RawPage } from '../harness/raw';
import { until } from '../harness/until';

/** The longest message, in bytes. */
const LONGEST = 65_536;

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let sender: RawPage;
/** A data stream of the sender. */
let stream: string;
let receivers: RawPage[];

beforeAll(async () => {
  // Everybody on another media worker than the one before.
  const env = { KAIGI_ROOM_TRANSPORTS_PER_WORKER: '1' };
  kaigi = await Kaigi.start({ name: 'data', args: ['--media-workers', '2'], env });
  browser = await Chromium.launch('data');
  room = await kaigi.rest.createRoom('data');
  sender = await browser.raw(kaigi, 'sender');
  await sender.join(kaigi, room);
  receivers = [];
  for (const name of ['ordered', 'unordered', 'unreliable']) {
    const page = await browser.raw(kaigi, name);
    await page.join(kaigi, room, { sdk: { type: 'Kaigi', version: '0.1' } });
    receivers.push(page);
  }
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

const CHANNELS: RTCDataChannelInit[] = [{ ordered: true }, { ordered: false }, { ordered: false, maxRetransmits: 0 }];

describe('a data stream', () => {
  let subscriptions: string[];

  it('is told to all, without tracks', async () => {
    stream = await sender.call('publish', { data: { ordered: true } });
    for (const page of receivers) {
      const added = await page.isTold<{ data: unknown }>('stream', { id: stream, status: 'add' });
      expect(added.data).toMatchObject({ id: stream, type: 'forward', data: true, media: { tracks: [] }, info: { owner: sender.id } });
    }
    expect((await kaigi.rest.streams(room)).map(({ id }) => id)).toContain(stream);
  });

  it('is not told to clients of versions that do not know of data', async () => {
    expect(stream).toMatch(/\S/);
    for (const protocol of ['1.0', '1.1'] as const) {
      const old = await browser.raw(kaigi, `old ${protocol}`, 2);
      const reply = await old.join(kaigi, room, { protocol });
      expect(reply.room.streams.map(({ id }) => id)).not.toContain(stream);
      await old.close();
    }
  });

  it('brings texts and bytes to all its subscribers as they were sent', async () => {
    subscriptions = [];
    for (const [i, page] of receivers.entries()) {
      subscriptions.push(await page.call('subscribe', { data: { from: stream, channel: CHANNELS[i] ?? {} } }));
    }
    const messages = ['good morning', [0, 255, 1, 254], 'おはよう', [7]];
    await sender.call('send', stream, messages);
    for (const [i, page] of receivers.entries()) {
      const id = subscriptions[i] ?? '';
      await until(`${page.who} has all`, async () => (await page.call('messages', id)).length >= messages.length);
      const found = await page.call('messages', id);
      expect(found).toHaveLength(messages.length);
      expect(found).toEqual(expect.arrayContaining(messages));
      if (i === 0) expect(found).toEqual(messages);
    }
  });

  it('brings the longest message, and longer ones can not be sent', async () => {
    const [ordered] = receivers;
    const id = subscriptions[0] ?? '';
    const before = (await ordered?.call('messages', id))?.length ?? 0;
    await sender.call('send', stream, ['x'.repeat(LONGEST)]);
    await until('it has come', async () => (await ordered?.call('messages', id))?.length === before + 1);
    expect((await ordered?.call('messages', id))?.at(-1)).toBe('x'.repeat(LONGEST));
    await expect(sender.call('send', stream, ['x'.repeat(LONGEST + 1)])).rejects.toThrow();
  });

  it('brings a thousand messages, each once, and in order to those who want it', async () => {
    const begun = await Promise.all(receivers.map(async (page, i) => (await page.call('messages', subscriptions[i] ?? '')).length));
    await sender.call('sendNumbered', stream, 1000, 500);
    const all = Array.from({ length: 1000 }, (_, i) => i);
    for (const [i, page] of receivers.entries()) {
      const numbers = async (): Promise<number[]> => (await page.call('numbers', subscriptions[i] ?? '')).slice(begun[i]);
      if (i < 2) {
        await until(`${page.who} has all`, async () => (await numbers()).length >= 1000);
        const found = await numbers();
        expect(i === 0 ? found : found.sort((a, b) => a - b)).toEqual(all);
      } else {
        await until(`${page.who} has most`, async () => (await numbers()).length > 500);
        const found = await numbers();
        expect(new Set(found).size, 'none twice').toBe(found.length);
      }
    }
  });

  it('goes on for the others when one unsubscribes', async () => {
    const [first, second] = receivers;
    await first?.call('unsubscribe', subscriptions[0] ?? '');
    const before = (await second?.call('messages', subscriptions[1] ?? ''))?.length ?? 0;
    await sender.call('send', stream, ['and now']);
    await until('the second has it', async () => (await second?.call('messages', subscriptions[1] ?? ''))?.length === before + 1);
  });

  it('ends for all when it is unpublished', async () => {
    await sender.call('unpublish', stream);
    for (const [i, page] of receivers.entries()) {
      await page.isTold('stream', { id: stream, status: 'remove' });
      if (i > 0) await page.isTold('progress', { sessionId: subscriptions[i], status: 'error', data: 'Source stream loss' });
    }
  });
});

describe('publishing data', () => {
  it('needs a permission to publish something, and can not be mixed', async () => {
    const viewer = await browser.raw(kaigi, 'viewer');
    await viewer.join(kaigi, room, { role: 'viewer' });
    await expect(viewer.call('publish', { data: {} })).rejects.toThrow('unauthorized');
    await viewer.close();
    const id = await sender.call('publish', { data: {} });
    const mix = sender.call('request', 'stream-control', { id, operation: 'mix', data: 'common' });
    await expect(mix).rejects.toThrow('Stream does NOT contain valid track to mix');
    await sender.call('unpublish', id);
  });
});

describe('data beside media', () => {
  it('goes with them in one publication and one subscription', async () => {
    const [page] = receivers;
    if (!page) throw new Error('no receiver');
    const both = await sender.call('publish', { look: RED, data: { ordered: true } });
    const added = await page.isTold<{ data: { media: { tracks: unknown[] } } }>('stream', { id: both, status: 'add' });
    expect(added.data).toMatchObject({ data: true });
    expect(added.data.media.tracks).toHaveLength(2);
    // OWT's SDK does not subscribe streams that have both, unless it does not know.
    await sender.isTold('stream', { id: both, status: 'add', data: { data: false } });
    const wish = { audio: { from: both }, video: { from: both }, data: { from: both, channel: { ordered: true } } };
    const subscription = await page.call('subscribe', wish);
    await page.sees(subscription, RED);
    await sender.call('send', both, ['with sound and picture']);
    await until('it has come', async () => (await page.call('messages', subscription)).length > 0);
    expect(await page.call('messages', subscription)).toEqual(['with sound and picture']);
    await page.call('unsubscribe', subscription);
    await sender.call('unpublish', both);
  });

  it('can not be subscribed of a stream that has none', async () => {
    const [page] = receivers;
    const silent = await sender.call('publish', { look: RED });
    for (const from of [silent, `${room}-common`, 'nowhere']) {
      const refused = page?.call('subscribe', { data: { from, channel: {} } });
      await expect(refused, from).rejects.toThrow('Target data stream does NOT satisfy:Requested data stream');
    }
    await sender.call('unpublish', silent);
  });
});
