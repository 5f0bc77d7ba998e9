import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { Kaigi } from '../harness/kaigi';
import { useOf } from '../harness/use';

/** How many people meet, all by the sample application with a drawn 640×360 picture and the default room's 1280×720 mix. */
const PEOPLE = Number(process.env.PEOPLE ?? 4);
/** For how long each process is watched, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 10);

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'scenario' });
  browser = await Chromium.launch('scenario');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

function framesOfTheMix(page: Page): Promise<number> {
  const mix = page.locator('[data-testid=tile][data-kind=mix] video').first();
  return mix.evaluate((video) => (video as HTMLVideoElement).getVideoPlaybackQuality().totalVideoFrames);
}

/** Resolves after that many seconds: the length of a measurement, not a wait for something. */
const measured = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

it(`measures a conference of ${PEOPLE}`, async () => {
  const pages: Page[] = [];
  for (let i = 0; i < PEOPLE; i++) {
    const page = await browser.page(`${kaigi.url}/?join=1&name=P${i}&camera=generated&view=mix`, `P${i}`, { width: 640, height: 480 });
    await page.waitForSelector('[data-testid=tile][data-kind=mix][data-state=live]', { timeout: 30_000 });
    pages.push(page);
  }
  await measured(5);

  const processes = kaigi.children();
  const before = processes.map(({ pid }) => useOf(pid));
  const framesBefore = await Promise.all(pages.map(framesOfTheMix));
  await measured(SECONDS);
  const framesAfter = await Promise.all(pages.map(framesOfTheMix));
  const rows = processes.map(({ name, pid }, i) => {
    const now = useOf(pid);
    return { process: name, cores: Number(((now.cpu - (before[i]?.cpu ?? 0)) / SECONDS).toFixed(3)), MiB: Math.round(now.resident) };
  });
  console.table(rows);
  const rates = framesAfter.map((frames, i) => Math.round((frames - (framesBefore[i] ?? 0)) / SECONDS));
  console.log(`${PEOPLE} people, frames per second of the mix at each: ${rates.join(' ')}; ready ${kaigi.startedIn} ms after the start`);
  expect(Math.min(...rates), 'a mix that moves').toBeGreaterThan(0);
}, 180_000);
