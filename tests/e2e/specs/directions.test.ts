import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { Random } from '../harness/random';
import type { RawPage } from '../harness/raw';
import { SMALL_VIEW } from '../harness/room';

/** Operations of one sequence. */
const LENGTH = 12;
const TINY = { size: { width: 160, height: 120 }, framerate: 5 };
const KINDS = [['audio', 'video'], ['audio'], ['video']] as const;
const LAYERS = [{ rid: 'q', scaleResolutionDownBy: 2 }, { rid: 'f' }];

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'directions' });
  browser = await Chromium.launch('directions');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

/** What the page's transceivers should be, by session. */
type Expected = Map<string, { direction: 'sendonly' | 'recvonly' | 'inactive'; lines: number }>;

async function expectDirections(page: RawPage, expected: Expected, steps: string[]): Promise<void> {
  const found = await page.call('directions');
  for (const [session, { direction, lines }] of expected) {
    const of = found.filter((one) => one.session === session);
    expect(of.map(({ current }) => current), `${session} after ${steps.join(', ')}`).toEqual(Array.from({ length: lines }, () => direction));
  }
  const mids = found.map(({ mid }) => mid);
  expect(new Set(mids).size, 'each m-line has a mid of its own').toBe(mids.length);
}

describe('after any sequence of publish, unpublish, subscribe and unsubscribe', () => {
  it.concurrent.each(Array.from({ length: 10 }, (_, seed) => seed + 1))('each transceiver has the direction that was signaled (seed %i)', async (seed) => {
    const random = new Random(seed);
    const room = await kaigi.rest.createRoom(`directions-${seed}`, { views: [SMALL_VIEW] });
    const other = await browser.raw(kaigi, `other-${seed}`);
    const page = await browser.raw(kaigi, `page-${seed}`);
    await other.join(kaigi, room);
    await page.join(kaigi, room);
    const sources = [await other.call('publish', { look: BLUE, ...TINY }), `${room}-common`];
    const expected: Expected = new Map();
    const published: string[] = [];
    /** Those of them that have a picture, in one size or two. */
    const pictures = new Set<string>();
    let subscribed: { id: string; from: string; moves: boolean }[] = [];
    const steps: string[] = [];

    for (let step = 0; step < LENGTH; step++) {
      const kinds = random.of(KINDS);
      const operations = ['publish', 'subscribe', ...(published.length > 0 ? ['unpublish'] : []), ...(subscribed.length > 0 ? ['unsubscribe'] : [])];
      const operation = random.of(operations);
      steps.push(`${operation} ${kinds.join('+')}`);
      if (operation === 'publish') {
        const [audio, video] = [kinds.some((kind) => kind === 'audio'), kinds.some((kind) => kind === 'video')];
        const layered = video && random.below(2) === 0;
        const id = await page.call('publish', { look: RED, audio, video, ...TINY, ...(layered && { layers: LAYERS }) });
        if (layered) steps.push('(in two sizes)');
        published.push(id);
        if (video) pictures.add(id);
        expected.set(id, { direction: 'sendonly', lines: kinds.length });
        await expectDirections(page, expected, steps);
      } else if (operation === 'subscribe') {
        const from = random.of([...sources, ...published.slice(-1)]);
        const id = await page.call('subscribe', Object.fromEntries(kinds.map((kind) => [kind, { from }]))).catch((error: Error) => {
          // Of its own streams, which may lack a kind.
          if (published.includes(from) && /Requested (audio|video) stream/.test(error.message)) return undefined;
          throw error;
        });
        if (id !== undefined) {
          subscribed.push({ id, from, moves: sources.includes(from) && kinds.some((kind) => kind === 'video') });
          expected.set(id, { direction: 'recvonly', lines: kinds.length });
          await expectDirections(page, expected, steps);
        }
      } else if (operation === 'unpublish') {
        const id = published.splice(random.below(published.length), 1)[0] ?? '';
        await page.call('unpublish', id);
        expected.set(id, { direction: 'inactive', lines: expected.get(id)?.lines ?? 0 });
        // Its own subscriptions of it have lost their source.
        for (const { id: lost } of subscribed.filter(({ from }) => from === id)) {
          await page.isTold('progress', { sessionId: lost, status: 'error', data: 'Source stream loss' });
          expected.set(lost, { direction: 'inactive', lines: expected.get(lost)?.lines ?? 0 });
        }
        subscribed = subscribed.filter(({ from }) => from !== id);
        await page.call('renegotiate');
        await expectDirections(page, expected, steps);
      } else {
        const { id } = subscribed.splice(random.below(subscribed.length), 1)[0] ?? { id: '' };
        await page.call('unsubscribe', id);
        expected.set(id, { direction: 'inactive', lines: expected.get(id)?.lines ?? 0 });
      }
    }

    await page.call('renegotiate');
    await expectDirections(page, expected, steps);
    for (const { id, moves } of subscribed) if (moves) await page.moves(id, 3);
    for (const from of published.filter((id) => pictures.has(id))) await other.moves(await other.call('subscribe', { video: { from } }), 3);
    expect(new Set((await kaigi.rest.streams(room)).filter(({ info }) => info.owner === page.id).map(({ id }) => id))).toEqual(new Set(published));
    await page.close();
    await other.close();
  });
});
