import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, GREEN, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import type { RawPage } from '../harness/raw';
import { SMALL_VIEW } from '../harness/room';
import { until } from '../harness/until';
import type { Protocol } from '../page/wire';

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'versions' });
  browser = await Chromium.launch('versions');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

interface Told {
  id: string;
  sessionId?: string;
  status: string;
}

/** Of a stream, as one version or the other is told of it. */
interface Media {
  tracks?: { id: string; rid?: string }[];
  video?: { original?: { simulcastRid?: string }[] };
}

/** As the SDKs of their times: which Socket.IO goes with which version, and the other transport, too. */
const PAGES: [string, 2 | 3 | 4, Protocol, 'polling' | 'websocket'][] = [
  ['1.0 by socket.io-client 2.5.0', 2, '1.0', 'websocket'],
  ['1.1 by socket.io-client 2.5.0', 2, '1.1', 'polling'],
  ['1.2 by socket.io-client 3.1.2', 3, '1.2', 'websocket'],
  ['1.2 by socket.io-client 4.8', 4, '1.2', 'polling'],
];

describe.each(PAGES)('a page that speaks %s', (name, generation, protocol, transport) => {
  let room: string;
  let page: RawPage;
  let modern: RawPage;

  beforeAll(async () => {
    room = await kaigi.rest.createRoom(name, { autoMix: true, views: [SMALL_VIEW] });
    page = await browser.raw(kaigi, 'page', generation);
    modern = await browser.raw(kaigi, 'modern');
    await page.join(kaigi, room, { protocol, transports: [transport] });
    await modern.join(kaigi, room);
  });
  afterAll(async () => {
    await page?.close();
    await modern?.close();
  });

  it('is seen and heard by a page of today', async () => {
    const stream = await page.call('publish', { look: RED });
    const subscription = await modern.call('subscribe', { audio: { from: stream }, video: { from: stream } });
    await modern.sees(subscription, RED);
    await modern.hears(subscription, [RED], [RED, BLUE]);
  });

  it('sees and hears a page of today', async () => {
    const stream = await modern.call('publish', { look: BLUE });
    await page.isTold('stream', { id: stream, status: 'add' });
    const subscription = await page.call('subscribe', { audio: { from: stream }, video: { from: stream } });
    await page.sees(subscription, BLUE);
    await page.hears(subscription, [BLUE], [RED, BLUE]);
  });

  it('is told how a session comes about, each step once', async () => {
    const id = await page.call('publish', { look: GREEN, video: false });
    const subscription = await page.call('subscribe', { audio: { from: `${room}-common` } });
    const last = protocol === '1.2' ? 'progress' : 'session-progress';
    for (const session of [id, subscription]) await page.isTold(last, { sessionId: session, status: 'ready' });
    const told = await page.call('told');
    const of = (session: string): unknown[] =>
      told.filter(({ event, data }) => event.endsWith('progress') && [(data as Told).id, (data as Told).sessionId].includes(session));
    const answer = (transport: string): object => ({ event: 'progress', data: { id: transport, status: 'soac', data: { type: 'answer', sdp: expect.any(String) } } });
    for (const session of [id, subscription]) {
      if (protocol === '1.2') {
        // On the transport that is there.
        expect(of(session)).toEqual([{ event: 'progress', data: { id: expect.any(String), sessionId: session, status: 'ready' } }]);
      } else {
        const [first, ...rest] = of(session);
        expect(first).toEqual(answer(session));
        // SDKs of these versions take the transport's for the session's, and do not listen to the other.
        expect(rest).toEqual([
          { event: 'progress', data: { id: session, status: 'ready' } },
          { event: 'session-progress', data: { id: session, sessionId: session, status: 'ready' } },
        ]);
      }
    }
    if (protocol === '1.2') {
      const [transport] = [...new Set(told.flatMap(({ event, data }) => (event === 'progress' ? [(data as Told).id] : [])))];
      const alone = told.filter(({ event, data }) => event === 'progress' && (data as Told).id === transport && (data as Told).status === 'ready' && !(data as Told).sessionId);
      expect(alone, 'the transport is ready once').toHaveLength(1);
    }
    await page.call('unsubscribe', subscription);
    await page.call('unpublish', id);
  });

  it('takes one layer of a stream that has several', async () => {
    const layers = [{ rid: 'q', scaleResolutionDownBy: 2, maxBitrate: 150_000 }, { rid: 'f', maxBitrate: 500_000 }];
    const stream = await modern.call('publish', { look: GREEN, audio: false, size: { width: 640, height: 480 }, framerate: 10, layers });
    const { media } = (await page.isTold<{ data: { media: Media } }>('stream', { id: stream, status: 'add' })).data;
    const small = media.tracks?.find(({ rid }) => rid === 'q')?.id;
    if (protocol === '1.1') expect(media.video?.original?.map(({ simulcastRid }) => simulcastRid).sort()).toEqual(['f', 'q']);
    const wish = protocol === '1.2' ? { from: small ?? 'none' } : { from: stream, simulcastRid: 'q' };
    const subscription = await page.call('subscribe', { video: wish });
    await page.sees(subscription, GREEN);
    await until('it is the small one', async () => (await page.call('video', subscription)).width === 320);
    await page.call('unsubscribe', subscription);
    await modern.call('unpublish', stream);
  });

  it('sees the mixed stream', async () => {
    const subscription = await page.call('subscribe', { audio: { from: `${room}-common` }, video: { from: `${room}-common` } });
    await page.moves(subscription);
    await page.hears(subscription, [BLUE], [RED, BLUE]);
    await page.call('unsubscribe', subscription);
  });

  it('has a PeerConnection for each session only where the version wants it', async () => {
    expect(await page.call('peers')).toBe(protocol === '1.2' ? 1 : 2);
  });

  it('publishes one kind alone, subscribes one kind alone, and ends both', async () => {
    const stream = await page.call('publish', { look: GREEN, audio: false });
    const subscription = await modern.call('subscribe', { video: { from: stream } });
    await modern.sees(subscription, GREEN);
    await page.call('unpublish', stream);
    await modern.isTold('stream', { id: stream, status: 'remove' });
    await modern.isTold('progress', { sessionId: subscription, status: 'error', data: 'Source stream loss' });

    const mixed = await page.call('subscribe', { audio: { from: `${room}-common` } });
    await page.hears(mixed, [BLUE], [RED, BLUE]);
    await page.call('unsubscribe', mixed);
  });

  it('is told of the other in the words of its version', async () => {
    const kinds = { '1.0': ['audio', 'video'], '1.1': ['audio', 'video'], '1.2': ['tracks'] }[protocol];
    const added = (await page.call('told')).filter(({ event, data }) => event === 'stream' && (data as { status: string }).status === 'add');
    expect(added.length).toBeGreaterThan(0);
    for (const { data } of added) {
      const { media } = (data as { data: { media: Record<string, { original?: unknown; format?: unknown }> } }).data;
      expect(kinds).toEqual(expect.arrayContaining(Object.keys(media)));
      if (!media.video) continue;
      expect([media.video.original !== undefined, media.video.format !== undefined]).toEqual([protocol === '1.1', protocol === '1.0']);
    }
  });

  it('is gone for the other when it leaves', async () => {
    await page.call('request', 'logout');
    await modern.isTold('participant', { action: 'leave', data: page.id });
    await until('only one is left', async () => (await kaigi.rest.participants(room)).length === 1);
  });
});
