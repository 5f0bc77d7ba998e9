import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import type { Chromium } from './browser';
import type { Rgb } from './colours';
import { until } from './until';

export interface EchoWish {
  source?: 'camera' | 'drawn' | 'none';
  sound?: 'microphone' | 'tone' | 'none';
  transform?: string;
}

/** Pixels of a picture, as it is at the moment: a grid of its middle parts, row by row. */
export interface Sampled {
  size: [number, number];
  pixels: Rgb[];
}

/** The page that sends its own picture there and back. */
export class EchoPage {
  private constructor(readonly page: Page) {}

  /** Opens the page below `base` and starts. */
  static async start(browser: Chromium, base: string, wish: EchoWish): Promise<EchoPage> {
    const query = new URLSearchParams({ ...wish });
    const page = await browser.page(`${base}/?${query.toString()}`, `echo-${wish.transform ?? 'none'}`);
    await page.getByTestId('start').click();
    const echo = new EchoPage(page);
    await until('the page is connected', async () => (await page.getByTestId('state').textContent()) === 'Connected');
    return echo;
  }

  /** `across` × `down` pixels of a picture, in the middles of as many equal fields; nothing while there is no picture. */
  async sample(which: 'own' | 'back', across: number, down: number): Promise<Sampled | undefined> {
    const sampled = await this.page.getByTestId(which).evaluate(
      (video: HTMLVideoElement, [across, down]) => {
        const { videoWidth: width, videoHeight: height } = video;
        if (width === 0 || video.getVideoPlaybackQuality().totalVideoFrames === 0) return undefined;
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [width, height];
        const context = canvas.getContext('2d', { willReadFrequently: true });
        if (!context) throw new Error('no canvas');
        context.drawImage(video, 0, 0);
        const { data } = context.getImageData(0, 0, width, height);
        const pixels: number[][] = [];
        for (let row = 0; row < down; row++) {
          for (let column = 0; column < across; column++) {
            const at = Math.floor(((row + 0.5) * height) / down) * width + Math.floor(((column + 0.5) * width) / across);
            pixels.push([...data.slice(at * 4, at * 4 + 3)]);
          }
        }
        return { size: [width, height], pixels };
      },
      [across, down] as const,
      { timeout: 2000 },
    );
    return sampled as Sampled | undefined;
  }

  /** The loudest pitch that comes back, in Hz. */
  pitch(): Promise<number> {
    return this.page.getByTestId('back').evaluate(async (video: HTMLVideoElement) => {
      const context = new AudioContext();
      try {
        const analyser = context.createAnalyser();
        analyser.fftSize = 8192;
        context.createMediaStreamSource(video.srcObject as MediaStream).connect(analyser);
        await new Promise((resolve) => setTimeout(resolve, 300));
        const levels = new Float32Array(analyser.frequencyBinCount);
        analyser.getFloatFrequencyData(levels);
        const loudest = levels.indexOf(Math.max(...levels));
        return (levels[loudest] ?? -200) > -60 ? (loudest * context.sampleRate) / analyser.fftSize : 0;
      } finally {
        await context.close();
      }
    });
  }

  /** Waits for a line of the log; gives it. */
  logged(what: RegExp): Promise<string> {
    const line = async (): Promise<string | undefined> =>
      (await this.page.getByTestId('log').locator('li').allTextContents()).find((line) => what.test(line));
    return until(`the page logs ${what.source}`, line);
  }

  async say(text: string): Promise<void> {
    await this.page.getByTestId('text').fill(text);
    await this.page.getByTestId('send').click();
  }

  /** Stops, so that the server is told. */
  async close(): Promise<void> {
    await this.page.getByTestId('start').click({ timeout: 2000 }).catch(() => undefined);
    await this.page.context().close();
  }
}

/** What a client of aiortc tells; see `aiortc/client.py`. */
export interface Told {
  pongs: string[];
  took_ms: number[];
  message: string;
  tone: number;
  frames: number;
  picture: { size: [number, number]; difference?: number; edges?: [number, number] };
}

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
/** The server is on this machine, and there may be no other network. */
const LOOPBACK = 'import aioice.ice\naioice.ice.get_host_addresses = lambda **_: ["127.0.0.1"]\n';

async function python(args: string[], env: Record<string, string> = {}): Promise<string> {
  const { stdout } = await promisify(execFile)(path.join(PROJECT, '.cache/aiortc/bin/python'), args, { timeout: 45_000, env: { ...process.env, ...env } });
  return stdout;
}

/** Has a client of aiortc send a drawing and a tone to the server at `base`. */
export async function aiortc(base: string, transform: string): Promise<Told> {
  return JSON.parse(await python([path.join(PROJECT, 'tests/e2e/aiortc/client.py'), base, transform])) as Told;
}

/** Runs the program in Python on a page of the documentation: what it prints, and what it says that it prints. */
export async function pythonOf(name: string, url: string): Promise<[string, string]> {
  const text = readFileSync(path.join(PROJECT, 'docs', name), 'utf8');
  const [, program = '', prints = ''] = /^```python\n(.*?)^```\n\n```text\n(.*?)^```$/ms.exec(text) ?? [];
  return [await python(['-c', LOOPBACK + program], { KAIGI_URL: url }), prints];
}
