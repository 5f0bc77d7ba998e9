// Layers of every codec, as a real Chromium sends and decodes them: simulcast, SVC, and layers that nobody wants.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api } from '../harness/api';
import { Chromium, type Participant } from '../harness/browser';
import { GREEN, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { until } from '../harness/until';
import type { Sent } from '../page/lab';

/** A browser takes its time to send its largest layer, on a busy machine the more. */
const LONG = 60_000;
const SIZE = { width: 640, height: 360 };
/** Below that browsers don't send three sizes. */
const LARGE = { width: 1280, height: 720 };

let kaigi: Kaigi;
let browser: Chromium;
let api: Api;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'scalable' });
  browser = await Chromium.launch('scalable');
  api = new Api(kaigi.managementUrl, kaigi.service);
  const video = ['vp8', 'vp9', 'av1', 'h264'].map((codec) => ({ codec }));
  room = await kaigi.rest.createRoom('scalable', { views: [], mediaIn: { audio: [{ codec: 'opus' }], video } });
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

async function joined(who: string): Promise<Participant> {
  const participant = await browser.open(kaigi, who);
  await participant.join(await kaigi.rest.token(room, who));
  return participant;
}

/** Waits until the picture that is decoded has that width and goes on; how long that took, in ms. */
async function sees(who: Participant, subscription: string, width: number): Promise<number> {
  const began = Date.now();
  await until(
    `${who.who} sees ${width}`,
    async () => {
      const { frameWidth } = await who.received(subscription);
      if (frameWidth !== width) throw new Error(`it is ${frameWidth} wide`);
      return true;
    },
    LONG,
  );
  const took = Date.now() - began;
  await moves(who, subscription, 10);
  return took;
}

async function moves(who: Participant, subscription: string, frames: number): Promise<void> {
  const { framesDecoded = 0 } = await who.received(subscription);
  await until(
    `${frames} more frames`,
    async () => ((await who.received(subscription)).framesDecoded ?? 0) >= framesDecoded + frames,
    LONG,
  );
}

/** What is served without anybody's encoding it again. */
async function isForwarded(subscription: string): Promise<void> {
  const told = (await api.ok('GET', `/v1.1/rooms/${room}/subscriptions/${subscription}`)) as { tracks: { kind: string; served: string }[] };
  expect(told.tracks.find(({ kind }) => kind === 'video')?.served).toBe('forward');
}

const byRid = (sent: Sent[], rid: string): Sent => sent.find((each) => each.rid === rid) ?? {};

describe('layers that nobody wants', () => {
  it('are not sent, until somebody wants them', { timeout: 240_000 }, async () => {
    const ann = await joined('ann');
    const encodings = [
      { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
      { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 450_000 },
      { rid: 'f', maxBitrate: 1_200_000 },
    ];
    const stream = await ann.publishPicture(RED, LARGE, { encodings });
    const active = async (): Promise<string> => {
      const sent = await ann.sent();
      return encodings.map(({ rid }) => rid).filter((rid) => byRid(sent, rid).active).join('');
    };
    const becomes = (wanted: string): Promise<unknown> =>
      until(`${wanted} are active`, async () => {
        const now = await active();
        if (now !== wanted) throw new Error(now);
        return true;
      }, LONG);
    // A browser that nobody asks for it takes its time to find out that there is room for the largest.
    await becomes('q');
    const bytes = async (rid: string): Promise<number> => byRid(await ann.sent(), rid).bytesSent ?? 0;
    const stopped = await bytes('f');
    await until('the smallest goes on', async () => (await bytes('q')) > 0);

    const bob = await joined('bob');
    const began = Date.now();
    const subscription = await bob.subscribePicture(stream, {});
    await becomes('qhf');
    const took = await sees(bob, subscription, LARGE.width);
    console.info(`time to the large picture of one who joins: ${Date.now() - began} ms (${took} ms after it was active)`);
    expect(await bytes('f')).toBeGreaterThan(stopped);
    await isForwarded(subscription);

    await bob.pause(subscription, true);
    await becomes('q');
    const paused = await bytes('f');
    await bob.pause(subscription, false);
    await until('the largest is sent again', async () => (await bytes('f')) > paused, LONG);
    await sees(bob, subscription, LARGE.width);

    await bob.update(subscription, { resolution: { width: 320, height: 180 } });
    await sees(bob, subscription, 320);
    await becomes('q');
    await bob.update(subscription, { resolution: LARGE });
    console.info(`time from the small picture to the large one: ${await sees(bob, subscription, LARGE.width)} ms`);
    await becomes('qhf');
    await bob.close();
    await ann.close();
  });
});

describe('simulcast', () => {
  for (const codec of ['h264', 'vp9', 'av1']) {
    it(`of ${codec} is had in each size`, { timeout: 240_000 }, async () => {
      const ann = await joined(`ann-${codec}`);
      const encodings = [
        { rid: 'q', scaleResolutionDownBy: 2, maxBitrate: 150_000, scalabilityMode: 'L1T2' },
        { rid: 'f', maxBitrate: 600_000, scalabilityMode: 'L1T2' },
      ];
      const stream = await ann.publishPicture(RED, SIZE, { codecs: [codec], encodings });
      const [bob, cat] = [await joined(`bob-${codec}`), await joined(`cat-${codec}`)];
      const large = await bob.subscribePicture(stream, { codecs: [codec] });
      const small = await cat.subscribePicture(stream, { codecs: [codec], resolution: { width: 320, height: 180 } });
      await sees(bob, large, 640);
      await sees(cat, small, 320);
      const sent = await ann.sent();
      expect(sent.map((each) => each.codec)).toEqual(sent.map(() => `video/${codec.toUpperCase()}`));
      for (const subscription of [large, small]) await isForwarded(subscription);
      // From one to the other, and to fewer frames, which temporal layers give.
      await cat.update(small, { resolution: SIZE });
      await sees(cat, small, 640);
      await bob.update(large, { resolution: { width: 320, height: 180 } });
      await sees(bob, large, 320);
      for (const who of [bob, cat, ann]) await who.close();
    });
  }
});

describe('one stream of several layers', () => {
  for (const [codec, scalabilityMode] of [
    ['vp9', 'L3T3_KEY'],
    ['vp9', 'L2T3'],
    ['av1', 'L2T3'],
  ] as const) {
    it(`of ${codec} in ${scalabilityMode} is had in each size`, { timeout: 240_000 }, async () => {
      const ann = await joined(`ann-${codec}-${scalabilityMode}`);
      const stream = await ann.publishPicture(GREEN, SIZE, { codecs: [codec], encodings: [{ scalabilityMode, maxBitrate: 900_000 }] });
      const [bob, cat] = [await joined('bob'), await joined('cat')];
      const large = await bob.subscribePicture(stream, { codecs: [codec] });
      await sees(bob, large, 640);
      const small = await cat.subscribePicture(stream, { codecs: [codec], resolution: { width: 320, height: 180 } });
      await sees(cat, small, 320);
      expect((await ann.sent())[0]?.codec).toBe(`video/${codec.toUpperCase()}`);
      for (const subscription of [large, small]) await isForwarded(subscription);
      await cat.update(small, { resolution: SIZE });
      console.info(`${codec} ${scalabilityMode}, from the small picture to the large one: ${await sees(cat, small, 640)} ms`);
      await cat.update(small, { resolution: { width: 320, height: 180 } });
      console.info(`${codec} ${scalabilityMode}, back: ${await sees(cat, small, 320)} ms`);
      await moves(bob, large, 30);
      expect((await bob.received(large)).frameWidth).toBe(640);
      const { keyFramesDecoded, freezeCount, pliCount } = await cat.received(small);
      console.info(JSON.stringify({ codec, scalabilityMode, keyFramesDecoded, freezeCount, pliCount }));
      expect(pliCount ?? 0).toBeLessThan(4);
      for (const who of [bob, cat, ann]) await who.close();
    });
  }
});
