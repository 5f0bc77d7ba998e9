import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { type Publisher, SMALL_VIEW, publisher, subscribeWhenThere } from '../harness/room';
import { until } from '../harness/until';

const NODES = 3;
const VIEWERS = 5;
/** What a stream that flows brings in the time of a measurement, and more. */
const ENOUGH = 300;

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let speaker: Publisher;
let viewers: Participant[];

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'spread', args: ['--access-nodes', String(NODES), '--mixer-nodes', '2', '--media-workers', '1'] });
  browser = await Chromium.launch('spread');
  room = await kaigi.rest.createRoom('spread', { autoMix: true, views: [SMALL_VIEW, { ...SMALL_VIEW, label: 'second' }] });
  await until('all access-nodes are there', async () => (await kaigi.rest.workers('access')).length === NODES);
  speaker = await publisher(browser, kaigi, room, 'Aiko', RED);
  viewers = [];
  for (let i = 0; i < VIEWERS; i++) {
    const viewer = await browser.open(kaigi, `viewer-${i}`);
    await viewer.join(await kaigi.rest.token(room, `viewer-${i}`, 'viewer'));
    await subscribeWhenThere(viewer, speaker.stream);
    viewers.push(viewer);
  }
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

type Counts = Record<'packets_received' | 'link_packets_sent' | 'link_packets_received', number>;

/** What an access-node has counted since it began. */
async function counts(pid: number): Promise<Counts> {
  const flags = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  const text = await (await fetch(`http://${flags[flags.indexOf('--health-listen') + 1]}/metrics`)).text();
  const count = (name: string): number => Number(new RegExp(`^kaigi_access_${name}_total\\{.*\\} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  return { packets_received: count('packets_received'), link_packets_sent: count('link_packets_sent'), link_packets_received: count('link_packets_received') };
}

/** What each access-node counts until the publisher's has received enough. Whose that is comes first. */
async function counted(): Promise<Counts[]> {
  const pids = kaigi.children().flatMap(({ name, pid }) => (name === 'kaigi-access-node' ? [pid] : []));
  expect(pids).toHaveLength(NODES);
  const all = (): Promise<Counts[]> => Promise.all(pids.map(counts));
  const before = await all();
  const since = async (): Promise<Counts[]> =>
    (await all()).map((now, i) => Object.fromEntries(Object.entries(now).map(([name, count]) => [name, count - before[i]![name as keyof Counts]])) as Counts);
  let found: Counts[] = [];
  await until('enough has flowed', async () => {
    found = (await since()).sort((a, b) => b.link_packets_sent - a.link_packets_sent);
    return (found[0]?.packets_received ?? 0) > ENOUGH;
  }, 60_000, 500);
  return found;
}

/**
 * How often each packet that the publisher sends goes to other nodes in all, and how often it comes to each other access-node. A little less than once for
 * each: reports are packets, too.
 */
async function crossings(): Promise<{ all: number; access: number[] }> {
  const [publishing, ...elsewhere] = await counted();
  const { link_packets_sent, packets_received } = publishing!;
  return { all: link_packets_sent / packets_received, access: elsewhere.map((node) => node.link_packets_received / packets_received) };
}

/** Counts are of moments that are a little apart. */
const isOnce = (crossings: number): boolean => crossings > 0.6 && crossings < 1.2;

it('divides the people of a room between all access-nodes', async () => {
  const nodes = await kaigi.rest.json<{ purpose: string; tasks: number }[]>('GET', '/cluster/nodes');
  expect(nodes.flatMap(({ purpose, tasks }) => (purpose === 'access' ? [tasks] : []))).toEqual(Array(NODES).fill((VIEWERS + 1) / NODES));
});

it('brings a stream once to each other node, however many see it there', async () => {
  const { access } = await crossings();
  expect(access.map(isOnce), JSON.stringify(access)).toEqual([true, true]);
});

it('and once to the mixer-node, however many views it is seen and heard in', async () => {
  for (const [i, view] of ['common', 'second'].entries()) {
    const subscription = await viewers[i]!.subscribe(`${room}-${view}`);
    await until(`${view} is seen`, async () => (await viewers[i]!.frames(subscription)) > 10, 60_000, 200);
  }
  const { all } = await crossings();
  expect(all).toBeGreaterThan(2.2);
  expect(all).toBeLessThan(3.3);
});
