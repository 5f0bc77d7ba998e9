import type { Page } from 'playwright-core';
import type { Whip } from '../page/whip';
import { type Look, isNear } from './colours';
import { hearsExactly } from './sound';
import { until } from './until';

type Methods = { [M in keyof Whip]: Whip[M] extends (...args: never[]) => unknown ? Whip[M] : never };

/** A page of WHIP and WHEP clients (`page/whip.ts`). */
export class WhipPage {
  constructor(
    private readonly page: Page,
    readonly who: string,
  ) {}

  /** Calls a method of the page's `Whip`. */
  call<M extends keyof Methods>(method: M, ...args: Parameters<Methods[M]>): Promise<Awaited<ReturnType<Methods[M]>>> {
    const call = ([name, given]: [string, unknown[]]): unknown =>
      (window.whip as unknown as Record<string, (...args: unknown[]) => unknown>)[name]?.(...given);
    return this.page.evaluate(call, [method, args] as [string, unknown[]]) as Promise<Awaited<ReturnType<Methods[M]>>>;
  }

  /** Waits until what is played has that colour in its middle and sounds like that. */
  async receives(session: string, look: Look, all: Look[]): Promise<void> {
    await until(`${this.who} sees ${look.colour.join(' ')}`, async () => {
      const [found] = await this.call('colours', session, [[0.5, 0.5]]);
      if (!found || !isNear(found, look.colour)) throw new Error(`sees ${found?.join(' ')}`);
      return true;
    });
    await hearsExactly(this.who, (tones) => this.call('levels', session, tones), [look], all);
  }

  /** Waits until the server knows nothing of a session any more. */
  async isGone(session: string): Promise<void> {
    await until(`the session of ${this.who} is gone`, async () => (await this.call('status', session)) === 404);
  }
}
