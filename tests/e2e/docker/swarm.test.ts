import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, RED } from '../harness/colours';
import { docker, killFirst, metric } from '../harness/docker';
import type { Kaigi } from '../harness/kaigi';
import { type Publisher, hears, mixingRoom, publisher, showsLayout, subscribeWhenThere } from '../harness/room';
import { SERVICES, START, stack } from '../harness/stack';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let publishers: Publisher[];
let viewer: Participant;
let mixed: string;
let subscription: string;

/** Those containers that have work of the kind that the metric counts. */
async function busy(service: string, name: string): Promise<string[]> {
  const all = await stack.of(service);
  const values = await Promise.all(all.map((container) => metric(container, name)));
  return all.filter((_, i) => (values[i] ?? 0) > 0);
}

beforeAll(async () => {
  await stack.deploy();
  kaigi = await stack.kaigi();
  browser = await Chromium.launch('docker-swarm', [`--unsafely-treat-insecure-origin-as-secure=${kaigi.url}`]);
});
afterAll(async () => {
  await browser?.close();
  await stack.remove();
});

it('holds a conference over several access-nodes, with a mix', async () => {
  const room = await mixingRoom(kaigi, 'swarm');
  publishers = [];
  for (const [name, look] of [['Aiko', RED], ['Botan', GREEN], ['Chiyo', BLUE]] as const) publishers.push(await publisher(browser, kaigi, room, name, look));
  viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Dai', 'viewer'));
  mixed = await viewer.mixedStream();
  subscription = await viewer.subscribe(mixed);
  await showsLayout(viewer, mixed, subscription, publishers);
  await hears(viewer, subscription, [RED, GREEN, BLUE], [RED, GREEN, BLUE]);
  await subscribeWhenThere(viewer, publishers[0]!.stream);
  expect(await busy('mixer-node', 'kaigi_mixer_encoders')).toHaveLength(1);
  expect((await busy('access-node', 'kaigi_access_transports')).length).toBeGreaterThan(0);
});

it('counts what autoscaling goes by', async () => {
  const [mixer, portal] = [(await busy('mixer-node', 'kaigi_mixer_encoders'))[0]!, (await busy('portal', 'kaigi_portal_connections'))[0]!];
  expect(await metric(mixer, 'kaigi_process_cpu_load')).toBeGreaterThan(0);
  expect(await metric(portal, 'kaigi_portal_connections')).toBeGreaterThan(0);
});

it('is found whole by what watches it', async () => {
  const [portal] = await stack.of('portal');
  for (const [service, replicas] of Object.entries(SERVICES)) {
    const said = await docker('exec', portal!, 'getent', 'ahostsv4', `tasks.${service}`);
    expect(new Set(said.split('\n').map((line) => line.split(' ')[0])).size, service).toBe(replicas);
  }
});

it.each([
  ['access-node', 'access', 'kaigi_access_transports'],
  ['mixer-node', 'mixer', 'kaigi_mixer_encoders'],
])('gives new work to new ones when there are more of %s', async (service, purpose, work) => {
  const before = await stack.of(service);
  await stack.scale(service, 4);
  await until('they are known', async () => (await stack.workers(purpose)) === 4, START, 500);
  const open: Participant[] = [];
  await until(
    `a new ${service} has work`,
    async () => {
      const room = await mixingRoom(kaigi, `${service}-${open.length}`);
      const one = await publisher(browser, kaigi, room, `more-${open.length}`, RED);
      open.push(one.page);
      await one.page.subscribe(await one.page.mixedStream());
      return until('it is counted', async () => (await busy(service, work)).some((container) => !before.includes(container)), 5_000, 500).catch(() => false as const);
    },
    100_000,
    0,
  );
  for (const page of open) await page.leave();
});

it('keeps the mix when the container that makes it is killed', async () => {
  const [mixer] = await busy('mixer-node', 'kaigi_mixer_encoders');
  await docker('kill', mixer!);
  const before = await viewer.frames(subscription);
  await until('the mix goes on', async () => (await viewer.frames(subscription)) > before + 30, 60_000, 500);
  await showsLayout(viewer, mixed, subscription, publishers);
  await until('there are as many as before', async () => (await stack.of('mixer-node')).length === 4, START, 500);
});

it.each(['redis', 'cluster-manager'])('keeps the conference when %s is killed, and lets people in again afterwards', async (service) => {
  const [container] = await stack.of(service);
  await killFirst(container!);
  const before = await viewer.frames(subscription);
  await until('the mix goes on', async () => (await viewer.frames(subscription)) > before + 30, 60_000, 500);
  await until('another one is there', async () => (await stack.of(service)).some((each) => each !== container), START, 500);
  const room = await until('a room can be made', () => kaigi.rest.createRoom(`after-${service}`).catch(() => false as const), START, 500);
  const late = await browser.open(kaigi, 'late');
  await until('somebody joins', async () => {
    await late.join(await kaigi.rest.token(room, 'Emi'));
    return true;
  }, START, 500);
  await late.leave();
});
