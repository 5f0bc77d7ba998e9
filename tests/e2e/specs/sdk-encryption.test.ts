// Streams that are encrypted end to end, in real browsers by a real server that can't look into them.
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, GREEN, type Look, RED, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { SMALL_VIEW } from '../harness/room';
import { hearsExactly } from '../harness/sound';
import { until } from '../harness/until';
import type { Sealed, SealedWish } from '../page/sealed';

/** The longest that a picture may stand still when keys change, in ms. */
const STANDSTILL = 1500;

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let pages: Page[];

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'sdk-encryption' });
  browser = await Chromium.launch('sdk-encryption');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});
beforeEach(async () => {
  pages = [];
  room = await kaigi.rest.createRoom('sealed', { autoMix: true, views: [SMALL_VIEW] });
});
afterEach(async () => {
  for (const page of pages) await page.context().close();
});

/** A page that has joined with a passphrase, or knows of no encryption. */
async function join(who: string, passphrase: string | undefined, query = ''): Promise<Page> {
  const page = await browser.sealed(kaigi, who, `?${passphrase === undefined ? '' : 'key'}${query}`);
  pages.push(page);
  await page.evaluate(([token, words]) => window.sealed.join(token!, words), [await kaigi.rest.token(room, who), passphrase] as const);
  return page;
}

const publish = (page: Page, wish: SealedWish): Promise<string> => page.evaluate((w) => window.sealed.publish(w), wish);
const told = (page: Page): Promise<string[]> => page.evaluate(() => window.sealed.told());
const video = (page: Page): ReturnType<Sealed['video']> => page.evaluate(() => window.sealed.video());

async function subscribe(page: Page, stream: string, options: { raw?: boolean } = {}): Promise<void> {
  await until('it knows of the stream', () => page.evaluate((id) => window.sealed.says(id), stream));
  await page.evaluate(([id, how]) => window.sealed.subscribe(id, how), [stream, options] as const);
}

async function seesAndHears(page: Page, look: Look): Promise<void> {
  await until(`it sees ${look.colour.join(' ')}`, async () => {
    const colour = await page.evaluate(() => window.sealed.colour());
    if (!colour || !isNear(colour, look.colour)) throw new Error(`sees ${colour?.join(' ')}; told ${(await told(page)).join(', ')}`);
    return true;
  }, 30_000);
  await hearsExactly('it', (tones) => page.evaluate((t) => window.sealed.levels(t), tones), [look], [RED, GREEN, BLUE]);
}

/** Waits for so many more frames. */
async function moves(page: Page, frames = 10): Promise<void> {
  const before = await page.evaluate(() => window.sealed.frames());
  await until('the picture moves', async () => (await page.evaluate(() => window.sealed.frames())) >= before + frames);
}

describe('a stream that is encrypted', () => {
  it.each(['vp8', 'vp9', 'h264'])('(%s) is seen and heard by who has its key, and not by who has another', async (codec) => {
    const [ann, bob, eve] = [await join('ann', 'secret'), await join('bob', 'secret'), await join('eve', 'guess')];
    const stream = await publish(ann, { look: RED, codec });
    for (const page of [bob, eve]) await subscribe(page, stream);
    await seesAndHears(bob, RED);
    expect(await video(bob)).toMatchObject({ codec });

    await until('the other is told', async () => (await told(eve)).length === 2);
    expect((await told(eve)).sort()).toEqual(['audio wrong-key 0', 'video wrong-key 0']);
    await until('the other is sent the picture, too', async () => (await video(eve)).received > 50);
    expect((await video(eve)).decoded).toBe(0);
    await hearsExactly('eve', (tones) => eve.evaluate((t) => window.sealed.levels(t), tones), [], [RED]);
    expect(await told(bob)).toEqual([]);

    // As soon as it has the key, it sees and hears.
    await eve.evaluate(() => window.sealed.replaceKey('secret'));
    await seesAndHears(eve, RED);
    expect((await told(eve)).sort().slice(0, 2)).toEqual(['audio recovered', 'audio wrong-key 0']);
  });

  it('(av1) is, too, in a room that takes it', async () => {
    const opus = { codec: 'opus', sampleRate: 48_000, channelNum: 2 };
    room = await kaigi.rest.createRoom('av1', { views: [], mediaIn: { audio: [opus], video: [{ codec: 'av1' }] } });
    const [ann, bob] = [await join('ann', 'secret'), await join('bob', 'secret')];
    await subscribe(bob, await publish(ann, { look: RED, codec: 'av1' }));
    await seesAndHears(bob, RED);
    expect(await video(bob)).toMatchObject({ codec: 'av1' });
    expect(await told(bob)).toEqual([]);
  });

  it('says so, and is not taken by who knows of no encryption, unless as it is', async () => {
    const [ann, dan] = [await join('ann', 'secret'), await join('dan', undefined)];
    const stream = await publish(ann, { look: RED });
    await expect(subscribe(dan, stream)).rejects.toThrow('encrypted end to end');
    expect(await dan.evaluate((id) => window.sealed.says(id), stream)).toBe('sframe');
    expect((await kaigi.rest.stream(room, stream)).info).toMatchObject({ attributes: { e2ee: 'sframe' }, inViews: [] });

    await subscribe(dan, stream, { raw: true });
    await until('it is sent something', async () => (await video(dan)).received > 30);
    expect((await video(dan)).decoded).toBe(0);
  });

  it('is neither mixed nor made anything of', async () => {
    const [ann, bob] = [await join('ann', 'secret'), await join('bob', 'secret')];
    const stream = await publish(ann, { look: RED });
    const why = 'Stream is encrypted end to end';
    await expect(ann.evaluate(() => window.sealed.mix('common'))).rejects.toThrow(why);
    const mix = [{ op: 'add', path: '/info/inViews', value: 'common' }] as const;
    await expect(kaigi.rest.patchStream(room, stream, [...mix])).rejects.toThrow(why);
    const recording = { container: 'mkv', media: { audio: { from: stream }, video: { from: stream } } };
    expect(await kaigi.rest.call('POST', `/v1/rooms/${room}/recordings`, recording)).toMatchObject({ text: expect.stringContaining(why) });
    await subscribe(bob, stream);
    await seesAndHears(bob, RED);
    await expect(bob.evaluate(() => window.sealed.update({ video: { resolution: { width: 160, height: 120 } } }))).rejects.toThrow(why);
    await moves(bob);
  });

  it('goes beside others that are not', async () => {
    const [ann, bob, dan] = [await join('ann', 'secret'), await join('bob', 'secret'), await join('dan', undefined)];
    const open = await publish(dan, { look: BLUE });
    const sealed = await publish(ann, { look: RED });
    await subscribe(bob, open);
    await seesAndHears(bob, BLUE);
    // From one to the other, and back, on the same m-lines.
    for (const [from, look] of [[sealed, RED], [open, BLUE]] as const) {
      await bob.evaluate((id) => window.sealed.update({ from: id }), from);
      await seesAndHears(bob, look);
    }
    expect(await dan.evaluate((id) => window.sealed.says(id), open)).toBe('nothing');
  });
});

describe('layers', () => {
  it('are chosen of an encrypted stream as of others', async () => {
    const [ann, bob] = [await join('ann', 'secret'), await join('bob', 'secret')];
    const layers = [
      { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
      { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 450_000 },
      { rid: 'f', maxBitrate: 1_500_000 },
    ];
    const stream = await publish(ann, { look: GREEN, layers });
    await subscribe(bob, stream);
    const hasWidth = (width: number): Promise<unknown> => until(`it is ${width} wide`, async () => (await video(bob)).width === width, 40_000);
    for (const [width, height] of [[320, 180], [640, 360], [1280, 720]] as const) {
      await bob.evaluate((resolution) => window.sealed.update({ video: { resolution } }), { width, height });
      await hasWidth(width);
      await moves(bob);
    }
    await seesAndHears(bob, GREEN);
    expect(await told(bob)).toEqual([]);
  });
});

describe('keys', () => {
  it('change during a call without a break', async () => {
    const [ann, bob] = [await join('ann', 'secret'), await join('bob', 'secret')];
    const stream = await publish(ann, { look: RED });
    await subscribe(bob, stream);
    await seesAndHears(bob, RED);
    await bob.evaluate(() => {
      const watch = { longest: 0, frames: 0, moved: performance.now() };
      Object.assign(window, { watch });
      setInterval(() => {
        const now = performance.now();
        watch.longest = Math.max(watch.longest, now - watch.moved);
        const frames = window.sealed.frames();
        if (frames > watch.frames) [watch.frames, watch.moved] = [frames, now];
      }, 50);
    });
    for (const id of [1, 2]) {
      for (const page of [bob, ann]) await page.evaluate((key) => window.sealed.addKey(key, key), id);
      await ann.evaluate((key) => window.sealed.useKey(key), id);
      await moves(bob, 20);
      for (const page of [ann, bob]) await page.evaluate((key) => window.sealed.removeKey(key), id - 1);
      await moves(bob, 20);
    }
    expect(await bob.evaluate(() => (window as unknown as { watch: { longest: number } }).watch.longest)).toBeLessThan(STANDSTILL);
    expect(await told(bob)).toEqual([]);
    expect(await told(ann)).toEqual([]);
    await seesAndHears(bob, RED);
  });

  it('that are gone end what was sent with them, and nothing goes out in the clear', async () => {
    const [ann, bob] = [await join('ann', 'secret'), await join('bob', 'secret')];
    await subscribe(bob, await publish(ann, { look: RED }));
    await seesAndHears(bob, RED);
    await ann.evaluate(() => window.sealed.removeKey(0));
    await until('it is told', async () => (await told(ann)).length === 2);
    expect((await told(ann)).sort()).toEqual(['audio not sent: no-key', 'video not sent: no-key']);
    await hearsExactly('bob', (tones) => bob.evaluate((t) => window.sealed.levels(t), tones), [], [RED]);
    for (const page of [bob, ann]) await page.evaluate(() => window.sealed.addKey(5, 9));
    await ann.evaluate(() => window.sealed.useKey(5));
    await seesAndHears(bob, RED);
  });
});

describe('a browser without script transforms', () => {
  it('encrypts and decrypts all the same', async () => {
    const [ann, bob] = [await join('ann', 'secret', '&streams'), await join('bob', 'secret')];
    await subscribe(bob, await publish(ann, { look: RED }));
    await seesAndHears(bob, RED);
    await subscribe(ann, await publish(bob, { look: GREEN }));
    await seesAndHears(ann, GREEN);
    // What is not encrypted goes over the same connection.
    const dan = await join('dan', undefined);
    await ann.evaluate(() => window.sealed.unsubscribe());
    await subscribe(ann, await publish(dan, { look: BLUE }));
    await seesAndHears(ann, BLUE);
    await subscribe(dan, await publish(ann, { look: RED, plain: true }));
    await seesAndHears(dan, RED);
  });
});
