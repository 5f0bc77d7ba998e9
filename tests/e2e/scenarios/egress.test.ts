import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { LiveServer } from '../harness/live-server';
import { publisher } from '../harness/room';
import { until } from '../harness/until';
import { useOf } from '../harness/use';

/** How many recordings, and then how many broadcasts, of the default room's 1280×720 mix. */
const COUNT = Number(process.env.COUNT ?? 10);
/** For how long each process is watched, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 10);

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

it(`measures ${COUNT} recordings and ${COUNT} broadcasts of a mix`, async () => {
  const from = `${room}-common`;
  const media = { audio: { from }, video: { from } };
  const rows: Record<string, Record<string, string>> = {};
  let before = await cores();
  for (const [kind, body] of [
    ['recordings', () => ({ media })],
    ['streaming-outs', (i: number) => ({ url: server.url(`k${i}`), media })],
  ] as const) {
    for (let i = 0; i < COUNT; i++) await ask('POST', kind, body(i));
    await until(`all ${kind} run`, async () => (await ask<{ state: string }[]>('GET', kind)).every(({ state }) => state === 'active'), 30_000);
    const after = await cores();
    rows[kind] = Object.fromEntries(
      ['kaigi-streaming-node', 'kaigi-mixer-node'].map((name) => [`${name}, cores each`, (((after[name] ?? 0) - (before[name] ?? 0)) / COUNT).toFixed(4)]),
    );
    for (const { id } of await ask<{ id: string }[]>('GET', kind)) await ask('DELETE', `${kind}/${id}`);
    before = await cores();
  }
  console.table(rows);
}, 300_000);
