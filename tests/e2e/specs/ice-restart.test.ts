import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import type { RawPage } from '../harness/raw';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let one: RawPage;
let two: RawPage;
/** What each sees of the other. */
let ofTwo: string;
let ofOne: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'ice-restart' });
  browser = await Chromium.launch('ice-restart');
  const room = await kaigi.rest.createRoom('ice-restart');
  [one, two] = await Promise.all([browser.raw(kaigi, 'one'), browser.raw(kaigi, 'two')]);
  await one.join(kaigi, room);
  await two.join(kaigi, room);
  const [first, second] = [await one.call('publish', { look: RED }), await two.call('publish', { look: BLUE })];
  ofTwo = await one.call('subscribe', { audio: { from: second }, video: { from: second } });
  ofOne = await two.call('subscribe', { audio: { from: first }, video: { from: first } });
  await one.sees(ofTwo, BLUE);
  await two.sees(ofOne, RED);
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('media', () => {
  it('are protected by AES-GCM, the cheapest that a browser has', async () => {
    expect([await one.call('cipher'), await two.call('cipher')]).toEqual(Array(2).fill('SRTP_AEAD_AES_128_GCM'));
  });
});

describe('an ICE restart', () => {
  it.each([1, 2, 3])('(number %i) has new credentials on both sides, a new pair, and the same media', async () => {
    const before = await one.call('ice');
    expect(before.selected).toBe(before.local);
    await one.call('restartIce');
    const after = await until('the new pair carries the media', async () => {
      const ice = await one.call('ice');
      if (ice.selected !== ice.local) throw new Error(JSON.stringify(ice));
      return ice;
    });
    expect(after.local).not.toBe(before.local);
    expect(after.remote).not.toBe(before.remote);
    expect(after.state).toBe('connected');

    await Promise.all([one.moves(ofTwo), two.moves(ofOne)]);
    await one.sees(ofTwo, BLUE);
    await two.sees(ofOne, RED);
    await one.hears(ofTwo, [BLUE], [RED, BLUE]);
    await two.hears(ofOne, [RED], [RED, BLUE]);
    const told = [...(await one.call('told')), ...(await two.call('told'))];
    expect(told.filter(({ event, data }) => event === 'progress' && (data as { status: string }).status === 'error')).toEqual([]);
  });

  it('can be followed by other operations', async () => {
    const third = await one.call('publish', { look: BLUE, audio: false });
    const subscription = await two.call('subscribe', { video: { from: third } });
    await two.sees(subscription, BLUE);
  });
});
