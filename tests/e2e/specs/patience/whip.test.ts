import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../../harness/browser';
import { BLUE, GREEN, RED } from '../../harness/colours';
import { Kaigi } from '../../harness/kaigi';
import { until } from '../../harness/until';
import type { WhipPage } from '../../harness/whip';
import { WhipClient } from '../../harness/whip-client';

/** Longer than a client may be silent. */
const LONG = 50_000;

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let player: WhipPage;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'whip-long' });
  browser = await Chromium.launch('whip-long');
  room = await kaigi.rest.createRoom('whip-long');
  player = await browser.whip(kaigi, 'player');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('GStreamer, which checks its way no more once it has one', () => {
  it('goes on publishing as long as it sends', async () => {
    const client = await WhipClient.start(`${kaigi.url}/whip/${room}`, await kaigi.rest.token(room, 'GStreamer', 'presenter'), GREEN);
    try {
      const stream = await until('its stream is there', async () => (await kaigi.rest.streams(room)).find(({ type }) => type === 'forward')?.id);
      await sleep(LONG);
      const played = await player.call('play', `${kaigi.url}/whep/${room}/${stream}`, await kaigi.rest.token(room, 'player', 'viewer'));
      await player.receives(played, GREEN, [RED, GREEN, BLUE]);
    } finally {
      expect((await client.end()).at(-1)).toBe('200');
    }
  });
});
