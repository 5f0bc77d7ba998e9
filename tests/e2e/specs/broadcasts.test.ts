import { once } from 'node:events';
import { type AddressInfo, type Socket, createServer } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { GREEN } from '../harness/colours';
import { Feed } from '../harness/feed';
import { Kaigi } from '../harness/kaigi';
import { LiveServer } from '../harness/live-server';
import { probe, rates } from '../harness/media-file';
import type { RawPage } from '../harness/raw';
import { mauth } from '../harness/rest';
import { mixingRoom } from '../harness/room';
import { until } from '../harness/until';

/** Seconds of a measurement, in which there are several key frames. */
const SECONDS = 6;
/** Seconds from one key frame to the next. */
const KEY_EVERY = 2;
/** How far a rate may be from what was asked for, of it. */
const TOLERANCE = 0.25;

interface Asked {
  resolution: { width: number; height: number };
  framerate: number;
  bitrate: string;
}

let kaigi: Kaigi;
let browser: Chromium;
let server: LiveServer;
let room: string;
let page: RawPage;

beforeAll(async () => {
  server = await LiveServer.start();
  kaigi = await Kaigi.start({ name: 'broadcasts', env: { KAIGI_PRIVATE_TARGETS: 'true' } });
  browser = await Chromium.launch('broadcasts');
  room = await mixingRoom(kaigi, 'broadcasts');
  page = await browser.raw(kaigi, 'Aiko');
  await page.join(kaigi, room);
  // A picture that needs all bits that it can have.
  await page.call('publish', { look: GREEN, size: { width: 640, height: 480 }, noise: true });
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  await server?.stop();
});

async function ask<T>(method: string, place: string, body?: unknown): Promise<T> {
  const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
  expect(answer.status, answer.text).toBe(200);
  return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
}

/** kbit/s of H.264 of that size and rate, which is from a table, at a motion factor of 0.8, before the multiplier. */
function whole({ resolution: { width, height }, framerate }: Asked): number {
  const pixels = (width * height * framerate) / 30;
  return 0.8 * (pixels <= 76_800 ? (400 * pixels) / 76_800 : 400 + (400 * (pixels - 76_800)) / (307_200 - 76_800));
}

/** Waits until it is at the server as it was asked for. */
async function comesAs(url: string, asked: Asked): Promise<void> {
  await until(`it comes as ${JSON.stringify(asked)}`, async () => {
    const video = (await probe(url)).streams.find(({ codec_type }) => codec_type === 'video');
    const { fps, kbps, keyEvery } = await rates(url, SECONDS);
    const wanted = whole(asked) * Number(asked.bitrate.slice(1));
    const found = { codec: video?.codec_name, width: video?.width, height: video?.height, fps, kbps, keyEvery };
    const near = (value: number, of: number): boolean => Math.abs(value - of) <= of * TOLERANCE;
    if (found.codec !== 'h264' || found.width !== asked.resolution.width || found.height !== asked.resolution.height || !near(fps, asked.framerate) || !near(kbps, wanted) || !near(keyEvery, KEY_EVERY)) {
      throw new Error(`${JSON.stringify(found)}, not ${wanted} kbit/s`);
    }
    return true;
  }, 90_000);
}

it('a broadcast has the size, the rates and the key frames that are asked for, and others once they are', async () => {
  const from = `${room}-common`;
  const url = server.url('rates');
  const first: Asked = { resolution: { width: 640, height: 480 }, framerate: 15, bitrate: 'x0.4' };
  const { id } = await ask<{ id: string }>('POST', 'streaming-outs', { url, media: { audio: { from }, video: { from, parameters: { ...first, keyFrameInterval: KEY_EVERY } } } });
  const state = async (): Promise<string | undefined> => (await ask<{ id: string; state: string }[]>('GET', 'streaming-outs')).find((one) => one.id === id)?.state;
  await until('it is active', async () => (await state()) === 'active', 30_000);
  await comesAs(url, first);
  const change = (asked: Partial<Asked>): Promise<unknown> =>
    ask('PATCH', `streaming-outs/${id}`, Object.entries(asked).map(([name, value]) => ({ op: 'replace', path: `/media/video/parameters/${name}`, value })));
  const more = { bitrate: 'x0.8' };
  await change(more);
  await comesAs(url, { ...first, ...more });
  const smaller = { resolution: { width: 320, height: 240 }, framerate: 6 };
  await change(smaller);
  await comesAs(url, { ...first, ...more, ...smaller });
  expect(await state()).toBe('active');
  await ask('DELETE', `streaming-outs/${id}`);
}, 240_000);

it('a server that takes nothing is told of, and the room does not notice', async () => {
  const connections: Socket[] = [];
  const deaf = createServer((socket) => connections.push(socket.pause().on('error', () => undefined))).listen(0, '127.0.0.1');
  await once(deaf, 'listening');
  const feed = await Feed.open(`${kaigi.managementUrl}/v1/events?room=${room}`, { authorization: mauth(kaigi.service) });
  try {
    const from = `${room}-common`;
    const url = `rtmp://127.0.0.1:${(deaf.address() as AddressInfo).port}/live/key`;
    const { id } = await ask<{ id: string }>('POST', 'streaming-outs', { url, media: { audio: { from }, video: { from } } });
    const event = await feed.gets({ type: 'streamingOut.updated', data: { streamingOut: { id, state: 'trouble' } } });
    expect(JSON.stringify(event)).toMatch(/"reason":"[^"]*(?:does not answer|timed out)/);
    expect(connections.length).toBeGreaterThan(0);
    const subscription = await page.call('subscribe', { video: { from } });
    await page.moves(subscription, 5);
    await until('the mix has all its pictures', async () => {
      const { fps } = await page.measure(subscription, 2);
      if (fps < 13) throw new Error(`${fps} frames a second`);
      return true;
    });
    await ask('DELETE', `streaming-outs/${id}`);
  } finally {
    feed.close();
    connections.forEach((socket) => socket.destroy());
    deaf.close();
  }
});
