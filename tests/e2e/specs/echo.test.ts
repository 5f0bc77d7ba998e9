import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import type { Rgb } from '../harness/colours';
import { EchoPage, type EchoWish, type Sampled, aiortc, pythonOf } from '../harness/echo';
import { checkPage } from '../harness/examples';
import { request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import { freePort } from '../harness/live-server';
import { until } from '../harness/until';

const AXE = readFileSync(fileURLToPath(new URL('../node_modules/axe-core/axe.min.js', import.meta.url)), 'utf8');

let kaigi: Kaigi;
let browser: Chromium;
/** The port of its own. */
let own: string;

const luma = ([r, g, b]: Rgb): number => 0.299 * r + 0.587 * g + 0.114 * b;
/** How far a colour is from grey. */
const chroma = (pixel: Rgb): number => Math.max(...pixel) - Math.min(...pixel);
const distance = (a: Rgb, b: Rgb): number => Math.max(...a.map((part, i) => Math.abs(part - (b[i] ?? 0))));
const share = <T>(all: T[], is: (one: T, at: number) => boolean): number => all.filter(is).length / all.length;

const post = async (path: string, body: unknown): Promise<{ status: number; body: { error?: { code: string } } }> => {
  const answer = await request(kaigi.url + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  return { status: answer.status, body: JSON.parse(answer.text) as { error?: { code: string } } };
};

const sessions = async (): Promise<number> => (JSON.parse((await request(`${own}/health`)).text) as { sessions: number }).sessions;

/** Runs with a page that has started, and closes it. */
async function having(wish: EchoWish, check: (page: EchoPage) => Promise<void>, base = `${kaigi.url}/echo`): Promise<void> {
  const page = await EchoPage.start(browser, base, wish);
  try {
    await check(page);
  } finally {
    await page.close();
  }
}

beforeAll(async () => {
  const port = await freePort();
  own = `http://127.0.0.1:${port}`;
  kaigi = await Kaigi.start({ name: 'echo', env: { KAIGI_ECHO_SESSIONS: '8', KAIGI_ECHO_PORT: String(port) } });
  browser = await Chromium.launch('echo');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('a page', () => {
  it('gets its camera back, is answered on its data channel, and told what others have said there', async () => {
    await having({ source: 'camera', sound: 'tone' }, async (page) => {
      await until('the same picture comes back', async () => {
        const [sent, back] = [await page.sample('own', 8, 6), await page.sample('back', 8, 6)];
        return sent && back && String(sent.size) === String(back.size) && share(back.pixels, (pixel, i) => distance(pixel, sent.pixels[i] ?? [0, 0, 0]) < 40) > 0.8;
      });
      await until('the tone comes back', async () => Math.abs((await page.pitch()) - 440) < 12);
      await page.logged(/data channel open/);
      await page.say('ping 1234');
      await page.logged(/< pong 1234$/);
      const session = /session (\w+)/.exec(await page.logged(/session \w+/))?.[1];
      expect(await post('/echo/message', { session, text: 'from outside' })).toEqual({ status: 200, body: {} });
      await page.logged(/< from outside$/);
      await page.page.evaluate(AXE);
      const faults = await page.page.evaluate(async () => {
        const { violations } = await (window as unknown as { axe: { run(): Promise<{ violations: { id: string }[] }> } }).axe.run();
        return violations.map(({ id }) => id);
      });
      expect(faults).toEqual([]);
      await page.page.screenshot({ path: browser.artifact('page'), fullPage: true });
    });
  });

  it('sees edges: white lines on black', async () => {
    await having({ source: 'camera', sound: 'none', transform: 'edges' }, async (page) => {
      await until('edges come back', async () => {
        const back = await page.sample('back', 160, 120);
        if (!back) return false;
        const [grey, dark, bright] = [(p: Rgb) => chroma(p) < 24, (p: Rgb) => luma(p) < 64, (p: Rgb) => luma(p) > 160];
        return share(back.pixels, grey) > 0.98 && share(back.pixels, dark) > 0.7 && share(back.pixels, bright) > 0.001;
      });
    });
  });

  it('sees its drawing turned by 90° clockwise', async () => {
    await having({ source: 'drawn', sound: 'none', transform: 'rotate' }, async (page) => {
      const sent = await until('there is a picture', () => page.sample('own', 2, 2));
      await until('the picture comes back turned', async () => {
        const back = await page.sample('back', 2, 2);
        if (!back || back.size[0] !== sent.size[1] || back.size[1] !== sent.size[0]) return false;
        // Bottom left comes to the top left, and so on.
        const turned = [2, 0, 3, 1].map((i) => sent.pixels[i] ?? [0, 0, 0]);
        return back.pixels.every((pixel, i) => distance(pixel, turned[i] as Rgb) < 60);
      });
    });
  }, 30_000);

  it('sees a cartoon: the same fields with black lines around them', async () => {
    await having({ source: 'drawn', sound: 'none', transform: 'cartoon' }, async (page) => {
      await until('a cartoon comes back', async () => {
        // Below, where the fields differ most in brightness: between blue and yellow.
        const [sent, back] = [await page.sample('own', 640, 6), await page.sample('back', 640, 6)];
        if (!sent || !back) return false;
        const row = ({ pixels }: Sampled): Rgb[] => pixels.slice(5 * 640);
        const fields = (of: Sampled): Rgb[] => [160, 480].map((x) => row(of)[x] ?? [0, 0, 0]);
        const hasLine = (of: Sampled): boolean => row(of).slice(314, 326).some((pixel) => luma(pixel) < 0.6 * Math.min(...fields(of).map(luma)));
        return !hasLine(sent) && hasLine(back) && fields(back).every((pixel) => chroma(pixel) > 60);
      });
    });
  });

  it('is served at the root of a port of its own', async () => {
    await having({ source: 'none', sound: 'none' }, async (page) => {
      await page.logged(/data channel open/);
      await page.say('ping');
      await page.logged(/< pong$/);
    }, own);
  });
});

describe('a client of aiortc', () => {
  it('gets its picture and sound back, and answers', async () => {
    const told = await aiortc(own, 'none');
    expect(told).toMatchObject({ pongs: ['pong 0', 'pong 1', 'pong 2'], message: 'from outside', picture: { size: [640, 480] } });
    expect(told.picture.difference).toBeLessThan(8);
    expect(Math.abs(told.tone - 440)).toBeLessThan(12);
    expect(Math.min(...told.took_ms)).toBeLessThan(250);
  });

  it('gets the edges that OpenCV finds', async () => {
    const told = await aiortc(own, 'edges');
    const [right, found] = told.picture.edges ?? [0, 0];
    expect(right, JSON.stringify(told)).toBeGreaterThan(0.95);
    expect(found, JSON.stringify(told)).toBeGreaterThan(0.95);
  });
});

describe('the server', () => {
  it('refuses what it can not serve, in words', async () => {
    for (const [path, body, status, code] of [
      ['/echo/offer', {}, 400, 'malformed'],
      ['/echo/offer', { sdp: 'v=0\r\n', type: 'offer' }, 400, 'malformed_offer'],
      ['/echo/offer', { sdp: 'x', type: 'offer', video_transform: 'blur' }, 400, 'malformed'],
      ['/echo/message', { session: '0'.repeat(32), text: 'x' }, 404, 'no_session'],
      ['/echo/message', { session: 1 }, 400, 'malformed'],
    ] as const) {
      expect(await post(path, body), path).toMatchObject({ status, body: { error: { code } } });
    }
  });

  it('forgets who has gone', async () => {
    // Pages close their connections, aiortc too; the server hears of it from DTLS.
    await until('no session is left', async () => (await sessions()) === 0, 45_000);
  });

  it('does what its page of the documentation says', async () => {
    checkPage('echo.md', kaigi);
    const [printed, expected] = await pythonOf('echo.md', kaigi.url);
    expect(printed).toBe(expected);
    expect(expected).not.toBe('');
  });
});
