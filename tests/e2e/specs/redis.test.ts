import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import type { Process } from '../harness/processes';
import { RedisServer } from '../harness/redis';
import { hears, mixingRoom, publisher, subscribeWhenThere } from '../harness/room';
import { Signaling } from '../harness/signaling';
import { until } from '../harness/until';

let redis: RedisServer;
let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  redis = await RedisServer.start();
  kaigi = await Kaigi.start({ name: 'redis', args: ['--redis', redis.url, '--cluster-managers', '2'] });
  browser = await Chromium.launch('redis');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  await redis?.stop();
});

it('goes on while Redis is away, says so to those who need it, and has lost nothing afterwards', async () => {
  const room = await kaigi.rest.createRoom('kept');
  const [aiko, ben] = [await Signaling.connect(kaigi.url), await Signaling.connect(kaigi.url)];
  await aiko.login(await kaigi.rest.token(room, 'Aiko'));
  await ben.login(await kaigi.rest.token(room, 'Ben'));

  await redis.kill();
  await aiko.granted('text', { to: 'all', message: 'still here?' });
  await ben.told('text', { message: 'still here?' });
  await expect(kaigi.rest.token(room, 'Chiyo')).rejects.toThrow(/Redis/);

  await redis.run();
  const token = await until('a token after Redis is back', () => kaigi.rest.token(room, 'Chiyo').catch(() => false as const));
  const chiyo = await Signaling.connect(kaigi.url);
  const { room: joined } = await chiyo.login(token);
  expect(joined.participants.map(({ user }) => user)).toEqual(['Aiko', 'Ben', 'Chiyo']);
  for (const client of [aiko, ben, chiyo]) client.close();
});

/** The cluster-managers that lead. */
async function leaders(): Promise<Process[]> {
  const managers = kaigi.children().filter((child) => child.name === 'kaigi-cluster-manager');
  const leads = managers.map(async ({ pid }) => {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const metrics = await request(`http://${args[args.indexOf('--health-listen') + 1]}/metrics`, { timeout: 1000 });
    return /^kaigi_cluster_leads 1$/m.test(metrics.text);
  });
  const answers = await Promise.allSettled(leads);
  return managers.filter((_, index) => {
    const answer = answers[index];
    return answer?.status === 'fulfilled' && answer.value;
  });
}

it('notices nothing of the death of the cluster-manager that leads, not even who joins in that moment', async () => {
  const room = await mixingRoom(kaigi, 'led');
  const one = await publisher(browser, kaigi, room, 'Aiko', RED);
  const two = await publisher(browser, kaigi, room, 'Botan', BLUE);
  const forward = await subscribeWhenThere(one.page, two.stream);
  const mix = await one.page.subscribe(await one.page.mixedStream());
  const [leader, ...others] = await until('one leads', async () => (await leaders()).length === 1 && leaders());
  expect(others).toEqual([]);

  process.kill(leader!.pid, 'SIGKILL');
  const joins = Date.now();
  const chiyo = await Signaling.connect(kaigi.url);
  const { room: joined } = await chiyo.login(await kaigi.rest.token(room, 'Chiyo'));
  console.log(`joined ${Date.now() - joins} ms after the kill`);
  expect(joined.participants.map(({ user }) => user)).toEqual(['Aiko', 'Botan', 'Chiyo']);
  const [next] = await until('another one leads', async () => (await leaders()).length === 1 && leaders());
  expect(next!.pid).not.toBe(leader!.pid);

  for (const subscription of [forward, mix]) {
    const before = await one.page.frames(subscription);
    await until('the picture moves', async () => (await one.page.frames(subscription)) > before + 30);
  }
  await hears(one.page, forward, [BLUE], [RED, BLUE]);
  expect(await Promise.all([one, two].map(({ page }) => page.isPublishing()))).toEqual([true, true]);
  // Somebody who publishes needs an access-node, which the new leader knows.
  const three = await publisher(browser, kaigi, room, 'Daichi', BLUE);
  for (const { page } of [one, two, three]) await page.close();
  chiyo.close();
});
