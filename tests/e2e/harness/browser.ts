import { createWriteStream, mkdirSync, readFileSync, type WriteStream } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, type BrowserContext, type Page, chromium } from 'playwright-core';
import { transformWithEsbuild } from 'vite';
import type { PublishTrackOptions, VideoSubscribeOptions } from '../../../web/sdk/src/kaigi';
import type { Arrived, FirstFrame, Lab, Sent, Speaking, SubscribeWish } from '../page/lab';
import type { Look, Rgb } from './colours';
import { ARTIFACTS, type Kaigi } from './kaigi';
import { type Network, type Way, confine } from './network';
import { Picture } from './picture';
import { RawPage } from './raw';
import { PATIENCE, SLACK } from './until';
import { WhipPage } from './whip';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--autoplay-policy=no-user-gesture-required',
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

const PAGE = fileURLToPath(new URL('../page/', import.meta.url));
/** Browser builds of Socket.IO clients. */
const BUNDLES: Record<string, string> = {
  'socket.io-2': 'socket.io-client-2/dist/socket.io.js',
  'socket.io-3': 'socket.io-client/dist/socket.io.js',
  'socket.io-4': 'socket.io-client-4/dist/socket.io.js',
};

/** A script for a bare page: a bundle, or a module of `page`. */
export async function script(name: string): Promise<string> {
  const bundle = BUNDLES[name];
  if (bundle) return readFileSync(fileURLToPath(new URL(`../node_modules/${bundle}`, import.meta.url)), 'utf8');
  const file = path.join(PAGE, `${name}.ts`);
  return (await transformWithEsbuild(readFileSync(file, 'utf8'), file, { target: 'es2022' })).code;
}

declare global {
  interface Window {
    lab: Lab;
    ways: () => Promise<Way[]>;
  }
}

export interface PageOptions {
  width?: number;
  height?: number;
  /** What the media of the page may go through. */
  network?: Network;
}

/** A real browser, with a context of its own for each page: as if each were another person's. */
export class Chromium {
  private constructor(
    private readonly browser: Browser,
    private readonly name: string,
    private readonly log: WriteStream,
  ) {}

  /** `name` names the log of all consoles in the artifacts; `flags` are switches besides the usual ones. */
  static async launch(name: string, flags: string[] = []): Promise<Chromium> {
    mkdirSync(ARTIFACTS, { recursive: true });
    const browser = await chromium.launch({ executablePath: EXECUTABLE, args: [...FLAGS, ...flags], ignoreDefaultArgs: ['--mute-audio'] });
    return new Chromium(browser, name, createWriteStream(path.join(ARTIFACTS, `${name}-browser.log`)));
  }

  private async context({ width = 800, height = 600 }: PageOptions): Promise<BrowserContext> {
    return this.browser.newContext({ ignoreHTTPSErrors: true, viewport: { width, height }, permissions: ['camera', 'microphone'] });
  }

  /** A page at any address. */
  async page(url: string, who: string, options: PageOptions = {}): Promise<Page> {
    const page = await this.logged(who, options);
    if (options.network) await page.addInitScript(confine, options.network);
    await page.goto(url);
    return page;
  }

  /**
   * A bare page that has nothing but the SDK and means to look at what arrives (`page/lab.ts`). With `recovers` it gets over
   * failures as the SDK does by itself; otherwise its first failure is the end. `network` is what its media may go through.
   */
  async open(kaigi: Kaigi, who: string, { recovers = false, network }: { recovers?: boolean; network?: Network } = {}): Promise<Participant> {
    return new Participant(await this.bare(kaigi, who, 'lab', { query: recovers ? '?recovers' : '', network }), who);
  }

  /** A bare page that speaks the protocol by hand (`page/raw.ts`), with a Socket.IO client of that generation. */
  async raw(kaigi: Kaigi, who: string, generation: 2 | 3 | 4 = 4): Promise<RawPage> {
    return new RawPage(await this.bare(kaigi, who, 'raw', { generation }), who);
  }

  /** A bare page that encrypts (`page/sealed.ts`). `query` is the page's; with `key` it knows of encryption. */
  sealed(kaigi: Kaigi, who: string, query: string): Promise<Page> {
    return this.bare(kaigi, who, 'sealed', { query });
  }

  /** A bare page of WHIP and WHEP clients (`page/whip.ts`). */
  async whip(kaigi: Kaigi, who: string): Promise<WhipPage> {
    return new WhipPage(await this.bare(kaigi, who, 'whip', {}), who);
  }

  /**
   * A page that runs one of the modules in `page`. It does come from Kaigi, but for its content: browsers let pages that come from
   * nowhere not speak to this machine by WebSocket, and it may import the SDK as a page of Kaigi's would.
   */
  private async bare(
    kaigi: Kaigi,
    who: string,
    module: 'lab' | 'raw' | 'sealed' | 'whip',
    { generation, query = '', network }: { generation?: 2 | 3 | 4; query?: string; network?: Network | undefined },
  ): Promise<Page> {
    const page = await this.logged(who, {});
    if (network) await page.addInitScript(confine, network);
    await page.route(`${kaigi.url}/bare/*.js`, async (route) => {
      const name = path.basename(new URL(route.request().url()).pathname, '.js');
      await route.fulfill({ contentType: 'text/javascript', body: await script(name) });
    });
    await page.goto(`${kaigi.url}/ready${query}`);
    const bundle = generation ? `<script src="/bare/socket.io-${generation}.js"></script>` : '';
    await page.setContent(`<!doctype html><meta charset="utf-8"><title>${module}</title><body>${bundle}<script type="module" src="/bare/${module}.js"></script>`);
    await page.waitForFunction((name) => name in window, module);
    return page;
  }

  private async logged(who: string, options: PageOptions): Promise<Page> {
    const page = await (await this.context(options)).newPage();
    page.setDefaultTimeout(2 * PATIENCE * SLACK);
    page.on('console', (message) => this.log.write(`${who} ${message.type()}: ${message.text()}\n`));
    page.on('pageerror', (error) => this.log.write(`${who} uncaught: ${error.stack ?? error.message}\n`));
    return page;
  }

  async close(): Promise<void> {
    await this.browser.close();
    await new Promise<void>((resolve) => this.log.end(resolve));
  }

  /** Where a picture called `what` of this run belongs. */
  artifact(what: string): string {
    return path.join(ARTIFACTS, `${this.name}-${what}.png`);
  }
}

/** A participant: a bare page with the SDK. Streams that it subscribes are named by what `subscribe` gave. */
export class Participant {
  id = '';

  constructor(
    private readonly page: Page,
    readonly who: string,
  ) {}

  async join(token: string): Promise<void> {
    this.id = await this.page.evaluate((t) => window.lab.join(t), token);
  }

  /** Joins, sees somebody, and tells how long that took. */
  joinAndSee(token: string): Promise<FirstFrame> {
    return this.page.evaluate((t) => window.lab.joinAndSee(t), token);
  }

  /** Publishes a picture of one colour and a tone; the stream's id. */
  publish(look: Look): Promise<string> {
    return this.page.evaluate((l) => window.lab.publish(l), look);
  }

  /** Publishes a tone of that amplitude (1 is as loud as there is) alone; the stream's id. */
  speak(tone: number, amplitude: number): Promise<string> {
    return this.page.evaluate(([t, a]) => window.lab.speak(t, a), [tone, amplitude] as const);
  }

  /** Changes the tone's amplitude; tells when, in ms since 1970. */
  setAmplitude(amplitude: number): Promise<number> {
    return this.page.evaluate((a) => window.lab.setAmplitude(a), amplitude);
  }

  /** Who was heard in selecting streams so far, and from when on. */
  speaking(): Promise<Speaking[]> {
    return this.page.evaluate(() => window.lab.speaking());
  }

  /** Who is heard now in each selecting stream, and who of them leads. */
  speakers(): Promise<{ id: string; activeInput: string | undefined; volume: string | undefined }[]> {
    return this.page.evaluate(() => window.lab.speakers());
  }

  /** Waits until a tone is heard in one of the subscriptions; when that was, in ms since 1970. */
  hearsFrom(subscriptions: string[], tone: number, patience = 10_000): Promise<number> {
    return this.page.evaluate(([s, t, p]) => window.lab.hearsFrom(s, t, p), [subscriptions, tone, patience] as const);
  }

  /** Publishes a picture alone, as the options say. */
  publishPicture(look: Look, size: { width: number; height: number }, options: PublishTrackOptions): Promise<string> {
    return this.page.evaluate(([l, s, o]) => window.lab.publishPicture(l, s, o), [look, size, options] as const);
  }

  /** What is sent of the published picture. */
  sent(): Promise<Sent[]> {
    return this.page.evaluate(() => window.lab.sent());
  }

  /** How a subscribed picture arrives. */
  async received(subscription: string): Promise<Arrived> {
    return (await this.page.evaluate((s) => window.lab.received(s), subscription)) ?? {};
  }

  /** Subscribes a picture alone. */
  subscribePicture(stream: string, video: VideoSubscribeOptions): Promise<string> {
    return this.page.evaluate(([s, v]) => window.lab.subscribePicture(s, v), [stream, video] as const);
  }

  update(subscription: string, video: VideoSubscribeOptions): Promise<void> {
    return this.page.evaluate(([s, v]) => window.lab.update(s, v), [subscription, video] as const);
  }

  pause(subscription: string, paused: boolean): Promise<void> {
    return this.page.evaluate(([s, p]) => window.lab.pause(s, p), [subscription, paused] as const);
  }

  /** By which ways its media go, if its network was named. */
  ways(): Promise<Way[]> {
    return this.page.evaluate(() => window.ways());
  }

  /** All messages so far, in the order in which they came. */
  messages(): Promise<string[]> {
    return this.page.evaluate(() => window.lab.messages());
  }

  /** Says something to all in the room. */
  say(message: string): Promise<void> {
    return this.page.evaluate((m) => window.lab.say(m), message);
  }

  hasJoined(): Promise<boolean> {
    return this.page.evaluate(() => window.lab.hasJoined());
  }

  isPublishing(): Promise<boolean> {
    return this.page.evaluate(() => window.lab.isPublishing());
  }

  unpublish(): Promise<void> {
    return this.page.evaluate(() => window.lab.unpublish());
  }

  /** The ids of the others' streams that are known at the moment. */
  forwardStreams(): Promise<string[]> {
    return this.page.evaluate(() => window.lab.forwardStreams());
  }

  mixedStream(): Promise<string> {
    return this.page.evaluate(() => window.lab.mixedStream());
  }

  subscribe(stream: string, wish: SubscribeWish = { audio: true, video: true }): Promise<string> {
    return this.page.evaluate(([s, w]) => window.lab.subscribe(s, w), [stream, wish] as const);
  }

  unsubscribe(subscription: string): Promise<void> {
    return this.page.evaluate((s) => window.lab.unsubscribe(s), subscription);
  }

  /** How many frames were shown so far. */
  frames(subscription: string): Promise<number> {
    return this.page.evaluate((s) => window.lab.frames(s), subscription);
  }

  /** The colours at points of the picture, given as fractions of its width and height. */
  colours(subscription: string, points: [number, number][]): Promise<Rgb[]> {
    return this.page.evaluate(([s, p]) => window.lab.colours(s, p), [subscription, points] as const);
  }

  /** The colour in the middle. */
  async colour(subscription: string): Promise<Rgb> {
    const [colour] = await this.colours(subscription, [[0.5, 0.5]]);
    if (!colour) throw new Error('no colour');
    return colour;
  }

  /** The whole picture as it is shown at the moment. */
  async picture(subscription: string): Promise<Picture> {
    const { width, height, rgba } = await this.page.evaluate((s) => window.lab.picture(s), subscription);
    return new Picture(width, height, Buffer.from(rgba, 'base64'));
  }

  /** How loud each of these frequencies (Hz) is at the moment, in dB of full scale. */
  levels(subscription: string, tones: number[]): Promise<number[]> {
    return this.page.evaluate(([s, t]) => window.lab.levels(s, t), [subscription, tones] as const);
  }

  /** The layout announced last for a mixed stream; of the regions that show a stream. */
  layout(stream: string): Promise<{ stream: string; left: number; top: number; width: number; height: number }[]> {
    return this.page.evaluate((s) => window.lab.layout(s), stream);
  }

  leave(): Promise<void> {
    return this.page.evaluate(() => window.lab.leave());
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}
