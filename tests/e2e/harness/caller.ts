import type { Page } from 'playwright-core';
import type { Chromium } from './browser';
import type { Kaigi } from './kaigi';
import type { Network } from './network';
import { until } from './until';

/** A page of peer-to-peer rooms, as a person uses it. */
export class Caller {
  private constructor(
    readonly page: Page,
    readonly name: string,
  ) {}

  /** Opens the page and connects; with `starts` it sends picture and sound. `network` is what its media may go through. */
  static async open(
    browser: Chromium,
    kaigi: Kaigi,
    room: string,
    name: string,
    { starts = true, token = '', network }: { starts?: boolean; token?: string; network?: Network } = {},
  ): Promise<Caller> {
    const page = await browser.page(`${kaigi.url}/webrtc/client?room=${room}&name=${name}`, name, network ? { network } : {});
    if (token) await page.getByTestId('token').fill(token);
    if (starts) await page.getByTestId('start').click();
    await page.getByTestId('connect').click();
    return new Caller(page, name);
  }

  /** How many frames of somebody were shown so far. */
  frames(of: string): Promise<number> {
    const video = this.page.getByTestId(`tile-${of}`).locator('video');
    return video.evaluate((element: HTMLVideoElement) => (element.videoWidth > 0 ? element.getVideoPlaybackQuality().totalVideoFrames : 0), undefined, { timeout: 1000 });
  }

  /** Waits until somebody's picture moves. */
  async sees(other: Caller): Promise<void> {
    let first = 0;
    await until(`${this.name} sees ${other.name}`, async () => {
      const frames = await this.frames(other.name);
      first ||= frames;
      return first > 0 && frames >= first + 10;
    });
  }

  async hasNoTileOf(name: string): Promise<void> {
    await until(`${name} is gone for ${this.name}`, async () => (await this.page.getByTestId(`tile-${name}`).count()) === 0);
  }

  async state(wanted: RegExp): Promise<void> {
    await until(`${this.name} is told ${wanted.source}`, async () => wanted.test((await this.page.getByTestId('state').textContent()) ?? ''));
  }

  /** How often the log has that. */
  async logged(what: RegExp): Promise<number> {
    return (await this.page.getByTestId('log').locator('li').allTextContents()).filter((line) => what.test(line)).length;
  }

  /** By which of its candidates its media go. */
  async ways(): Promise<(string | undefined)[]> {
    return (await this.page.evaluate(() => window.ways())).map(({ type }) => type);
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}
