import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { type Publisher, SMALL_VIEW, hears, publisher, showsLayout } from '../harness/room';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let publishers: [Publisher, Publisher, Publisher];
let viewer: Participant;
let mixed: string;
let subscription: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'mixing' });
  browser = await Chromium.launch('mixing');
  room = await kaigi.rest.createRoom('mixing', { views: [SMALL_VIEW] });
  publishers = [
    await publisher(browser, kaigi, room, 'Aiko', RED),
    await publisher(browser, kaigi, room, 'Botan', GREEN),
    await publisher(browser, kaigi, room, 'Chiyo', BLUE),
  ];
  viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Dai', 'viewer'));
  mixed = await viewer.mixedStream();
  subscription = await viewer.subscribe(mixed);
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

const mix = (stream: string) => kaigi.rest.patchStream(room, stream, [{ op: 'add', path: '/info/inViews', value: 'common' }]);
const unmix = (stream: string) => kaigi.rest.patchStream(room, stream, [{ op: 'remove', path: '/info/inViews', value: 'common' }]);
const filter = (value: string) => kaigi.rest.patchStream(room, mixed, [{ op: 'replace', path: '/info/filter', value }]);

describe('mixing by REST', () => {
  it('changes nothing when it is asked for twice, even at once', async () => {
    const [first, second] = publishers;
    await until('nothing is mixed yet', async () => (await viewer.layout(mixed)).length === 0);

    const answers = await Promise.all([mix(first.stream), mix(first.stream), mix(first.stream), mix(second.stream)]);
    expect(answers.map((stream) => stream.info.inViews)).toEqual([['common'], ['common'], ['common'], ['common']]);
    expect((await mix(first.stream)).info.inViews).toEqual(['common']);
    await showsLayout(viewer, mixed, subscription, [first, second]);
    await hears(viewer, subscription, [RED, GREEN], [RED, GREEN, BLUE]);
  });

  it('can be undone, twice as well', async () => {
    const [first, second] = publishers;
    const answers = await Promise.all([unmix(first.stream), unmix(first.stream)]);
    expect(answers.map((stream) => stream.info.inViews)).toEqual([[], []]);
    expect((await unmix(first.stream)).info.inViews).toEqual([]);
    await showsLayout(viewer, mixed, subscription, [second]);
    await hears(viewer, subscription, [GREEN], [RED, GREEN, BLUE]);
  });
});

describe('the edge filter', () => {
  beforeAll(async () => {
    await Promise.all(publishers.map(({ stream }) => mix(stream)));
    await showsLayout(viewer, mixed, subscription, publishers);
  });

  it('leaves the edges of the mixed picture, bright on black', async () => {
    expect((await filter('edgedetect')).info.filter).toBe('edgedetect');

    await until('the picture is lines on black', async () => {
      const picture = await viewer.picture(subscription);
      const dark = picture.darkShare(64);
      // Between the first and the second tile, and between the first and the third.
      const vertical = picture.brightAlongVertical(0.5, 0.05, 0.4, 96);
      const horizontal = picture.brightAlongHorizontal(0.5, 0.05, 0.45, 96);
      if (dark < 0.9 || vertical < 0.9 || horizontal < 0.9) {
        throw new Error(`dark ${dark}, lines: vertical ${vertical}, horizontal ${horizontal}`);
      }
      return true;
    });
    // The sound is left alone.
    await hears(viewer, subscription, [RED, GREEN, BLUE], [RED, GREEN, BLUE]);
  });

  it('can be taken off again', async () => {
    expect((await filter('none')).info.filter ?? 'none').toBe('none');
    await showsLayout(viewer, mixed, subscription, publishers);
  });

  it('refuses filters that it does not have', async () => {
    const answer = await kaigi.rest.call('PATCH', `/v1/rooms/${room}/streams/${mixed}`, [
      { op: 'replace', path: '/info/filter', value: 'sepia' },
    ]);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    await showsLayout(viewer, mixed, subscription, publishers);
  });
});
