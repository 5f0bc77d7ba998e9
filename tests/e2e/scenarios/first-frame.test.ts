import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { publisher } from '../harness/room';
import type { FirstFrame } from '../page/lab';

/** How many newcomers are measured, one after the other. */
const COUNT = Number(process.env.COUNT ?? 30);

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'first-frame' });
  browser = await Chromium.launch('first-frame');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

/** The value that `share` of the values are not above. */
function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN);
}

it(`measures the time from joining to the first decoded frame, ${COUNT} times`, async () => {
  const room = await kaigi.rest.createRoom('first-frame', { views: [] });
  const { page } = await publisher(browser, kaigi, room, 'Aiko', RED);
  const waited: FirstFrame[] = [];
  for (let i = 0; i < COUNT; i++) {
    const token = await kaigi.rest.token(room, `newcomer-${i}`, 'presenter');
    const newcomer = await browser.open(kaigi, `newcomer-${i}`);
    waited.push(await newcomer.joinAndSee(token));
    await newcomer.close();
  }
  await page.close();
  const row = (step: keyof FirstFrame): Record<string, number> => {
    const values = waited.map((one) => one[step]);
    return { median: quantile(values, 0.5), 'p90': quantile(values, 0.9), longest: quantile(values, 1) };
  };
  console.table({ 'joined, ms': row('joined'), 'subscribed, ms': row('subscribed'), 'first frame, ms': row('shown') });
  expect(waited.every(({ shown }) => shown > 0)).toBe(true);
}, 300_000);
