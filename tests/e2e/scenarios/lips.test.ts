import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kaigi } from '../harness/kaigi';
import { lips } from '../harness/lips';
import { mixingRoom } from '../harness/room';
import { until } from '../harness/until';
import { WhipClient } from '../harness/whip-client';

/** For how long is recorded, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 120);
/** Seconds at the beginning that don't count: the publisher has not said yet when what was captured. */
const SETTLING = 10;
/** How much later pictures are sent than their sound by one of the two, in ms: as much as a slow encoder takes. */
const LATE = 150;
/** How far sound and picture may be from each other, in ms. */
const APART = 40;

let kaigi: Kaigi;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'scenario-lips' });
});
afterAll(async () => {
  console.table(rows);
  await kaigi?.stop();
});

interface Recording {
  id: string;
  state: string;
  storage: { file: string };
}

const rows: Record<string, Record<string, string>> = {};

it.each([
  ['in time', 0],
  [`${LATE} ms late`, LATE],
])(`measures how far apart sound and picture are in recordings of ${SECONDS} s, of pictures sent %s`, async (how, late) => {
  const room = await mixingRoom(kaigi, `lips-${late}`);
  const ask = async <T>(method: string, place: string, body?: unknown): Promise<T> => {
    const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
    expect(answer.status, answer.text).toBe(200);
    return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
  };
  const clock = await WhipClient.clock(`${kaigi.url}/whip/${room}`, await kaigi.rest.token(room, 'clock', 'presenter'), late);
  try {
    const stream = await until('the clock is there', async () => (await kaigi.rest.streams(room)).find(({ type }) => type === 'forward')?.id);
    const sources = { 'as sent': [stream, 'mkv'], 'as sent, in H.264, MP4': [stream, 'mp4'], 'the mix': [`${room}-common`, 'mkv'], 'the mix, MP4': [`${room}-common`, 'mp4'] } as const;
    const recordings: [string, Recording][] = [];
    for (const [what, [from, container]] of Object.entries(sources)) {
      recordings.push([what, await ask<Recording>('POST', 'recordings', { container, media: { audio: { from }, video: { from } } })]);
    }
    await until('all are written', async () => (await ask<Recording[]>('GET', 'recordings')).every(({ state }) => state === 'active'), 30_000);
    // The length of a measurement, not a wait for something.
    await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
    for (const [what, { id, storage }] of recordings) {
      await ask('DELETE', `recordings/${id}`);
      const { mean, worst, drift, error, seconds } = await lips(storage.file, SETTLING);
      rows[`${what}, sent ${how}`] = { 'mean, ms': mean.toFixed(1), 'most, ms': worst.toFixed(1), 'more in an hour, ms': `${drift.toFixed(0)} ± ${error.toFixed(0)}`, seconds: String(seconds) };
      expect(seconds).toBeGreaterThan((SECONDS - SETTLING) * 0.8);
      // A mix shows and plays what it has, whenever it was captured: what is sent late is late in it, too.
      if (late === 0 || !what.startsWith('the mix')) expect.soft(Math.abs(worst), what).toBeLessThan(APART);
    }
  } finally {
    await clock.end();
  }
}, (SECONDS + 120) * 1000);
