import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { watchFrames } from '../harness/pauses';
import { freePorts } from '../harness/ports';
import type { Process } from '../harness/processes';
import { Relay } from '../harness/relay';
import { type Publisher, hears, mixingRoom, publisher, showsLayout, subscribeWhenThere } from '../harness/room';
import { until } from '../harness/until';

/** For how long a process waits for what it can't hand over, in seconds: clients of an access-node. */
const PATIENCE = 10;
/** Pause between two requests of a client, in ms. */
const PACE = 100;
/** Requests that may be lost with a connection: those made until it is there again. */
const UNTIL_BACK = 40;

let kaigi: Kaigi;
let browser: Chromium;
/** What clients see: a balancer before all portals. */
let door: Relay;
let room: string;
let one: Publisher;
let two: Publisher;
/** What the first sees of the second, and of both. */
let forward: string;
let mix: string;
let mixed: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'drain', env: { KAIGI_DRAIN_TIMEOUT: String(PATIENCE) } });
  browser = await Chromium.launch('drain');
  door = await Relay.start(kaigi.ports.http, '127.0.0.3');
  room = await mixingRoom(kaigi, 'drained');
  one = await publisher(browser, kaigi, room, 'Aiko', RED, door.host);
  two = await publisher(browser, kaigi, room, 'Botan', BLUE, door.host);
  forward = await subscribeWhenThere(one.page, two.stream);
  mixed = await one.page.mixedStream();
  mix = await one.page.subscribe(mixed);
  await showsLayout(one.page, mixed, mix, [one, two]);
});
afterAll(async () => {
  await browser?.close();
  await door?.stop();
  await kaigi?.stop();
});

/** Waits for so many more frames. */
async function moves(subscription: string, frames = 15): Promise<void> {
  const before = await one.page.frames(subscription);
  await until('the picture moves', async () => (await one.page.frames(subscription)) > before + frames);
}

const child = (name: string): Process => {
  const found = kaigi.child(name);
  if (!found) throw new Error(`${name} does not run`);
  return found;
};

const workers = (purpose: string, count: number): Promise<unknown> =>
  until(`there are ${count} of ${purpose}`, async () => (await kaigi.rest.workers(purpose).catch(() => [])).length === count);

/** Says something again and again; gives what ends it and tells how long the slowest took. At most `lost` are not answered. */
function talk(lost = 0): () => Promise<number> {
  let [slowest, talking, said, failed] = [0, true, 0, 0];
  const talked = (async () => {
    while (talking) {
      const began = Date.now();
      await two.page.say(String(said++)).catch(() => failed++);
      slowest = Math.max(slowest, Date.now() - began);
      await new Promise((resolve) => setTimeout(resolve, PACE));
    }
  })();
  return async () => {
    talking = false;
    await talked;
    expect(failed).toBeLessThanOrEqual(lost);
    return slowest;
  };
}

/** Nobody has left, nothing has ended. */
async function isWhole(participants: string[]): Promise<void> {
  expect((await kaigi.rest.participants(room)).map(({ id }) => id).sort()).toEqual(participants);
  for (const { page } of [one, two]) expect([await page.hasJoined(), await page.isPublishing()]).toEqual([true, true]);
}

/** Ends a process with SIGTERM while the conference goes on, and tells how that was. */
async function drained(what: string, end: () => Promise<void>, lost = 0): Promise<void> {
  const pauses = [watchFrames(one.page, forward), watchFrames(one.page, mix)];
  const slowest = talk(lost);
  const began = Date.now();
  await end();
  const took = Date.now() - began;
  await Promise.all([moves(forward), moves(mix)]);
  const [still, stillMixed] = await Promise.all(pauses.map((longest) => longest()));
  console.info(`${what}: ended after ${took} ms; no frame for ${still} ms (forward), ${stillMixed} ms (mixed) at most; slowest request ${await slowest()} ms`);
}

/** The launcher's own process ends, and is started again. */
async function restart(name: string): Promise<void> {
  const before = child(name);
  const ends = (): number => kaigi.lines.filter((line) => line.includes(`${name.replace('kaigi-', '')} has ended (exit status: 0)`)).length;
  const ended = ends();
  process.kill(before.pid, 'SIGTERM');
  await until(`${name} ends with 0`, () => ends() > ended, 30_000);
  await until(`${name} runs again`, () => (kaigi.child(name)?.pid ?? before.pid) !== before.pid);
}

async function end(process: ChildProcess): Promise<void> {
  const ended = once(process, 'exit') as Promise<[number | null]>;
  process.kill('SIGTERM');
  expect((await ended)[0]).toBe(0);
}

/** A recording of the mix; what tells its files. */
async function record(): Promise<() => string[]> {
  const answer = await kaigi.rest.call('POST', `/v1/rooms/${room}/recordings`, { media: { audio: { from: mixed }, video: { from: mixed } } });
  expect(answer.status, answer.text).toBe(200);
  const { storage } = JSON.parse(answer.text) as { storage: { file: string } };
  const { dir, name } = path.parse(storage.file);
  return () => readdirSync(dir).filter((file) => file.startsWith(name) && statSync(path.join(dir, file)).size > 10_000);
}

it.each([
  ['kaigi-conference-agent', 'conference'],
  ['kaigi-mixer-node', 'mixer'],
  ['kaigi-streaming-node', 'streaming'],
])('a conference loses nothing when %s is restarted while there is another', async (name, purpose) => {
  const participants = (await kaigi.rest.participants(room)).map(({ id }) => id).sort();
  const files = await record();
  const second = kaigi.again(child(name));
  try {
    await workers(purpose, 2);
    await until('it is recorded', () => files().length === 1);
    await drained(`${name}, the first`, () => restart(name));
    await isWhole(participants);
    await workers(purpose, 2);
    await drained(`${name}, the second`, () => end(second));
    await isWhole(participants);
    // Each node that makes it begins a file of its own.
    await until('all of it is recorded', () => files().length >= (purpose === 'streaming' ? 3 : 1));
  } finally {
    second.kill('SIGKILL');
  }
  await hears(one.page, forward, [BLUE], [RED, BLUE]);
  await hears(one.page, mix, [BLUE], [RED, BLUE]);
  await showsLayout(one.page, mixed, mix, [one, two]);
});

it('a conference loses nothing when its only conference-agent is restarted', async () => {
  const participants = (await kaigi.rest.participants(room)).map(({ id }) => id).sort();
  await drained('kaigi-conference-agent, alone', () => restart('kaigi-conference-agent'));
  await isWhole(participants);
  await hears(one.page, forward, [BLUE], [RED, BLUE]);
});

it('its participants come back by themselves when portals are restarted one after the other', async () => {
  const participants = (await kaigi.rest.participants(room)).map(({ id }) => id).sort();
  const ports = await freePorts();
  const second = kaigi.again(child('kaigi-portal'), { '--http-port': String(ports.http), '--management-port': String(ports.management) });
  try {
    await workers('portal', 2);
    door.upstream = [kaigi.ports.http, ports.http];
    // What is asked while there is no connection is refused by the SDK.
    await drained('kaigi-portal, the first', () => restart('kaigi-portal'), UNTIL_BACK);
    await until('the first portal is ready', () => kaigi.isReady().catch(() => false));
    await isWhole(participants);
    await drained('kaigi-portal, the second', () => end(second), UNTIL_BACK);
    await isWhole(participants);
  } finally {
    second.kill('SIGKILL');
    door.upstream = [kaigi.ports.http];
  }
  await hears(one.page, mix, [BLUE], [RED, BLUE]);
});

it('its participants stay when access-nodes are restarted one after the other, and publish again at the other one', async () => {
  const participants = (await kaigi.rest.participants(room)).map(({ id }) => id).sort();
  const second = kaigi.again(child('kaigi-access-node'), { '--media-port': String((await freePorts()).media) });
  try {
    await workers('access', 2);
    const streams = await kaigi.rest.streams(room);
    const slowest = talk();
    const longest = watchFrames(one.page, mix);
    await restart('kaigi-access-node');
    await until('both publish again', async () => {
      const now = await kaigi.rest.streams(room);
      return now.filter(({ id, type }) => type === 'forward' && !streams.some((before) => before.id === id)).length === 2;
    });
    await moves(mix);
    console.info(`kaigi-access-node: no frame for ${await longest()} ms (mixed) at most; slowest request ${await slowest()} ms`);
    await isWhole(participants);
    const others = await kaigi.rest.streams(room);
    const botans = others.find(({ info }) => info.owner === two.page.id)?.id ?? '';
    const again = await subscribeWhenThere(one.page, botans);
    await until('the picture arrives', async () => isNear(await one.page.colour(again), BLUE.colour));
    await hears(one.page, again, [BLUE], [RED, BLUE]);
  } finally {
    second.kill('SIGKILL');
  }
});
