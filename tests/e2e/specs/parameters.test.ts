import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import type { RawPage } from '../harness/raw';
import { SMALL_VIEW } from '../harness/room';
import { until } from '../harness/until';
import { NOT_OFFERED } from '../harness/wishes';
import type { Wish } from '../page/wire';

const SIZE = { width: 640, height: 480 };

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let mixed: string;
let sender: RawPage;
let page: RawPage;
/** Of the sender: one that is mixed, and another one. */
let stream: string;
let other: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'parameters' });
  browser = await Chromium.launch('parameters');
  room = await kaigi.rest.createRoom('parameters', { views: [SMALL_VIEW] });
  mixed = `${room}-common`;
  [sender, page] = await Promise.all([browser.raw(kaigi, 'sender'), browser.raw(kaigi, 'page')]);
  await sender.join(kaigi, room);
  await page.join(kaigi, room);
  stream = await sender.call('publish', { look: RED, size: SIZE, noise: true });
  other = await sender.call('publish', { look: BLUE, audio: false });
  await kaigi.rest.patchStream(room, stream, [{ op: 'add', path: '/info/inViews', value: 'common' }]);
  // What a stream of the page's own has to offer depends on its size.
  await page.isTold('stream', { id: stream, status: 'update', data: { field: '.', value: { media: { tracks: [{}, { parameters: { resolution: SIZE } }] } } } });
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

const open: string[] = [];
afterEach(async () => {
  for (const id of open.splice(0)) await page.call('unsubscribe', id);
});

async function subscribe(from: string, wish: Partial<Wish> = {}, codec?: string): Promise<string> {
  const id = await page.call('subscribe', { video: { from, ...wish }, ...(codec !== undefined && { codec }) });
  open.push(id);
  return id;
}

/** Waits until the picture that is decoded has that size, and goes on. */
async function hasSize(id: string, { width, height }: { width: number; height: number }): Promise<void> {
  await until(`the picture is ${width}×${height}`, async () => {
    const video = await page.call('video', id);
    if (video.width !== width || video.height !== height) throw new Error(JSON.stringify(video));
    return true;
  });
  await page.moves(id, 5);
}

async function hasCodec(id: string, codec: string): Promise<void> {
  await page.moves(id, 5);
  expect((await page.call('video', id)).codec).toBe(codec);
}

/** Waits until so many frames come in a second, within a fifth. */
async function hasRate(id: string, rate: number): Promise<void> {
  await until(`${rate} frames a second`, async () => {
    const { fps } = await page.measure(id, 1.5);
    if (Math.abs(fps - rate) > rate / 5) throw new Error(`${fps} frames a second`);
    return true;
  });
}

/** What comes in kbit a second, once it is at most that; pictures begin with a large frame. */
async function hasAtMost(id: string, limit: number): Promise<number> {
  return until(`at most ${limit} kbit/s`, async () => {
    const { kbps } = await page.measure(id, 1.5);
    if (kbps > limit) throw new Error(`${kbps} kbit/s`);
    return kbps;
  });
}

const update = (id: string, video: object): Promise<unknown> => page.call('request', 'subscription-control', { id, operation: 'update', data: { video } });

describe('the mixed picture', () => {
  it('comes in a size that is wanted', async () => {
    const id = await subscribe(mixed, { parameters: { resolution: { width: 320, height: 240 } } });
    await hasSize(id, { width: 320, height: 240 });
    await page.sees(id, RED);
  });

  it('comes at a rate that is wanted', async () => {
    await hasRate(await subscribe(mixed), 15);
    await hasRate(await subscribe(mixed, { parameters: { framerate: 6 } }), 6);
  });

  it('costs the share of bits that is wanted', async () => {
    const whole = await subscribe(mixed);
    await page.moves(whole, 30);
    const { kbps } = await page.measure(whole, 3);
    const fifth = await subscribe(mixed, { parameters: { bitrate: 'x0.2' } });
    await page.moves(fifth, 15);
    expect(await hasAtMost(fifth, kbps * 0.4)).toBeGreaterThan(kbps * 0.05);
    await page.sees(fifth, RED);
  });

  it('has key frames as often as wanted', async () => {
    const id = await subscribe(mixed, { parameters: { keyFrameInterval: 1 } });
    await page.moves(id, 5);
    const { keyFrames } = await page.call('video', id);
    await until('three more key frames', async () => (await page.call('video', id)).keyFrames >= keyFrames + 3);
  });

  it.each(['vp8', 'vp9', 'h264'])('comes as %s where only that is offered', async (codec) => {
    const id = await subscribe(mixed, {}, codec);
    await hasCodec(id, codec);
    await page.sees(id, RED);
    await hasSize(id, SIZE);
  });

  it('comes in the format that is named', async () => {
    await hasCodec(await subscribe(mixed, { format: { codec: 'vp9' } }), 'vp9');
  });

  it('comes to several in what each wants at the same time', async () => {
    const small = { width: 160, height: 120 };
    const ids = [await subscribe(mixed), await subscribe(mixed, { parameters: { resolution: small } }), await subscribe(mixed, {}, 'h264')];
    await hasSize(ids[0] ?? '', SIZE);
    await hasSize(ids[1] ?? '', small);
    await hasCodec(ids[2] ?? '', 'h264');
    for (const id of ids) await page.sees(id, RED);
  });

  it('changes during the subscription, and back', async () => {
    const id = await subscribe(mixed);
    await hasSize(id, SIZE);
    await update(id, { parameters: { resolution: { width: 320, height: 240 } } });
    await hasSize(id, { width: 320, height: 240 });
    await update(id, { parameters: { resolution: { width: 160, height: 120 }, framerate: 6 } });
    await hasSize(id, { width: 160, height: 120 });
    await hasRate(id, 6);
    await update(id, { parameters: { resolution: SIZE, framerate: 15 } });
    await hasSize(id, SIZE);
    await page.sees(id, RED);
  });

  it.each(NOT_OFFERED)('is refused: %s', async (_, parameters, which) => {
    const text = `Target video stream does NOT satisfy:${which}`;
    await expect(subscribe(mixed, { parameters })).rejects.toThrow(text);
    const id = await subscribe(mixed);
    await expect(update(id, { parameters })).rejects.toThrow(text);
    await page.moves(id, 5);
  });
});

describe("somebody's picture", () => {
  it('comes in a size that is wanted', async () => {
    const id = await subscribe(stream, { parameters: { resolution: { width: 320, height: 240 } } });
    await hasSize(id, { width: 320, height: 240 });
    await page.sees(id, RED);
  });

  it.each(['vp9', 'h264'])('comes as %s where only that is offered', async (codec) => {
    const id = await subscribe(stream, {}, codec);
    await hasCodec(id, codec);
    await page.sees(id, RED);
  });

  it('changes its size during the subscription, and back to what it is', async () => {
    const id = await subscribe(stream);
    await hasSize(id, SIZE);
    await update(id, { parameters: { resolution: { width: 320, height: 240 } } });
    await hasSize(id, { width: 320, height: 240 });
    await update(id, { parameters: { resolution: SIZE } });
    await hasSize(id, SIZE);
    await page.sees(id, RED);
  });

  it("is replaced by another's, and by the mixed one, in the same subscription", async () => {
    const id = await subscribe(stream);
    await page.sees(id, RED);
    await update(id, { from: other });
    await page.sees(id, BLUE);
    await hasSize(id, { width: 320, height: 240 });
    await update(id, { from: mixed });
    await page.sees(id, RED);
    await hasSize(id, SIZE);
    await update(id, { from: other });
    await page.sees(id, BLUE);
  });

  it.each([
    ['a larger size', { resolution: { width: 1280, height: 720 } }, 'Resolution is not acceptable'],
    ['a bitrate between', { bitrate: 'x0.5' }, 'Bitrate is not acceptable'],
    ['a keyFrameInterval between', { keyFrameInterval: 7 }, 'KeyFrameInterval is not acceptable'],
  ])('is refused: %s', async (_, parameters, which) => {
    await expect(subscribe(stream, { parameters })).rejects.toThrow(`Target video stream does NOT satisfy:${which}`);
  });
});

describe('a room without transcoding', () => {
  it('refuses whatever is not there already', async () => {
    const flags = { format: false, parameters: { resolution: false, framerate: false, bitrate: false, keyFrameInterval: false } };
    const plain = await kaigi.rest.createRoom('plain', { views: [SMALL_VIEW], transcoding: { audio: false, video: flags } });
    const guest = await browser.raw(kaigi, 'guest');
    await guest.join(kaigi, plain);
    const wish = (more: Partial<Wish>): Promise<string> => guest.call('subscribe', { video: { from: `${plain}-common`, ...more } });
    await expect(wish({ parameters: { resolution: { width: 320, height: 240 } } })).rejects.toThrow('Resolution is not acceptable');
    await expect(wish({ parameters: { framerate: 6 } })).rejects.toThrow('Framerate is not acceptable');
    await expect(wish({ parameters: { bitrate: 'x0.4' } })).rejects.toThrow('Bitrate is not acceptable');
    await expect(wish({ format: { codec: 'h264', profile: 'CB' } })).rejects.toThrow('Format is not acceptable');
    await guest.moves(await wish({ parameters: { framerate: 15 } }), 5);
    await guest.close();
  });
});
