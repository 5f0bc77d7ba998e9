import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kaigi } from '../harness/kaigi';
import { useOf } from '../harness/use';

/** How many participants are in how many rooms, all at one portal by WebSocket. */
const SOCKETS = Number(process.env.SOCKETS ?? 2000);
const ROOMS = Number(process.env.ROOMS ?? 50);
/** Texts a second to one participant each, and for how many seconds. */
const RATE = Number(process.env.RATE ?? 500);
const SECONDS = Number(process.env.SECONDS ?? 10);
/** Processes that the participants are in. */
const CROWDS = 2;
/** What is measured of. */
const MEASURED = ['kaigi-portal', 'kaigi-conference-agent'];

let kaigi: Kaigi;
const crowds: Crowd[] = [];

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'sockets' });
  for (let i = 0; i < CROWDS; i++) crowds.push(new Crowd());
});
afterAll(async () => {
  for (const crowd of crowds) crowd.end();
  await kaigi?.stop();
});

/** Participants in a process of their own (`crowd.mjs`). */
class Crowd {
  readonly #process: ChildProcess = fork(fileURLToPath(new URL('crowd.mjs', import.meta.url)));

  task<T>(task: string, data: unknown): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#process.once('exit', (code) => reject(new Error(`the crowd ended with ${code}`)));
      this.#process.once('message', (reply: { done: T } | { failed: string }) => {
        if ('failed' in reply) reject(new Error(reply.failed));
        else resolve(reply.done);
      });
      this.#process.send({ task, data });
    });
  }

  end(): void {
    this.#process.kill();
  }
}

/** Joins so many participants, dealt out to rooms and crowds evenly. */
async function join(rooms: string[], count: number): Promise<void> {
  const tokens: string[][] = crowds.map(() => []);
  for (let i = 0; i < count; i++) {
    // A room's members alternate between the crowds.
    const crowd = (i + Math.floor(i / rooms.length)) % CROWDS;
    tokens[crowd]?.push(await kaigi.rest.token(rooms[i % rooms.length] ?? '', `P${i}`));
  }
  await Promise.all(crowds.map((crowd, i) => crowd.task('join', { url: kaigi.url, tokens: tokens[i] })));
}

/** Resolves after that many seconds: for what is still on its way to arrive. */
const settled = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function memory(): Promise<Record<string, number>> {
  await settled(3);
  return Object.fromEntries(MEASURED.map((name) => [name, useOf(kaigi.child(name)?.pid ?? 0).resident]));
}

function percentile(sorted: number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

it(`measures ${SOCKETS} participants in ${ROOMS} rooms`, async () => {
  const rooms: string[] = [];
  for (let i = 0; i < ROOMS; i++) rooms.push(await kaigi.rest.createRoom(`crowd-${i}`, { views: [] }));
  // Rooms cost something themselves: they are running before it is measured what participants cost.
  await join(rooms, ROOMS);
  const before = await memory();
  const began = Date.now();
  await join(rooms, SOCKETS - ROOMS);
  const joining = (Date.now() - began) / 1000;
  const after = await memory();

  const rows = MEASURED.map((name) => {
    const [with_, without] = [after[name] ?? NaN, before[name] ?? NaN];
    return {
      process: name,
      MiB: Math.round(with_),
      'KiB per participant': Number((((with_ - without) * 1024) / (SOCKETS - ROOMS)).toFixed(1)),
    };
  });
  console.table(rows);

  const latencies = (await Promise.all(crowds.map((crowd) => crowd.task<number[]>('talk', { perSecond: RATE / CROWDS, seconds: SECONDS })))).flat();
  latencies.sort((a, b) => a - b);
  const [median, p99, worst] = [0.5, 0.99, 1].map((share) => percentile(latencies, share).toFixed(1));
  console.log(`${SOCKETS} participants in ${ROOMS} rooms, joined at ${((SOCKETS - ROOMS) / joining).toFixed(0)} a second`);
  console.log(`${latencies.length} texts at ${RATE} a second: acknowledged after ${median} ms (median), ${p99} ms (99th percentile), ${worst} ms (worst)`);
  expect(latencies).toHaveLength(RATE * SECONDS);
}, 300_000);
