import type { Page } from 'playwright-core';
import type { Raw } from '../page/raw';
import type { Protocol } from '../page/wire';
import { type Look, type Rgb, isNear } from './colours';
import type { Kaigi } from './kaigi';
import { matches } from './matches';
import { type LoginReply, USER_AGENT } from './signaling';
import { hearsExactly } from './sound';
import { PATIENCE, until } from './until';

/** What a page that speaks the protocol by hand can do. */
type Methods = { [M in keyof Raw]: Raw[M] extends (...args: never[]) => unknown ? Raw[M] : never };

export interface JoinOptions {
  protocol?: Protocol;
  transports?: ('polling' | 'websocket')[];
  role?: string;
  /** The SDK that it says it is. */
  sdk?: { type: string; version: string };
}

/** A page that speaks the protocol by hand (`page/raw.ts`). */
export class RawPage {
  id = '';

  constructor(
    private readonly page: Page,
    readonly who: string,
  ) {}

  /** Calls a method of the page's `Raw`. */
  call<M extends keyof Methods>(method: M, ...args: Parameters<Methods[M]>): Promise<Awaited<ReturnType<Methods[M]>>> {
    const call = ([name, given]: [string, unknown[]]): unknown =>
      (window.raw as unknown as Record<string, (...args: unknown[]) => unknown>)[name]?.(...given);
    return this.page.evaluate(call, [method, args] as [string, unknown[]]) as Promise<Awaited<ReturnType<Methods[M]>>>;
  }

  async join(kaigi: Kaigi, room: string, { protocol = '1.2', transports = ['websocket'], role = 'presenter', sdk = USER_AGENT.sdk }: JoinOptions = {}): Promise<LoginReply> {
    const token = await kaigi.rest.token(room, this.who, role);
    const reply = (await this.call('join', kaigi.url, token, protocol, transports, { sdk })) as LoginReply;
    this.id = reply.id;
    return reply;
  }

  /** Waits until the picture of a subscription has that colour in its middle. */
  async sees(subscription: string, { colour }: Look): Promise<void> {
    await until(`${this.who} sees ${colour.join(' ')}`, async () => {
      const [found] = await this.call('colours', subscription, [[0.5, 0.5]]);
      if (!isNear(found as Rgb, colour)) throw new Error(`sees ${found?.join(' ')}`);
      return true;
    });
  }

  /** Waits until of the tones exactly the expected are heard in a subscription. */
  hears(subscription: string, expected: Look[], all: Look[]): Promise<boolean> {
    return hearsExactly(this.who, (tones) => this.call('levels', subscription, tones), expected, all);
  }

  /** Waits until it was told something that has at least these members; that. */
  async isTold<T = unknown>(event: string, wanted: unknown): Promise<T> {
    const found = await until(`${this.who}: ${event} ${JSON.stringify(wanted)}`, async () => {
      const told = await this.call('told');
      const one = told.find((candidate) => candidate.event === event && matches(candidate.data, wanted));
      if (!one) throw new Error(`told: ${JSON.stringify(told.slice(-5)).slice(0, 1500)}`);
      return one;
    });
    return found.data as T;
  }

  /** Waits for so many more frames. */
  async moves(subscription: string, frames = 10): Promise<void> {
    const before = await this.call('frames', subscription);
    await until(`${this.who} sees ${frames} more frames`, async () => (await this.call('frames', subscription)) >= before + frames);
  }

  /** Waits until no more frames come. */
  async stands(subscription: string): Promise<void> {
    let before = -1;
    await until(`${this.who} sees the picture stand still`, async () => {
      const frames = (await this.call('video', subscription)).frames;
      const stands = frames === before;
      before = frames;
      return stands;
    }, PATIENCE, 500); // prettier-ignore
  }

  /** What arrives of a subscription's video in that time: frames and kbit a second. */
  async measure(subscription: string, seconds = 2): Promise<{ fps: number; kbps: number }> {
    return this.page.evaluate(async ([id, time]) => {
      const [before, from] = [await window.raw.video(id), performance.now()];
      await new Promise((resolve) => setTimeout(resolve, time * 1000));
      const [after, elapsed] = [await window.raw.video(id), (performance.now() - from) / 1000];
      return { fps: (after.frames - before.frames) / elapsed, kbps: ((after.bytes - before.bytes) * 8) / 1000 / elapsed };
    }, [subscription, seconds] as const);
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}
