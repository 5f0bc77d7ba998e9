import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { LiveReceiver } from '../harness/live-receiver';
import { LiveServer } from '../harness/live-server';
import { LiveSource } from '../harness/live-source';
import { publisher } from '../harness/room';
import { until } from '../harness/until';
import { useOf } from '../harness/use';

/** How many recordings, and then how many broadcasts, of the default room's 1280×720 mix. */
const COUNT = Number(process.env.COUNT ?? 10);
/** For how long each process is watched, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 10);
/** How many of what costs more, here or in this measurement. */
const LISTENERS = Math.ceil(COUNT / 3);

let kaigi: Kaigi;
let browser: Chromium;
let server: LiveServer;
let room: string;

beforeAll(async () => {
  server = await LiveServer.start();
  kaigi = await Kaigi.start({ name: 'scenario-egress', env: { KAIGI_PRIVATE_TARGETS: 'true' } });
  browser = await Chromium.launch('scenario-egress');
  room = kaigi.service.room;
  await publisher(browser, kaigi, room, 'Aiko', RED);
  await publisher(browser, kaigi, room, 'Botan', BLUE);
});
afterAll(async () => {
  console.table(rows);
  await browser?.close();
  await kaigi?.stop();
  await server?.stop();
});

async function ask<T>(method: string, place: string, body?: unknown): Promise<T> {
  const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
  expect(answer.status, answer.text).toBe(200);
  return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
}

/** Resolves after that many seconds: the length of a measurement, not a wait for something. */
const measured = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Cores that each process uses. */
async function cores(): Promise<Record<string, number>> {
  await measured(3);
  const processes = kaigi.children();
  const before = processes.map(({ pid }) => useOf(pid).cpu);
  await measured(SECONDS);
  return Object.fromEntries(processes.map(({ name, pid }, i) => [name, (useOf(pid).cpu - (before[i] ?? 0)) / SECONDS]));
}

/** What one of each costs, in cores of both processes. */
const rows: Record<string, Record<string, string>> = {};
let before: Record<string, number>;

async function row(what: string, count: number): Promise<void> {
  const after = await cores();
  rows[what] = Object.fromEntries(
    ['kaigi-streaming-node', 'kaigi-mixer-node'].map((name) => [`${name}, cores each`, (((after[name] ?? 0) - (before[name] ?? 0)) / count).toFixed(4)]),
  );
}

it.each([
  ['recordings', 'recordings', (): object => ({})],
  ['broadcasts by RTMP', 'streaming-outs', (i: number): object => ({ url: server.url(`k${i}`) })],
  ['broadcasts by HLS, MPEG-TS', 'streaming-outs', (i: number): object => ({ url: server.fileUrl(`t${i}/a.m3u8`) })],
  ['broadcasts by HLS, in parts of 0.5 s', 'streaming-outs', (i: number): object => ({ url: server.fileUrl(`p${i}/a.m3u8`), parameters: { hlsPartTime: 0.5 } })],
  ['broadcasts by DASH', 'streaming-outs', (i: number): object => ({ url: server.fileUrl(`d${i}/a.mpd`) })],
])(`measures ${COUNT} %s of a mix`, async (what, kind, body) => {
  const from = `${room}-common`;
  before = await cores();
  for (let i = 0; i < COUNT; i++) await ask('POST', kind, { ...body(i), media: { audio: { from }, video: { from } } });
  await until('all run', async () => (await ask<{ state: string }[]>('GET', kind)).every(({ state }) => state === 'active'), 30_000);
  await row(what, COUNT);
  for (const { id } of await ask<{ id: string }[]>('GET', kind)) await ask('DELETE', `${kind}/${id}`);
}, 120_000);

it(`measures ${LISTENERS} broadcasts by SRT of a mix`, async () => {
  const from = `${room}-common`;
  const receivers = await Promise.all(Array.from({ length: LISTENERS }, () => LiveReceiver.srt()));
  try {
    before = await cores();
    for (const { url } of receivers) await ask('POST', 'streaming-outs', { url, media: { audio: { from }, video: { from } } });
    await until('all run', async () => (await ask<{ state: string }[]>('GET', 'streaming-outs')).every(({ state }) => state === 'active'), 30_000);
    await row('broadcasts by SRT', LISTENERS);
    for (const { id } of await ask<{ id: string }[]>('GET', 'streaming-outs')) await ask('DELETE', `streaming-outs/${id}`);
  } finally {
    await Promise.all(receivers.map((receiver) => receiver.stop()));
  }
}, 120_000);

it.each([
  ['streams in by RTSP, H.264 and Opus as they come', COUNT, (): Promise<LiveSource> => LiveSource.camera('viewer', 'password')],
  ['streams in by RTMP, H.264 as it comes, AAC to Opus', COUNT, (): Promise<LiveSource> => Promise.resolve(LiveSource.pushed(server.url('plain'), { between: 0 }))],
  ['streams in by RTMP, H.264 with B-frames made anew', LISTENERS, (): Promise<LiveSource> => Promise.resolve(LiveSource.pushed(server.url('between')))],
])('measures %s', async (what, count, open) => {
  const source = await open();
  await source.run(RED);
  try {
    before = await cores();
    const pull = { connection: { url: source.url }, media: { audio: true, video: true } };
    await until('it can be had', () => ask('POST', 'streaming-ins', pull), 30_000);
    for (let i = 1; i < count; i++) await ask('POST', 'streaming-ins', pull);
    await row(what, count);
    for (const kind of ['recordings', 'streaming-ins']) {
      for (const { id } of await ask<{ id: string }[]>('GET', kind)) await ask('DELETE', `${kind}/${id}`);
    }
  } finally {
    await source.kill();
  }
}, 120_000);
