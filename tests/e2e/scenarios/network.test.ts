import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api } from '../harness/api';
import { Chromium } from '../harness/browser';
import { RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { MediaRelay, type Network } from '../harness/lossy';
import type { RawPage } from '../harness/raw';
import { until } from '../harness/until';

/** Where the relay stands. */
const RELAY = '127.0.0.13';
/** How long each network is looked at, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 30);
const LOSS = Number(process.env.LOSS ?? 0.1);
/** ms, there and back. */
const RTT = 100;
/** bit/s. */
const BOTTLENECK = 500_000;
const SIZE = { width: 640, height: 360 };
/** Two: of a picture of this size browsers send no more. */
const LAYERS = [
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 250_000 },
  { rid: 'f', maxBitrate: 900_000 },
];

let kaigi: Kaigi;
let relay: MediaRelay;
let browser: Chromium;
let api: Api;
let room: string;
/** Published in two sizes, and in one. */
let layered: string;
let single: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'network', args: ['--announce', RELAY] });
  relay = await MediaRelay.start(kaigi.ports.media, RELAY);
  browser = await Chromium.launch('network');
  api = new Api(kaigi.managementUrl, kaigi.service);
  room = await kaigi.rest.createRoom('network', { views: [] });
  layered = await (await joined('ann')).call('publish', { look: RED, size: SIZE, framerate: 15, noise: true, layers: LAYERS });
  single = await (await joined('eve')).call('publish', { look: RED, size: { width: 320, height: 180 }, framerate: 15 });
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  relay?.stop();
});

async function joined(who: string): Promise<RawPage> {
  const page = await browser.raw(kaigi, who);
  await page.join(kaigi, room);
  return page;
}

/** Resolves after that many seconds: the length of a measurement, not a wait for something. */
const measured = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** A subscriber, and its way. */
async function subscribed(who: string, stream: string): Promise<{ page: RawPage; subscription: string; way: string }> {
  const others = relay.receivers();
  const page = await joined(who);
  const subscription = await page.call('subscribe', { audio: { from: stream }, video: { from: stream } });
  await page.moves(subscription, 10);
  const way = relay.receivers().find((client) => !others.includes(client));
  if (way === undefined) throw new Error(`${who} has been sent nothing`);
  return { page, subscription, way };
}

async function hasWidth(page: RawPage, subscription: string, width: number, patience = 60_000): Promise<void> {
  await until(`${page.who} sees ${width}`, async () => (await page.call('quality', subscription)).width === width, patience, 100);
}

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));

/** What a subscriber sees and hears by such a network, in percent of the time. */
async function seen(who: string, stream: string, network: Partial<Network>): Promise<{ frozen: number; concealed: number }> {
  const { page, subscription, way } = await subscribed(who, stream);
  relay.change(way, network);
  // The decoders' buffers get used to it.
  await measured(8);
  const before = await page.call('quality', subscription);
  const widths: number[] = [];
  for (let second = 0; second < SECONDS; second++) {
    await measured(1);
    widths.push((await page.call('quality', subscription)).width);
  }
  const after = await page.call('quality', subscription);
  const told = (await api.ok('GET', `/v1.1/rooms/${room}/subscriptions/${subscription}`)) as { estimatedBitrate?: number; tracks: { kind: string; decisions: unknown[] }[] };
  if (process.env.WHY) console.log(JSON.stringify(told, null, 1), widths.join(' '));
  const elapsed = (after.at - before.at) / 1000;
  const row = {
    who,
    'video frozen, %': round((100 * (after.frozen - before.frozen)) / elapsed),
    freezes: after.freezes - before.freezes,
    'frames/s': round((after.frames - before.frames) / elapsed, 1),
    'key frames asked': after.plis - before.plis,
    widths: [...new Set(widths)].join(' '),
    'sound made up, %': round((100 * (after.concealed - before.concealed)) / (after.samples - before.samples)),
    'estimate, kbit/s': Math.round((told.estimatedBitrate ?? 0) / 1000),
  };
  console.table([row]);
  await page.close();
  return { frozen: row['video frozen, %'], concealed: row['sound made up, %'] };
}

describe(`${LOSS * 100} % of all packets lost at random, ${RTT} ms there and back`, () => {
  const network = { loss: LOSS, delay: RTT / 2 };
  const cases: [string, () => string, Partial<Network>][] = [
    ['layers, nothing lost', () => layered, { delay: RTT / 2 }],
    ['layers', () => layered, network],
    ['one size', () => single, network],
  ];
  it.each(cases)('%s', { timeout: 200_000 }, async (name, stream, way) => {
    const { frozen, concealed } = await seen(name, stream(), way);
    expect(frozen, 'video frozen, %').toBeLessThan(2);
    expect(concealed, 'sound made up, %').toBeLessThan(3);
  });
});

describe(`a bottleneck of ${BOTTLENECK / 1000} kbit/s`, () => {
  it('is found, held and left', { timeout: 240_000 }, async () => {
    const { page, subscription, way } = await subscribed('bob', layered);
    relay.change(way, { delay: RTT / 2, queue: 2_000 });
    await hasWidth(page, subscription, SIZE.width);
    await measured(5);

    relay.takeWaits(way);
    relay.narrow(way, BOTTLENECK);
    const began = performance.now();
    await measured(SECONDS + 5);
    const waits = relay.takeWaits(way);
    const sizes = await page.call('quality', subscription);
    const late = waits.filter(({ wait }) => wait > 200);
    const foundIn = ((late.filter(({ at }) => at < began + 10_000).at(-1)?.at ?? began) - began) / 1000;
    const held = waits.filter(({ at }) => at > began + 5_000).map(({ wait }) => wait);
    held.sort((a, b) => a - b);
    const share = (part: number): number => Math.round(held[Math.floor(part * (held.length - 1))] ?? 0);
    if (process.env.WHY) {
      const buckets: Record<number, number> = {};
      for (const { at, wait } of waits) buckets[Math.floor((at - began) / 500) / 2] = Math.max(buckets[Math.floor((at - began) / 500) / 2] ?? 0, Math.round(wait));
      console.log(JSON.stringify(buckets), JSON.stringify(await api.ok('GET', `/v1.1/rooms/${room}/subscriptions/${subscription}`), null, 1));
    }

    relay.change(way, { capacity: Infinity });
    const ended = performance.now();
    await hasWidth(page, subscription, SIZE.width);
    const leftIn = (performance.now() - ended) / 1000;
    console.table([
      {
        'found in, s': round(foundIn, 1),
        'longest wait while found, ms': Math.round(Math.max(...waits.map(({ wait }) => wait))),
        'then waits, median, ms': share(0.5),
        '99th percentile': share(0.99),
        longest: share(1),
        width: sizes.width,
        'left in, s': round(leftIn, 1),
      },
    ]);
    await page.close();
    expect(foundIn).toBeLessThan(5);
    expect(share(1)).toBeLessThan(200);
    expect(leftIn).toBeLessThan(10);
  });
});
