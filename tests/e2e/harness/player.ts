import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { type Chromium, script } from './browser';
import { type Look, type Rgb, isNear } from './colours';
import type { LiveServer } from './live-server';
import { hearsExactly } from './sound';
import { until } from './until';
import type { Seen } from '../page/player';

const LIBRARIES = { hls: 'hls.js/dist/hls.min.js', dash: 'dashjs/dist/modern/umd/dash.all.min.js' } as const;

/** Somebody who watches a broadcast in a browser, with hls.js or dash.js. */
export class Player {
  private constructor(
    private readonly page: Page,
    private readonly url: string,
  ) {}

  /** The page, too, comes from the server that has the broadcast. */
  static async open(browser: Chromium, server: LiveServer, library: keyof typeof LIBRARIES, url: string, { lowLatency = false } = {}): Promise<Player> {
    const folder = path.join(server.folder, 'www', 'player');
    mkdirSync(folder, { recursive: true });
    copyFileSync(fileURLToPath(new URL(`../node_modules/${LIBRARIES[library]}`, import.meta.url)), path.join(folder, `${library}.js`));
    writeFileSync(path.join(folder, 'player.js'), await script('player'));
    writeFileSync(path.join(folder, `${library}.html`), `<!doctype html><meta charset="utf-8"><title>${library}</title><body><script src="${library}.js"></script><script type="module" src="player.js"></script>`);
    const page = await browser.page(server.fileUrl(`player/${library}.html`), library);
    await page.waitForFunction(() => 'player' in window);
    await page.evaluate(([u, l]) => window.player.play(u, l), [url, lowLatency] as const);
    return new Player(page, url);
  }

  see(points: readonly (readonly [number, number])[]): Promise<Seen> {
    return this.page.evaluate((p) => window.player.see(p), points);
  }

  /** Waits until those colours are at those points, in pictures that move; what was seen then. */
  async shows(looks: Look[], points: readonly (readonly [number, number])[], patience = 45_000): Promise<Seen> {
    let before = Number.POSITIVE_INFINITY;
    let seen: Seen | undefined;
    await until(`${this.url} is played`, async () => {
      seen = await this.see(points);
      const found: Rgb[] = seen.colours;
      const moves = seen.frames > before;
      before = seen.frames;
      if (!moves || !looks.every((look, i) => isNear(found[i] ?? [0, 0, 0], look.colour))) throw new Error(JSON.stringify(seen));
      return true;
    }, patience);
    if (!seen) throw new Error('not seen');
    return seen;
  }

  hears(looks: Look[], all: Look[]): Promise<boolean> {
    return hearsExactly(this.url, (tones) => this.page.evaluate((t) => window.player.levels(t), tones), looks, all);
  }

  close(): Promise<void> {
    return this.page.context().close();
  }
}
