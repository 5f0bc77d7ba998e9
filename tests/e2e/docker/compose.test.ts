import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { DEPLOY, docker, kaigiAt, killFirst, machineAddress, say, serviceIn } from '../harness/docker';
import type { Kaigi } from '../harness/kaigi';
import { type Publisher, hears, mixingRoom, publisher, showsLayout } from '../harness/room';
import { until } from '../harness/until';

/** Of a container's start, in ms. */
const START = 60_000;

const [program, ...words] = (process.env.KAIGI_COMPOSE ?? 'docker compose').split(' ') as [string, ...string[]];
const announce = machineAddress();
const compose = (...args: string[]): Promise<string> =>
  say(program, [...words, '-f', `${DEPLOY}/compose.yaml`, '-p', 'kaigi-test', ...args], { KAIGI_ANNOUNCE: announce, KAIGI_TLS: 'off' });

let container: string;
let kaigi: Kaigi;
let browser: Chromium;
let publishers: Publisher[];
let viewer: Participant;
let mixed: string;
let subscription: string;

const isHealthy = async (): Promise<boolean> => (await docker('inspect', '--format', '{{.State.Health.Status}}', container)) === 'healthy';

beforeAll(async () => {
  await compose('up', '-d', '--no-build');
  container = await compose('ps', '-q', 'kaigi');
  await until('the container is healthy', isHealthy, START, 500);
  kaigi = kaigiAt('127.0.0.1', await serviceIn(container));
  browser = await Chromium.launch('docker-compose');
});
afterAll(async () => {
  await browser?.close();
  await compose('down', '--volumes', '--timeout', '10');
});

it('runs as somebody who is not root', async () => {
  expect(await docker('exec', container, 'id', '-u')).toBe('10001');
});

it('holds a conference with people outside, who see and hear the mix', async () => {
  const room = await mixingRoom(kaigi, 'compose');
  publishers = [await publisher(browser, kaigi, room, 'Aiko', RED), await publisher(browser, kaigi, room, 'Botan', BLUE)];
  viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Chiyo', 'viewer'));
  mixed = await viewer.mixedStream();
  subscription = await viewer.subscribe(mixed);
  await showsLayout(viewer, mixed, subscription, publishers);
  await hears(viewer, subscription, [RED, BLUE], [RED, BLUE]);
});

it('goes on when its mixer-node is killed', async () => {
  const pid = await docker('exec', container, 'sh', '-c', 'grep -l kaigi-mixer-node /proc/[0-9]*/cmdline | cut -d/ -f3 | head -n 1');
  expect(pid).toMatch(/^\d+$/);
  await docker('exec', container, 'kill', '-9', pid);
  const before = await viewer.frames(subscription);
  await until('the mix goes on', async () => (await viewer.frames(subscription)) > before + 30, START, 500);
  await showsLayout(viewer, mixed, subscription, publishers);
});

it('is started again with what it knew when all of it is killed', async () => {
  const room = await kaigi.rest.createRoom('kept');
  await killFirst(container);
  await until('it has been started again', async () => (await docker('inspect', '--format', '{{.RestartCount}}', container)) === '1', START, 500);
  await until('the container is healthy again', isHealthy, START, 500);
  expect(await kaigi.rest.token(room, 'Dai')).toBeTruthy();
});

it('ends by itself when it is told to', async () => {
  await docker('stop', '--time', '30', container);
  expect(await docker('inspect', '--format', '{{.State.ExitCode}}', container)).toBe('0');
});
