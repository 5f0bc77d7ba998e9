import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Api } from '../harness/api';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { MediaRelay } from '../harness/lossy';
import type { RawPage } from '../harness/raw';
import { until } from '../harness/until';
import { ROOM_WITH_ADMIN } from '../harness/wishes';

/** Where the relay stands. */
const RELAY = '127.0.0.9';
/** The share of packets that is lost. */
const LOSS = 0.1;
/** How long is listened, in ms. */
const WHILE = 15_000;

interface Counted {
  kind: 'audio' | 'video';
  packetsLost: number;
  recovered: number;
  redundant: number;
}

let relay: MediaRelay;
let kaigi: Kaigi;
let browser: Chromium;
let api: Api;
let room: string;
let ann: RawPage;
let bob: RawPage;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'redundancy', args: ['--announce', RELAY, '--media-workers', '1'] });
  relay = await MediaRelay.start(kaigi.ports.media, RELAY);
  browser = await Chromium.launch('redundancy');
  api = new Api(kaigi.managementUrl, kaigi.service);
  room = await kaigi.rest.createRoom('redundancy', ROOM_WITH_ADMIN);
  ann = await browser.raw(kaigi, 'ann');
  bob = await browser.raw(kaigi, 'bob');
  await ann.join(kaigi, room);
  await bob.join(kaigi, room);
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  relay?.stop();
});
beforeEach(() => relay.heal());

const get = async <T>(path: string): Promise<T> => (await api.ok('GET', `/v1.1/rooms/${room}${path}`)) as T;
const published = async (stream: string, wanted = 'audio'): Promise<Counted> => {
  const { tracks } = await get<{ tracks: Counted[] }>(`/streams/${stream}/stats`);
  return tracks.find(({ kind }) => kind === wanted)!;
};
const subscribed = async (subscription: string, wanted = 'audio'): Promise<Counted> => {
  const { tracks } = await get<{ tracks: { kind: string; sent: Counted }[] }>(`/subscriptions/${subscription}`);
  return tracks.find(({ kind }) => kind === wanted)!.sent;
};

/** Whether nothing redundant is sent for a while. */
async function isQuiet(subscription: string, wanted = 'audio'): Promise<boolean> {
  const before = (await subscribed(subscription, wanted)).redundant;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  return (await subscribed(subscription, wanted)).redundant === before;
}

/** The share of Bob's sound that had to be made up for a while. */
async function concealed(subscription: string): Promise<number> {
  const before = await bob.call('counters', subscription, 'audio');
  await new Promise((resolve) => setTimeout(resolve, WHILE));
  const after = await bob.call('counters', subscription, 'audio');
  const share = (after.concealed - before.concealed) / (after.samples - before.samples);
  console.log(`${(100 * share).toFixed(2)} % of ${after.samples - before.samples} samples concealed`);
  return share;
}

describe('sound over a way that loses a tenth', { timeout: 180_000 }, () => {
  it('from its publisher is whole with redundancy, and is not without', async () => {
    const shares: number[] = [];
    for (const redundancy of [false, true]) {
      const stream = await ann.call('publish', { look: RED, video: false, redundancy });
      const subscription = await bob.call('subscribe', { audio: { from: stream } });
      await bob.hears(subscription, [RED], [RED, BLUE]);
      relay.up.loses = LOSS;
      shares.push(await concealed(subscription));
      relay.heal();
      const counted = await published(stream);
      const { lost } = await bob.call('counters', subscription, 'audio');
      console.log(`${counted.packetsLost} lost, ${counted.recovered} recovered, ${lost} missed by Bob`);
      expect(counted.packetsLost).toBeGreaterThan(30);
      if (redundancy) {
        // Most of what is lost is padding, which nobody misses. What Bob misses was lost together with its copy.
        expect(counted.recovered / (counted.recovered + lost)).toBeGreaterThan(0.7);
      } else expect(counted.recovered).toBe(0);
      await bob.call('unsubscribe', subscription);
      await ann.call('unpublish', stream);
    }
    const [without = 0, withRedundancy = 1] = shares;
    expect(without).toBeGreaterThan(0.05);
    expect(withRedundancy).toBeLessThan(without / 3);
  });

  it('to a subscriber is whole with redundancy, and is not without', async () => {
    const stream = await ann.call('publish', { look: RED, video: false });
    const shares: number[] = [];
    for (const redundancy of [false, true]) {
      const subscription = await bob.call('subscribe', { audio: { from: stream }, redundancy });
      await bob.hears(subscription, [RED], [RED, BLUE]);
      expect((await subscribed(subscription)).redundant).toBe(0);
      relay.down.loses = LOSS;
      if (redundancy) await until('the losses are noticed', async () => (await subscribed(subscription)).redundant > 50, 60_000);
      else await new Promise((resolve) => setTimeout(resolve, 3000));
      shares.push(await concealed(subscription));
      relay.heal();
      if (redundancy) {
        await until('it ends with the losses', () => isQuiet(subscription), 60_000);
      } else expect((await subscribed(subscription)).redundant).toBe(0);
      await bob.hears(subscription, [RED], [RED, BLUE]);
      await bob.call('unsubscribe', subscription);
    }
    await ann.call('unpublish', stream);
    const [without = 0, withRedundancy = 1] = shares;
    expect(without).toBeGreaterThan(0.05);
    expect(withRedundancy).toBeLessThan(without / 3);
  });

  it('both ways is whole, mixed too', async () => {
    const stream = await ann.call('publish', { look: RED, video: false });
    const plain = await bob.call('subscribe', { audio: { from: stream } });
    const mixed = await bob.call('subscribe', { audio: { from: `${room}-common` } });
    await api.ok('PATCH', `/v1.1/rooms/${room}/streams/${stream}`, [{ op: 'add', path: '/info/inViews', value: 'common' }]);
    await bob.hears(mixed, [RED], [RED, BLUE]);
    relay.up.loses = LOSS;
    relay.down.loses = LOSS;
    await until('the losses are noticed', async () => (await subscribed(plain)).redundant > 50, 60_000);
    const [forward, ofMix] = await Promise.all([concealed(plain), concealed(mixed)]);
    expect(Math.max(forward, ofMix)).toBeLessThan(0.05);
    await bob.hears(mixed, [RED], [RED, BLUE]);
  });
});

describe('a picture over a way that loses a tenth and is long', () => {
  /** ms. */
  const DELAY = 50;

  it('is repaired at the subscriber, who is sent repair packets', async () => {
    const stream = await ann.call('publish', { look: RED, audio: false, size: { width: 640, height: 360 }, noise: true });
    const subscription = await bob.call('subscribe', { video: { from: stream } });
    await bob.moves(subscription, 30);
    await until('no repair packets are sent while nothing is lost', () => isQuiet(subscription, 'video'), 60_000);
    const sent = (await subscribed(subscription, 'video')).redundant;
    relay.up.delay = relay.down.delay = DELAY;
    relay.down.loses = LOSS;
    await until('repair packets come', async () => (await bob.call('counters', subscription, 'video')).repairs > 100, 60_000);
    const before = await bob.call('counters', subscription, 'video');
    await bob.moves(subscription, 100);
    const after = await bob.call('counters', subscription, 'video');
    expect((await subscribed(subscription, 'video')).redundant - sent).toBeGreaterThan(100);
    console.log(`repairs ${after.repairs - before.repairs} of ${after.packets - before.packets} packets, NACKs ${after.nacks - before.nacks}, frozen ${after.frozen - before.frozen} ms of ${after.at - before.at}`);
    await bob.call('unsubscribe', subscription);
    await ann.call('unpublish', stream);
  });

  it('is repaired at Kaigi, where its publisher sends repair packets', async () => {
    const trials = 'WebRTC-FlexFEC-03-Advertised/Enabled/WebRTC-FlexFEC-03/Enabled/';
    const other = await Chromium.launch('redundancy-flexfec', [`--force-fieldtrials=${trials}`]);
    try {
      const cyd = await other.raw(kaigi, 'cyd');
      await cyd.join(kaigi, room);
      const stream = await cyd.call('publish', { look: BLUE, audio: false, size: { width: 640, height: 360 }, noise: true });
      const subscription = await bob.call('subscribe', { video: { from: stream } });
      await bob.sees(subscription, BLUE);
      relay.up.delay = relay.down.delay = DELAY;
      relay.up.loses = LOSS;
      await until('lost packets are recovered', async () => (await published(stream, 'video')).recovered > 20, 60_000);
      const { packetsLost, recovered } = await published(stream, 'video');
      console.log(`${recovered} of ${packetsLost} lost packets recovered`);
      await bob.moves(subscription, 30);
      await bob.sees(subscription, BLUE);
    } finally {
      await other.close();
    }
  });
});
