import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { GREEN, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { LiveServer, freePort } from '../harness/live-server';
import { Player } from '../harness/player';
import { mixingRoom, publisher } from '../harness/room';
import { until } from '../harness/until';

const KEY = 'abcdefghijklmnopqrstuvwxyz';
const PART = 0.5;

let kaigi: Kaigi;
let browser: Chromium;
/** Has the page that plays. */
let server: LiveServer;
let origin: string;
let room: string;
let id: string;

beforeAll(async () => {
  server = await LiveServer.start();
  const address = `127.0.0.1:${await freePort()}`;
  origin = `http://${address}`;
  kaigi = await Kaigi.start({ name: 'low-latency', env: { KAIGI_PRIVATE_TARGETS: 'true', KAIGI_HLS_LISTEN: address, KAIGI_HLS_KEY: KEY } });
  browser = await Chromium.launch('low-latency');
  room = await mixingRoom(kaigi, 'low-latency');
  await publisher(browser, kaigi, room, 'Aiko', RED);
  const from = `${room}-common`;
  const parameters = { hlsTime: 2, hlsListSize: 4, hlsPartTime: PART };
  const body = { url: `${origin}/live/show.m3u8?key=${KEY}`, protocol: 'hls', parameters, media: { audio: { from }, video: { from } } };
  const answer = await kaigi.rest.call('POST', `/v1/rooms/${room}/streaming-outs`, body);
  expect(answer.status, answer.text).toBe(200);
  id = (JSON.parse(answer.text) as { id: string }).id;
  await until('it is active', async () => {
    const [listed] = JSON.parse((await kaigi.rest.call('GET', `/v1/rooms/${room}/streaming-outs`)).text) as { state: string }[];
    return listed?.state === 'active';
  }, 40_000);
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  await server?.stop();
});

async function playlist(name: string): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${origin}/live/${name}`);
  return { status: answer.status, text: await answer.text() };
}

/** Number of the segment that is under way, and how many parts of it there are. */
function edge(text: string): { segment: number; parts: number } {
  const lines = text.split('\n');
  const complete = lines.filter((line) => line.startsWith('#EXTINF:')).length;
  const parts = lines.slice(lines.findLastIndex((line) => line.startsWith('#EXTINF:')) + 1).filter((line) => line.startsWith('#EXT-X-PART:')).length;
  return { segment: Number(/MEDIA-SEQUENCE:(\d+)/.exec(text)?.[1]) + complete, parts };
}

it('a request for a playlist waits until the part that it asks for is there', async () => {
  const name = (await playlist('show.m3u8')).text.split('\n').find((line) => line.endsWith('-video.m3u8')) ?? '';
  const { text } = await playlist(name);
  expect(text).toContain('CAN-BLOCK-RELOAD=YES');
  const { segment, parts } = edge(text);
  // One that is not there yet, but soon is.
  const after = await playlist(`${name}?_HLS_msn=${segment + 1}&_HLS_part=0`);
  expect(after.status).toBe(200);
  const now = edge(after.text);
  expect(now.segment > segment + 1 || (now.segment === segment + 1 && now.parts > 0), `${JSON.stringify(now)} after ${segment}, ${parts}`).toBe(true);
  for (const [query, status] of [[`_HLS_msn=${now.segment + 1000}`, 400], ['_HLS_part=0', 400], ['_HLS_msn=first', 400]] as const) {
    expect((await playlist(`${name}?${query}`)).status, query).toBe(status);
  }
  expect((await playlist('nothing.m3u8?_HLS_msn=1')).status).toBe(404);
  expect((await fetch(`${origin}/live/show.m3u8?key=guessed`, { method: 'PUT', body: '' })).status).toBe(403);
});

it('hls.js plays it near the newest, waiting for each part, and is told the end', async () => {
  const player = await Player.open(browser, server, 'hls', `${origin}/live/show.m3u8`, { lowLatency: true });
  try {
    await player.shows([RED], [[0.5, 0.5]]);
    await player.hears([RED], [RED, GREEN]);
    await until('it waits for parts', async () => (await player.see([])).waits > 4);
    const { behind } = await until('it is played near the newest', async () => {
      const seen = await player.see([]);
      if (!(seen.behind < 8 * PART) || seen.parts < 4) throw new Error(JSON.stringify(seen));
      return seen;
    }, 30_000);
    console.log(`played ${behind.toFixed(2)} s behind the newest, parts of ${PART} s`);
  } finally {
    await player.close();
  }
  const { text } = await playlist('show.m3u8');
  const name = text.split('\n').find((line) => line.endsWith('-video.m3u8')) ?? '';
  expect((await kaigi.rest.call('DELETE', `/v1/rooms/${room}/streaming-outs/${id}`)).status).toBe(200);
  expect((await playlist(`${name}?_HLS_msn=100000`)).text).toContain('#EXT-X-ENDLIST');
});
