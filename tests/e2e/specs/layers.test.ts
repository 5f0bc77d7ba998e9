import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api } from '../harness/api';
import { Chromium } from '../harness/browser';
import { GREEN, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { MediaRelay } from '../harness/lossy';
import { matches } from '../harness/matches';
import type { RawPage } from '../harness/raw';
import { until } from '../harness/until';

/** Where the relay stands. */
const RELAY = '127.0.0.12';
const SIZE = { width: 1280, height: 720 };
/** As SDKs of OWT name and size them. */
const LAYERS = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 450_000 },
  { rid: 'f', maxBitrate: 1_500_000 },
];
/** A browser takes its time to send its largest layer, on a busy machine the more. */
const LONG = 40_000;

interface Told {
  estimatedBitrate?: number;
  tracks: { kind: string; served: string; layer?: { rid?: string }; limit: string; decisions: { why: string }[] }[];
}

let kaigi: Kaigi;
let relay: MediaRelay;
let browser: Chromium;
let api: Api;
let room: string;
let ann: RawPage;
/** What Ann publishes. */
let stream: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'layers', args: ['--announce', RELAY, '--media-workers', '1'] });
  relay = await MediaRelay.start(kaigi.ports.media, RELAY);
  browser = await Chromium.launch('layers');
  api = new Api(kaigi.managementUrl, kaigi.service);
  room = await kaigi.rest.createRoom('layers', { views: [] });
  ann = await joined('ann');
  stream = await ann.call('publish', { look: RED, size: SIZE, framerate: 12, noise: true, layers: LAYERS });
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  relay?.stop();
});

async function joined(who: string, where = room): Promise<RawPage> {
  const page = await browser.raw(kaigi, who);
  await page.join(kaigi, where);
  return page;
}

const subscribe = (page: RawPage, parameters?: object, from = stream): Promise<string> =>
  page.call('subscribe', { audio: { from }, video: { from, ...(parameters && { parameters }) } });

/** Waits until the picture that is decoded has that width; how long that took, in ms. */
async function hasWidth(page: RawPage, subscription: string, fits: (width: number) => boolean, patience = LONG, where = room): Promise<number> {
  const began = Date.now();
  await until(
    `${page.who} sees another size`,
    async () => {
      const { width } = await page.call('video', subscription);
      if (!fits(width)) throw new Error(`it is ${width} wide; ${JSON.stringify(await told(subscription, where))}`);
      return true;
    },
    patience,
  );
  return Date.now() - began;
}

const told = async (subscription: string, where = room): Promise<Told> =>
  (await api.ok('GET', `/v1.1/rooms/${where}/subscriptions/${subscription}`)) as Told;
const picture = async (subscription: string): Promise<Told['tracks'][number]> =>
  (await told(subscription)).tracks.find(({ kind }) => kind === 'video')!;

/** Waits until that is told of a subscription's picture. */
async function isTold(subscription: string, wanted: object): Promise<void> {
  await until(`the picture is ${JSON.stringify(wanted)}`, async () => {
    const found = await picture(subscription);
    if (!matches(found, wanted)) throw new Error(JSON.stringify(found));
    return true;
  });
}

const is = (wanted: number) => (width: number) => width === wanted;

describe('a stream that is sent in three sizes', () => {
  it('is seen in the largest by one, and in what the way carries by another', { timeout: 240_000 }, async () => {
    const cat = await joined('cat');
    const wide = await subscribe(cat);
    await hasWidth(cat, wide, is(1280));
    const others = relay.receivers();
    const bob = await joined('bob');
    const narrow = await subscribe(bob);
    await hasWidth(bob, narrow, is(1280));
    const [way] = relay.receivers().filter((client) => !others.includes(client));
    expect(way).toBeDefined();

    relay.narrow(way!, 800_000);
    await hasWidth(bob, narrow, (width) => width < 1280, 15_000);
    await isTold(narrow, { served: 'forward', limit: 'bandwidth' });
    expect((await picture(narrow)).decisions.map(({ why }) => why).join('\n')).toMatch(/estimate fell to \d+ kbit\/s/);
    await bob.hears(narrow, [RED], [RED, GREEN]);
    await bob.moves(narrow, 30);
    await hasWidth(cat, wide, is(1280));
    await isTold(wide, { served: 'forward', limit: 'none' });

    relay.heal();
    await hasWidth(bob, narrow, is(1280));
    await bob.moves(narrow, 30);
    await cat.close();
    await bob.close();
  });

  it('is seen in the size that is asked for without being transcoded', async () => {
    const dan = await joined('dan');
    const subscription = await subscribe(dan, { resolution: { width: 320, height: 240 } });
    await hasWidth(dan, subscription, is(320));
    await dan.moves(subscription, 20);
    expect((await dan.call('video', subscription)).width).toBe(320);
    await isTold(subscription, { served: 'forward', limit: 'asked' });
    const update = { operation: 'update', data: { video: { parameters: { resolution: { width: 640, height: 360 } } } } };
    await dan.call('request', 'subscription-control', { id: subscription, ...update });
    await hasWidth(dan, subscription, is(640));
    await isTold(subscription, { served: 'forward', limit: 'asked' });
    expect(kaigi.child('kaigi-mixer-node')).toBeDefined();
    await dan.close();
  });
});

describe('a stream that is sent in one size', () => {
  it('pauses where the way carries only sound, and comes back', { timeout: 180_000 }, async () => {
    const eve = await joined('eve-single');
    const single = await eve.call('publish', { look: GREEN, size: { width: 640, height: 360 }, framerate: 12, noise: true });
    const others = relay.receivers();
    const fay = await joined('fay');
    const subscription = await subscribe(fay, undefined, single);
    await fay.moves(subscription, 30);
    const [way] = relay.receivers().filter((client) => !others.includes(client));
    expect(way).toBeDefined();

    relay.narrow(way!, 100_000);
    await isTold(subscription, { limit: 'bandwidth', sent: { flowing: false } });
    expect((await picture(subscription)).decisions.at(-1)?.why).toMatch(/estimate fell to \d+ kbit\/s/);
    await fay.stands(subscription);
    await fay.hears(subscription, [GREEN], [RED, GREEN]);

    relay.heal();
    await fay.moves(subscription, 30);
    await isTold(subscription, { limit: 'none' });
    await fay.close();
    await eve.close();
  });
});

describe('a mixed stream', () => {
  it('is seen in its own size by one, and in what the way carries by another', { timeout: 180_000 }, async () => {
    const view = { label: 'common', video: { parameters: { resolution: SIZE, framerate: 24 } } };
    const mixing = await kaigi.rest.createRoom('mixed', { views: [view] });
    const eve = await joined('eve', mixing);
    const shown = await eve.call('publish', { look: GREEN, size: { width: 640, height: 360 }, framerate: 24, noise: true });
    await kaigi.rest.patchStream(mixing, shown, [{ op: 'add', path: '/info/inViews', value: 'common' }]);
    const mixed = `${mixing}-common`;
    const wide = await joined('fay', mixing);
    const whole = await subscribe(wide, undefined, mixed);
    await hasWidth(wide, whole, is(1280), LONG, mixing);
    const others = relay.receivers();
    const gus = await joined('gus', mixing);
    const part = await subscribe(gus, undefined, mixed);
    await hasWidth(gus, part, is(1280), LONG, mixing);
    const [way] = relay.receivers().filter((client) => !others.includes(client));
    expect(way).toBeDefined();

    relay.narrow(way!, 700_000);
    await hasWidth(gus, part, (width) => width < 1280, 20_000, mixing);
    expect((await told(part, mixing)).tracks.find(({ kind }) => kind === 'video')).toMatchObject({ served: 'mixed', limit: 'bandwidth' });
    await gus.moves(part, 30);
    await gus.sees(part, GREEN);
    await gus.hears(part, [GREEN], [RED, GREEN]);
    await hasWidth(wide, whole, is(1280), LONG, mixing);

    relay.heal();
    await hasWidth(gus, part, is(1280), LONG, mixing);
    await gus.moves(part, 30);
  });
});
