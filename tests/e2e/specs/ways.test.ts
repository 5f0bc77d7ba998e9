// Clients whose network lets no UDP through, or has IPv6 only.
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { GREEN, RED, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { mixingRoom, subscribeWhenThere } from '../harness/room';
import { until } from '../harness/until';

const HAS_IPV6 = await new Promise<boolean>((resolve) => {
  const server = net.createServer().once('error', () => resolve(false));
  server.listen(0, '::1', () => server.close(() => resolve(true)));
});

describe('media', () => {
  let kaigi: Kaigi;
  let browser: Chromium;

  beforeAll(async () => {
    kaigi = await Kaigi.start({ name: 'ways', bind: HAS_IPV6 ? '::' : '127.0.0.1' });
    browser = await Chromium.launch('ways', ['--allow-loopback-in-peer-connection']);
  });
  afterAll(async () => {
    await browser?.close();
    await kaigi?.stop();
  });

  /** Two people: what they publish goes by ways that are as `expected`, and each sees the other. */
  const meet = async (name: string, networks: [object, object], expected: [object, object]): Promise<void> => {
    const room = await mixingRoom(kaigi, name);
    const there = await Promise.all(
      [RED, GREEN].map(async (look, index) => {
        const page = await browser.open(kaigi, `${name} ${index}`, { network: networks[index]! });
        await page.join(await kaigi.rest.token(room, page.who, 'presenter'));
        return { page, look, stream: await page.publish(look) };
      }),
    );
    try {
      await Promise.all(
        there.map(async ({ page }, index) => {
          const other = there[1 - index]!;
          const subscription = await subscribeWhenThere(page, other.stream);
          await until(`${page.who} sees the other`, async () => isNear(await page.colour(subscription), other.look.colour), 30_000);
          const ways = await page.ways();
          expect(ways.length).toBeGreaterThan(0);
          for (const way of ways) expect(way).toMatchObject(expected[index]!);
        }),
      );
    } finally {
      await Promise.all(there.map(({ page }) => page.close()));
    }
  };

  it('goes by TCP where UDP is blocked', () => meet('tcp', [{ without: 'udp' }, {}], [{ protocol: 'tcp' }, { protocol: 'udp' }]));

  it.runIf(HAS_IPV6)('goes by IPv6, by UDP and by TCP', () =>
    meet(
      'ipv6',
      [{ only: '::1' }, { only: '::1', without: 'udp' }],
      [
        { protocol: 'udp', address: '::1' },
        { protocol: 'tcp', address: '::1' },
      ],
    ));
});
