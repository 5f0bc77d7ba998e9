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
  /** TURN over TLS, and HTTPS. */
  let encrypted: number;

  beforeAll(async () => {
    const port = await freePort();
    encrypted = await freePort();
    // An address for documentation: no packet to it arrives anywhere.
    const args = ['--tls', 'self-signed', '--announce', '203.0.113.7', '--turn-host', '127.0.0.1', '--turn-port', String(port), '--turns-port', String(encrypted), '--share-turns-port', 'true'];
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
        // Who has TURN over TLS comes by that port with all else, too: the page, signaling by HTTP and WebSocket, media.
        const door = relay[0] === 'turns:' ? kaigi.by(encrypted) : kaigi;
        const page = await browser.open(door, name, { network: { relay: [...relay] } });
        const token = await kaigi.rest.token(room, name, 'presenter');
        expect(JSON.parse(Buffer.from(token, 'base64').toString())).toMatchObject({ host: `127.0.0.1:${encrypted}`, secure: true });
        await page.join(token);
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
      await until('those are counted who are with the portal', async () => (await metric('kaigi_turn_https_connections')) >= people.length);
      expect(await metric('kaigi_turn_https_failures_total')).toBe(0);
    } finally {
      await Promise.all(there.map(({ page }) => page.close()));
    }
  });

  it('tells by the port for TLS what others tell, while portals come and go', async () => {
    const door = kaigi.by(encrypted);
    const asked = async (path: string): Promise<unknown> => (await request(`${door.url}${path}`, { timeout: 2000 })).status;
    expect(await asked('/webrtc/client/')).toBe(200);
    expect(await asked('/nothing/there')).toBe(404);
    const portal = (): number | undefined => kaigi.children().find(({ name }) => name === 'kaigi-portal')?.pid;
    const first = portal()!;
    process.kill(first, 'SIGKILL');
    await until('the next portal answers by it', async () => ![first, undefined].includes(portal()) && (await asked('/ready')) === 200);
  });

  it('is as the page of the documentation says', () => checkPage('turn.md', kaigi, { CURL_CA_BUNDLE: path.join(kaigi.dataDir, 'portal-cert.pem') }));
});
