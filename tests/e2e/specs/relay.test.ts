// A Kaigi behind NAT, at whose address nothing is reached but its TURN server.
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, GREEN, RED, isNear } from '../harness/colours';
import { checkPage } from '../harness/examples';
import { request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import { freePort } from '../harness/live-server';
import { mixingRoom, subscribeWhenThere } from '../harness/room';
import { until } from '../harness/until';

describe('a Kaigi with a TURN server of its own', () => {
  let kaigi: Kaigi;
  let browser: Chromium;

  beforeAll(async () => {
    const [port, encrypted] = [await freePort(), await freePort()];
    // An address for documentation: no packet to it arrives anywhere.
    const args = ['--tls', 'self-signed', '--announce', '203.0.113.7', '--turn-host', '127.0.0.1', '--turn-port', String(port), '--turns-port', String(encrypted)];
    kaigi = await Kaigi.start({ name: 'relay', scheme: 'https', args });
    browser = await Chromium.launch('relay', ['--ignore-certificate-errors']);
  });
  afterAll(async () => {
    await browser?.close();
    await kaigi?.stop();
  });

  const metric = async (name: string): Promise<number> => {
    const url = await until('the launcher tells of all', () => kaigi.lines.map((line) => /turn-server tells how it is at (\S+)/.exec(line)?.[1]).find(Boolean));
    const line = (await request(url)).text.split('\n').find((each) => each.startsWith(`${name} `));
    return Number(line?.split(' ').at(-1) ?? 0);
  };

  it('holds a conference of people who reach nothing but it, by UDP, TCP and TLS', async () => {
    const room = await mixingRoom(kaigi, 'relay');
    const people = [
      { name: 'Aiko', look: RED, relay: ['turn:', 'udp'] },
      { name: 'Ben', look: GREEN, relay: ['turn:', 'tcp'] },
      { name: 'Chiyo', look: BLUE, relay: ['turns:', 'tcp'] },
    ] as const;
    const there = await Promise.all(
      people.map(async ({ name, look, relay }) => {
        const page = await browser.open(kaigi, name, { network: { relay: [...relay] } });
        await page.join(await kaigi.rest.token(room, name, 'presenter'));
        return { page, look, stream: await page.publish(look) };
      }),
    );
    try {
      await Promise.all(
        there.map(async ({ page }, index) => {
          const other = there[(index + 1) % there.length]!;
          const subscription = await subscribeWhenThere(page, other.stream);
          await until(`${page.who} sees ${other.page.who}`, async () => isNear(await page.colour(subscription), other.look.colour), 30_000);
          const ways = await page.ways();
          expect(ways.length).toBeGreaterThan(0);
          for (const way of ways) expect(way).toMatchObject({ address: '203.0.113.7', type: expect.stringMatching(/^(relay|prflx)$/) });
        }),
      );
      await until('their allocations are counted', async () => (await metric('kaigi_turn_allocations')) >= 3 && (await metric('kaigi_turn_connections')) >= 2);
      for (const side of ['peers', 'clients']) {
        await until(`what goes to ${side} is counted`, async () => (await metric(`kaigi_turn_bytes_total{to="${side}"}`)) > 10_000);
      }
      expect(await metric('kaigi_turn_refusals_total{code="403"}')).toBe(0);
    } finally {
      await Promise.all(there.map(({ page }) => page.close()));
    }
  });

  it('is as the page of the documentation says', () => checkPage('turn.md', kaigi, { CURL_CA_BUNDLE: path.join(kaigi.dataDir, 'portal-cert.pem') }));
});
