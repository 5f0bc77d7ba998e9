import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Chromium } from '../harness/browser';
import { Kaigi } from '../harness/kaigi';
import { until } from '../harness/until';

/** The picture in the README; only made anew on request. */
const SCREENSHOT = fileURLToPath(new URL('../../../docs/images/conference.png', import.meta.url));

const MIX = '[data-testid=tile][data-kind=mix]';

let kaigi: Kaigi;
let browser: Chromium;
let aiko: Page;
let botan: Page;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'sample' });
  browser = await Chromium.launch('sample');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

/** Opens the application as a link would, with a drawn picture for a camera. */
async function join(name: string, width: number, height: number): Promise<Page> {
  const page = await browser.page(`${kaigi.url}/?join=1&name=${name}&camera=generated`, name, { width, height });
  await page.waitForSelector('[data-testid=conference][data-publishing=true]');
  return page;
}

/** How many frames the first video in there has shown. */
function frames(page: Page, tile: string): Promise<number> {
  return page.locator(`${tile} video`).first().evaluate((video) => (video as HTMLVideoElement).getVideoPlaybackQuality().totalVideoFrames);
}

function hasHorizontalScroll(page: Page): Promise<boolean> {
  return page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
}

describe('the sample application', () => {
  it('brings two people together by a link', async () => {
    aiko = await join('Aiko', 1280, 800);
    botan = await join('Botan', 1280, 800);
    await until('both are listed', async () => {
      await aiko.waitForSelector('[data-testid=people-button][aria-label="People, 2 here"]');
      return true;
    });
  });

  it('shows both the mixed picture, which moves', async () => {
    for (const page of [aiko, botan]) {
      await page.waitForSelector(`${MIX}[data-state=live]`);
      const before = await frames(page, MIX);
      await until('the mixed picture moves', async () => (await frames(page, MIX)) > before + 24);
    }
    const rooms = await kaigi.rest.streams(kaigi.service.room);
    const mixed = rooms.find((stream) => stream.type === 'mixed');
    expect(mixed?.info.layout?.filter((entry) => (entry as { stream?: string }).stream)).toHaveLength(2);
  });

  it('carries messages', async () => {
    await aiko.click('[data-testid=chat-button]');
    await aiko.fill('[data-testid=chat-input]', 'Good morning!');
    await aiko.click('[data-testid=chat-send]');
    await botan.click('[data-testid=chat-button]');
    const arrived = botan.locator('[data-testid=chat-message]', { hasText: 'Good morning!' });
    await arrived.waitFor();
    expect(await arrived.textContent()).toContain('Aiko');
  });

  it('shows everybody side by side', async () => {
    await botan.click('[data-testid=view-grid]');
    const other = '[data-testid=tile][data-kind=camera]';
    await botan.waitForSelector(`${other}[data-state=live]`);
    const before = await frames(botan, other);
    await until('the picture of the other moves', async () => (await frames(botan, other)) > before + 10);
    await botan.click('[data-testid=view-mix]');
  });

  it('looks like this', async () => {
    const renew = process.env.UPDATE_SCREENSHOT === '1';
    const guests = renew ? [await join('Chiyo', 640, 480), await join('Dai', 640, 480)] : [];
    if (renew) await aiko.waitForSelector('[data-testid=people-button][aria-label="People, 4 here"]');
    await until('all are in the picture', async () => {
      const mixed = (await kaigi.rest.streams(kaigi.service.room)).find((stream) => stream.type === 'mixed');
      return mixed?.info.layout?.filter((entry) => (entry as { stream?: string }).stream).length === 2 + guests.length;
    });
    const before = await frames(aiko, MIX);
    await until('the picture has settled', async () => (await frames(aiko, MIX)) > before + 72);
    const file = renew ? SCREENSHOT : browser.artifact('conference');
    mkdirSync(path.dirname(file), { recursive: true });
    expect((await aiko.screenshot({ path: file })).length).toBeGreaterThan(10_000);
    for (const guest of guests) await guest.click('[data-testid=leave-button]');
  });

  it('fits a telephone', async () => {
    const phone = await browser.page(`${kaigi.url}/?name=Chiyo&camera=generated`, 'Chiyo', { width: 360, height: 740 });
    await phone.waitForSelector('[data-testid=start]');
    expect(await hasHorizontalScroll(phone)).toBe(false);
    await phone.screenshot({ path: browser.artifact('phone-start') });

    await phone.click('[data-testid=join-button]');
    await phone.waitForSelector(`${MIX}[data-state=live]`);
    expect(await hasHorizontalScroll(phone)).toBe(false);
    await phone.screenshot({ path: browser.artifact('phone-conference') });

    await phone.click('[data-testid=chat-button]');
    expect(await hasHorizontalScroll(phone)).toBe(false);
    await phone.click('[data-testid=panel-close]');
    await phone.click('[data-testid=leave-button]');
    await phone.waitForSelector('[data-testid=start]');
  });

  it('says so when someone leaves', async () => {
    await botan.click('[data-testid=leave-button]');
    await aiko.waitForSelector('[data-testid=people-button][aria-label="People, 1 here"]');
    for (const page of [aiko, botan]) await page.context().close();
  });

  it('is encrypted end to end for those who have the passphrase, if they wish', async () => {
    const room = await kaigi.rest.createRoom('secret');
    const pages: Page[] = [];
    onTestFinished(async () => {
      for (const page of pages) await page.context().close();
    });
    const enter = async (name: string, passphrase: string): Promise<Page> => {
      const page = await browser.page(`${kaigi.url}/?name=${name}&room=${room}&view=grid&camera=generated`, name, { width: 900, height: 640 });
      pages.push(page);
      await page.fill('[data-testid=passphrase-input]', passphrase);
      await page.click('[data-testid=join-button]');
      await page.waitForSelector('[data-testid=conference][data-publishing=true]');
      return page;
    };
    const dai = await enter('Dai', 'abracadabra');
    const emi = await enter('Emi', 'abracadabra');
    const live = '[data-testid=tile][data-kind=camera][data-state=live]';
    for (const page of [dai, emi]) {
      expect(await page.locator('[data-testid=encrypted-badge]').isVisible()).toBe(true);
      await page.waitForSelector(live);
      const before = await frames(page, live);
      await until('the picture of the other moves', async () => (await frames(page, live)) > before + 10);
    }
    const fumi = await enter('Fumi', 'open sesame');
    const failed = fumi.locator('[data-testid=tile][data-kind=camera][data-state=failed]');
    await until('nothing can be seen with another', async () => (await failed.count()) === 2);
    expect(await failed.first().textContent()).toContain('is the passphrase the same?');
    const gil = await enter('Gil', '');
    const closed = gil.locator('[data-testid=tile][data-kind=camera][data-state=failed]');
    await until('nor without any', async () => (await closed.count()) === 3);
  });
});
