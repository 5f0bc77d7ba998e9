import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, GREEN, RED, isNear } from '../harness/colours';
import { Kaigi, PROGRAM } from '../harness/kaigi';
import { watchFrames } from '../harness/pauses';
import { type Publisher, hears, mixingRoom, publisher, showsLayout, subscribeWhenThere } from '../harness/room';
import type { Operation } from '../harness/rest';
import { request } from '../harness/http';
import { until } from '../harness/until';

const PROCESSES = ['kaigi-access-node', 'kaigi-cluster-manager', 'kaigi-conference-agent', 'kaigi-mixer-node', 'kaigi-portal', 'kaigi-streaming-node'];

let kaigi: Kaigi;
let browser: Chromium;

/** Its processes know each other by certificates: what dies and comes back is let in again. */
const certificates = mkdtempSync(path.join(tmpdir(), 'kaigi-certificates-'));

beforeAll(async () => {
  execFileSync(PROGRAM, ['certificates', certificates]);
  kaigi = await Kaigi.start({ name: 'recovery', env: { KAIGI_CLUSTER_TLS: path.join(certificates, 'cluster') } });
  browser = await Chromium.launch('recovery');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  rmSync(certificates, { recursive: true });
});

/** Kills a process and waits until another one has taken its place. */
async function kill(name: string): Promise<void> {
  const killed = kaigi.child(name);
  if (!killed) throw new Error(`${name} does not run`);
  process.kill(killed.pid, 'SIGKILL');
  await until(`${name} runs again`, () => {
    const again = kaigi.child(name);
    return again && again.pid !== killed.pid;
  });
}

/** Two people meet in a new room: the whole way from a token to pictures and sound, forwarded and mixed. */
async function conference(name: string): Promise<void> {
  const room = await mixingRoom(kaigi, name);
  const one = await publisher(browser, kaigi, room, `${name}-1`, RED);
  try {
    const two = await publisher(browser, kaigi, room, `${name}-2`, BLUE);
    try {
      const forward = await subscribeWhenThere(one.page, two.stream);
      await until('the picture arrives', async () => isNear(await one.page.colour(forward), BLUE.colour));
      await hears(one.page, forward, [BLUE], [RED, BLUE]);
      const mixed = await two.page.mixedStream();
      const subscription = await two.page.subscribe(mixed);
      await showsLayout(two.page, mixed, subscription, [one, two]);
      await hears(two.page, subscription, [RED], [RED, BLUE]);
    } finally {
      await two.page.close();
    }
  } finally {
    await one.page.close();
  }
}

describe('with nobody in it, Kaigi', () => {
  it('runs its processes', () => {
    expect(kaigi.children().map((child) => child.name)).toEqual(PROCESSES);
  });

  it('tells when the certificates end that they know each other by', async () => {
    const { text } = await request(`${kaigi.url}/metrics`);
    const [, seconds] = /^kaigi_cluster_certificate_expiry_seconds (\S+)$/m.exec(text) ?? [];
    const days = (Number(seconds) - Date.now() / 1000) / 86_400;
    expect(days).toBeGreaterThan(364);
    expect(days).toBeLessThan(366);
  });

  it.each(PROCESSES)('brings %s back when it is killed, and new conferences work', async (name) => {
    await kill(name);
    await until('it is ready', () => kaigi.isReady());
    // The others learn of the new process a moment after it runs.
    let attempt = 0;
    const held = async (): Promise<boolean> => {
      await conference(`${name}-${attempt++}`);
      return true;
    };
    await until('a new conference works', held, 30_000);
  });
});

describe('a conference', () => {
  let room: string;
  let one: Publisher;
  let two: Publisher;
  /** What the first sees of the second. */
  let forward: string;
  /** What the first sees of both. */
  let mix: string;
  let mixed: string;

  beforeEach(async () => {
    await until('it is ready', () => kaigi.isReady());
    room = await mixingRoom(kaigi, 'live');
    one = await publisher(browser, kaigi, room, 'Aiko', RED);
    two = await publisher(browser, kaigi, room, 'Botan', BLUE);
    forward = await subscribeWhenThere(one.page, two.stream);
    mixed = await one.page.mixedStream();
    mix = await one.page.subscribe(mixed);
    await showsLayout(one.page, mixed, mix, [one, two]);
  });
  afterEach(async () => {
    await one.page.close();
    await two.page.close();
  });

  /** Waits for so many more frames. */
  async function moves(subscription: string, frames = 30): Promise<void> {
    const before = await one.page.frames(subscription);
    await until('the picture moves', async () => (await one.page.frames(subscription)) > before + frames);
  }

  it('does not notice the death of the cluster-manager', async () => {
    await kill('kaigi-cluster-manager');
    await Promise.all([moves(forward), moves(mix)]);
    await hears(one.page, forward, [BLUE], [RED, BLUE]);
    await hears(one.page, mix, [BLUE], [RED, BLUE]);
    expect(await Promise.all([one, two].map(({ page }) => page.isPublishing()))).toEqual([true, true]);
  });

  it('goes on without the mixed stream while the mixer-node is dead, and gets it back', async () => {
    await kill('kaigi-mixer-node');
    await moves(forward);
    await moves(mix);
    await showsLayout(one.page, mixed, mix, [one, two]);
    await hears(one.page, mix, [BLUE], [RED, BLUE]);
    expect(await Promise.all([one, two].map(({ page }) => page.isPublishing()))).toEqual([true, true]);
  });

  it('loses its streams with the access-node, and its participants can publish again', async () => {
    await kill('kaigi-access-node');
    for (const { page } of [one, two]) await until(`${page.who} is told`, async () => !(await page.isPublishing()));
    expect((await kaigi.rest.participants(room)).map(({ id }) => id).sort()).toEqual([one.page.id, two.page.id].sort());
    await until('it is ready', () => kaigi.isReady());

    const stream = await two.page.publish(BLUE);
    const again = await subscribeWhenThere(one.page, stream);
    await until('the picture arrives', async () => isNear(await one.page.colour(again), BLUE.colour));
    await hears(one.page, again, [BLUE], [RED, BLUE]);
  });

  it('does not notice the death of the conference-agent', async () => {
    const lists = async (): Promise<unknown> => ({
      streams: (await kaigi.rest.streams(room)).map(({ id }) => id).sort(),
      participants: (await kaigi.rest.participants(room)).map(({ id }) => id).sort(),
    });
    const before = await lists();
    const frames = await Promise.all([forward, mix].map((subscription) => one.page.frames(subscription)));
    const longestPause = watchFrames(one.page, forward);
    const killed = Date.now();
    process.kill(kaigi.child('kaigi-conference-agent')?.pid ?? 0, 'SIGKILL');

    // Asked while nobody has the room: answered late.
    const asked = two.page.subscribe(one.stream);
    const muted = kaigi.rest.patchStream(room, two.stream, [{ op: 'replace', path: '/media/audio/status', value: 'inactive' }]);
    const back = await asked;
    const subscribed = Date.now() - killed;
    await muted;
    console.info(`conference-agent killed: a request was answered ${subscribed} ms later, REST ${Date.now() - killed} ms later`);

    expect(await lists()).toEqual(before);
    await until('the picture arrives', async () => isNear(await two.page.colour(back), RED.colour));
    await hears(one.page, forward, [], [RED, BLUE]);
    const unmute: Operation = { op: 'replace', path: '/media/audio/status', value: 'active' };
    await kaigi.rest.patchStream(room, two.stream, [unmute]);
    await hears(one.page, forward, [BLUE], [RED, BLUE]);
    await hears(one.page, mix, [BLUE], [RED, BLUE]);
    await Promise.all([moves(forward), moves(mix)]);
    console.info(`conference-agent killed: no frame for ${await longestPause()} ms at most`);
    const now = await Promise.all([forward, mix].map((subscription) => one.page.frames(subscription)));
    now.forEach((count, i) => expect(count).toBeGreaterThan(frames[i] ?? 0));
    for (const { page } of [one, two]) {
      expect([await page.hasJoined(), await page.isPublishing()]).toEqual([true, true]);
    }
    // Who comes later is told of, and who goes.
    const three = await publisher(browser, kaigi, room, 'Chie', GREEN);
    await showsLayout(one.page, mixed, mix, [one, two, three]);
    await three.page.close();
    await showsLayout(one.page, mixed, mix, [one, two]);
  });

  it('is not disturbed by a conference-agent that stood still while another one took its room over', async () => {
    const first = kaigi.child('kaigi-conference-agent');
    if (!first) throw new Error('no conference-agent runs');
    const second = kaigi.again(first);
    try {
      const workers = async (): Promise<number> => (await kaigi.rest.workers('conference')).length;
      await until('there are two conference-agents', async () => (await workers()) === 2);
      const stopped = Date.now();
      process.kill(first.pid, 'SIGSTOP');
      const [stream] = await Promise.all([two.page.subscribe(one.stream), moves(forward), moves(mix)]);
      console.info(`conference-agent stands still: a request was answered ${Date.now() - stopped} ms later`);
      process.kill(first.pid, 'SIGCONT');
      await until('the first one is back, without the room', async () => (await workers()) === 2);
      await moves(forward, 60);
      await until('the picture arrives', async () => isNear(await two.page.colour(stream), RED.colour));
      await hears(one.page, mix, [BLUE], [RED, BLUE]);
      expect(await kaigi.rest.participants(room)).toHaveLength(2);
      for (const { page } of [one, two]) {
        expect([await page.hasJoined(), await page.isPublishing()]).toEqual([true, true]);
      }
    } finally {
      process.kill(first.pid, 'SIGCONT');
      second.kill('SIGKILL');
    }
    // What the second one had comes back to the first.
    await kaigi.rest.patchStream(room, two.stream, [{ op: 'replace', path: '/media/audio/status', value: 'inactive' }]);
    await hears(one.page, mix, [], [RED, BLUE]);
  });

  it.each(['kaigi-portal'])('ends with %s, and its participants can join it again', async (name) => {
    await kill(name);
    for (const { page } of [one, two]) await until(`${page.who} is told`, async () => !(await page.hasJoined()));
    await until('it is ready', () => kaigi.isReady());

    for (const { page } of [one, two]) await page.join(await kaigi.rest.token(room, page.who));
    const stream = await two.page.publish(BLUE);
    const again = await subscribeWhenThere(one.page, stream);
    await until('the picture arrives', async () => isNear(await one.page.colour(again), BLUE.colour));
    expect(await kaigi.rest.participants(room)).toHaveLength(2);
  });
});
