import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, RED } from '../harness/colours';
import { DEPLOY, containers, docker, kaigiAt, killFirst, machineAddress, metric, serviceIn } from '../harness/docker';
import type { Kaigi } from '../harness/kaigi';
import { type Publisher, hears, mixingRoom, publisher, showsLayout, subscribeWhenThere } from '../harness/room';
import { until } from '../harness/until';

/** Of all services, in ms. */
const START = 180_000;
const STACK = 'kaigi-test';
const SERVICES: Record<string, number> = { redis: 1, 'cluster-manager': 2, 'conference-agent': 2, 'access-node': 2, 'mixer-node': 2, 'streaming-node': 2, portal: 2 };

let kaigi: Kaigi;
let browser: Chromium;
let publishers: Publisher[];
let viewer: Participant;
let mixed: string;
let subscription: string;

const of = (service: string): Promise<string[]> => containers(`${STACK}_${service}\\.`);

/** A container's address on the bridge to this machine. */
async function addressOf(container: string): Promise<string> {
  const networks = JSON.parse(await docker('network', 'inspect', 'docker_gwbridge')) as { Containers: Record<string, { IPv4Address: string }> }[];
  const address = networks[0]?.Containers[container]?.IPv4Address.split('/')[0];
  if (!address) throw new Error(`${container} is not on the bridge`);
  return address;
}

/** Those containers that have work of the kind that the metric counts. */
async function busy(service: string, name: string): Promise<string[]> {
  const all = await of(service);
  const values = await Promise.all(all.map((container) => metric(container, name)));
  return all.filter((_, i) => (values[i] ?? 0) > 0);
}

async function scale(service: string, replicas: number): Promise<void> {
  await docker('service', 'scale', '--detach', `${STACK}_${service}=${replicas}`);
  await until(`${replicas} of ${service}`, async () => (await of(service)).length === replicas, START, 500);
}

/** How many of a kind the cluster-manager knows that leads. */
async function workers(purpose: string): Promise<number> {
  const counts = (await of('cluster-manager')).map(async (manager) => {
    const text = await docker('exec', manager, 'curl', '--silent', 'http://127.0.0.1:9090/metrics').catch(() => '');
    return Number(new RegExp(`^kaigi_cluster_workers\\{purpose="${purpose}"\\} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  });
  return Math.max(0, ...(await Promise.all(counts)));
}

beforeAll(async () => {
  const address = machineAddress();
  await docker('swarm', 'init', '--advertise-addr', address, '--listen-addr', `${address}:2377`);
  await docker('node', 'update', '--label-add', 'kaigi.store=true', await docker('info', '--format', '{{.Swarm.NodeID}}'));
  const password = randomBytes(24).toString('hex');
  const secrets = {
    'kaigi-cluster-secret': randomBytes(32).toString('hex'),
    'kaigi-seal-key': randomBytes(32).toString('base64'),
    'kaigi-redis-conf': `requirepass ${password}`,
    'kaigi-redis-url': `redis://:${password}@redis:6379`,
  };
  const dir = mkdtempSync(path.join(tmpdir(), 'kaigi-secrets-'));
  for (const [name, value] of Object.entries(secrets)) {
    writeFileSync(path.join(dir, name), `${value}\n`, { mode: 0o600 });
    await docker('secret', 'create', name, path.join(dir, name));
  }
  rmSync(dir, { recursive: true });
  await docker('stack', 'deploy', '--resolve-image', 'never', '-c', `${DEPLOY}/stack.yaml`, STACK);
  for (const [service, replicas] of Object.entries(SERVICES)) {
    await until(`${replicas} of ${service}`, async () => (await of(service)).length === replicas, START, 500);
  }
  for (const [purpose, count] of [['access', 2], ['mixer', 2], ['conference', 2], ['streaming', 2], ['portal', 2]] as const) {
    await until(`${count} ${purpose} workers`, async () => (await workers(purpose)) === count, START, 500);
  }
  const [manager, portal] = [(await of('cluster-manager'))[0]!, (await of('portal'))[0]!];
  const host = await addressOf(portal);
  kaigi = kaigiAt(host, await serviceIn(manager));
  browser = await Chromium.launch('docker-swarm', [`--unsafely-treat-insecure-origin-as-secure=${kaigi.url}`]);
});
afterAll(async () => {
  await browser?.close();
  await docker('stack', 'rm', STACK).catch(() => '');
  const volumes = ['redis', 'cluster-manager', 'recordings'].map((name) => `${STACK}_${name}`);
  await until('nothing is left', () => docker('volume', 'rm', '--force', ...volumes), 60_000, 500).catch(console.error);
  await docker('swarm', 'leave', '--force').catch(() => '');
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
  const [portal] = await of('portal');
  for (const [service, replicas] of Object.entries(SERVICES)) {
    const said = await docker('exec', portal!, 'getent', 'ahostsv4', `tasks.${service}`);
    expect(new Set(said.split('\n').map((line) => line.split(' ')[0])).size, service).toBe(replicas);
  }
});

it.each([
  ['access-node', 'access', 'kaigi_access_transports'],
  ['mixer-node', 'mixer', 'kaigi_mixer_encoders'],
])('gives new work to new ones when there are more of %s', async (service, purpose, work) => {
  const before = await of(service);
  await scale(service, 4);
  await until('they are known', async () => (await workers(purpose)) === 4, START, 500);
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
  await until('there are as many as before', async () => (await of('mixer-node')).length === 4, START, 500);
});

it.each(['redis', 'cluster-manager'])('keeps the conference when %s is killed, and lets people in again afterwards', async (service) => {
  const [container] = await of(service);
  await killFirst(container!);
  const before = await viewer.frames(subscription);
  await until('the mix goes on', async () => (await viewer.frames(subscription)) > before + 30, 60_000, 500);
  await until('another one is there', async () => (await of(service)).some((each) => each !== container), START, 500);
  const room = await until('a room can be made', () => kaigi.rest.createRoom(`after-${service}`).catch(() => false as const), START, 500);
  const late = await browser.open(kaigi, 'late');
  await until('somebody joins', async () => {
    await late.join(await kaigi.rest.token(room, 'Emi'));
    return true;
  }, START, 500);
  await late.leave();
});
