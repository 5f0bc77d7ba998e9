import { Chromium } from './browser';
import { Kaigi } from './kaigi';
import type { RawPage } from './raw';
import { ROOM_WITH_ADMIN } from './wishes';

/** A Kaigi with a room of small views and all roles, and a page in it that speaks the protocol by hand. */
export class Stage {
  private constructor(
    readonly kaigi: Kaigi,
    private readonly browser: Chromium,
    readonly room: string,
    readonly page: RawPage,
  ) {}

  /** `name` names the room, and the logs with `protocol-` before it. */
  static async open(name: string): Promise<Stage> {
    const kaigi = await Kaigi.start({ name: `protocol-${name}` });
    let browser: Chromium | undefined;
    try {
      browser = await Chromium.launch(`protocol-${name}`);
      const room = await kaigi.rest.createRoom(name, ROOM_WITH_ADMIN);
      const page = await browser.raw(kaigi, 'page');
      await page.join(kaigi, room);
      return new Stage(kaigi, browser, room, page);
    } catch (error) {
      await browser?.close();
      await kaigi.stop();
      throw error;
    }
  }

  /** The id of the room's mixed stream. */
  get mixed(): string {
    return `${this.room}-common`;
  }

  async close(): Promise<void> {
    await this.browser.close();
    await this.kaigi.stop();
  }
}
