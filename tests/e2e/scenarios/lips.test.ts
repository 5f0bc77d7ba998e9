import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { Kaigi } from '../harness/kaigi';
import { lips } from '../harness/lips';
import { mixingRoom } from '../harness/room';
import { until } from '../harness/until';

/** For how long is recorded, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 120);

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'scenario-lips' });
  browser = await Chromium.launch('scenario-lips');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

interface Recording {
  id: string;
  state: string;
  storage: { file: string };
}

it(`measures how far apart sound and picture are in recordings of ${SECONDS} s`, async () => {
  const room = await mixingRoom(kaigi, 'lips');
  const ask = async <T>(method: string, place: string, body?: unknown): Promise<T> => {
    const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
    expect(answer.status, answer.text).toBe(200);
    return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
  };
  const page = await browser.open(kaigi, 'clock');
  await page.join(await kaigi.rest.token(room, 'clock', 'presenter'));
  const stream = await page.publishClock();
  const sources = { 'a person, as sent': [stream, 'mkv'], 'the mix': [`${room}-common`, 'mkv'], 'the mix, MP4': [`${room}-common`, 'mp4'] } as const;
  const recordings: [string, Recording][] = [];
  for (const [what, [from, container]] of Object.entries(sources)) {
    recordings.push([what, await ask<Recording>('POST', 'recordings', { container, media: { audio: { from }, video: { from } } })]);
  }
  await until('all are written', async () => (await ask<Recording[]>('GET', 'recordings')).every(({ state }) => state === 'active'), 30_000);
  // The length of a measurement, not a wait for something.
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
  const rows: Record<string, Record<string, string>> = {};
  for (const [what, { id, storage }] of recordings) {
    await ask('DELETE', `recordings/${id}`);
    const { mean, worst, drift, error, seconds } = await lips(storage.file);
    rows[what] = { 'mean, ms': mean.toFixed(1), 'most, ms': worst.toFixed(1), 'in an hour, ms': `${drift.toFixed(0)} ± ${error.toFixed(0)}`, seconds: String(seconds) };
    expect(seconds).toBeGreaterThan(SECONDS * 0.8);
  }
  console.table(rows);
}, (SECONDS + 120) * 1000);
