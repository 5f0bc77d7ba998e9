import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kaigi } from '../harness/kaigi';
import { LiveServer } from '../harness/live-server';
import { SMALL_VIEW } from '../harness/room';
import { until } from '../harness/until';

/** In each of that many rooms a broadcast begins, all in the same moment. */
const ROOMS = 10;
/** Ten of which cost little to compose and encode. */
const VIEW = { ...SMALL_VIEW, video: { ...SMALL_VIEW.video, parameters: { resolution: { width: 320, height: 240 }, framerate: 6, keyFrameInterval: 100 } } };

let kaigi: Kaigi;
let server: LiveServer;

beforeAll(async () => {
  server = await LiveServer.start();
  kaigi = await Kaigi.start({ name: 'burst', args: ['--streaming-nodes', '2'], env: { KAIGI_PRIVATE_TARGETS: 'true' } });
});
afterAll(async () => {
  await kaigi?.stop();
  await server?.stop();
});

interface Node {
  load: number;
  maxLoad: number;
  tasks: number;
  resources: { name: string; used: number; capacity: number }[];
}

async function streamingNodes(): Promise<Node[]> {
  const nodes = await kaigi.rest.json<(Node & { purpose: string })[]>('GET', '/cluster/nodes');
  return nodes.filter(({ purpose }) => purpose === 'streaming');
}

const pipelines = ({ resources }: Node): { used: number; capacity: number } => resources.find(({ name }) => name === 'pipelines') ?? { used: -1, capacity: -1 };

it('begins ten broadcasts at once, divided between the nodes, which tell what they have', async () => {
  await until('both streaming-nodes are there', async () => (await streamingNodes()).length === 2);
  const rooms = await Promise.all(Array.from({ length: ROOMS }, (_, i) => kaigi.rest.createRoom(`burst-${i}`, { views: [VIEW] })));
  const outs = (room: string): string => `/v1/rooms/${room}/streaming-outs`;
  const begun = await Promise.all(
    rooms.map((room) => {
      const from = `${room}-common`;
      return kaigi.rest.call('POST', outs(room), { protocol: 'rtmp', url: server.url(room), media: { audio: { from }, video: { from } } });
    }),
  );
  expect(begun.map(({ status, text }) => (status === 200 ? '' : text))).toEqual(rooms.map(() => ''));

  const nodes = await streamingNodes();
  const tasks = nodes.map((node) => node.tasks).sort((a, b) => a - b);
  expect(tasks, JSON.stringify(nodes)).toEqual([ROOMS / 2, ROOMS / 2]);
  await until('each has what it was given', async () => {
    const used = (await streamingNodes()).map((node) => pipelines(node).used);
    if (used.some((one) => one !== ROOMS / 2)) throw new Error(JSON.stringify(used));
    return true;
  });
  for (const node of await streamingNodes()) expect(node.load).toBeGreaterThanOrEqual(ROOMS / 2 / pipelines(node).capacity - 1e-9);
  for (const [i, { text }] of begun.entries()) await kaigi.rest.call('DELETE', `${outs(rooms[i] ?? '')}/${(JSON.parse(text) as { id: string }).id}`);
  await until('all is free again', async () => (await streamingNodes()).every((node) => pipelines(node).used === 0));
});

it('refuses what nobody has room for, says why, and takes it when there is', async () => {
  const narrow = await Kaigi.start({ name: 'burst-narrow', env: { KAIGI_PRIVATE_TARGETS: 'true', KAIGI_MAX_PIPELINES: '1' } });
  try {
    const [first, second] = [await narrow.rest.createRoom('first', { views: [VIEW] }), await narrow.rest.createRoom('second', { views: [VIEW] })];
    const record = (room: string): Promise<{ status: number; text: string }> =>
      narrow.rest.call('POST', `/v1/rooms/${room}/recordings`, { media: { audio: { from: `${room}-common` }, video: { from: `${room}-common` } } });
    const begun = await record(first);
    expect(begun.status, begun.text).toBe(200);
    const fit = (): Promise<{ fits: boolean; reason?: string }> => narrow.rest.json('GET', '/cluster/can-fit?purpose=streaming');
    await until('the node is full', async () => !(await fit()).fits);
    expect((await fit()).reason).toBe('No worker available, all in full load.');
    const refused = await record(second);
    expect([refused.status, refused.text]).toEqual([500, expect.stringContaining('All streaming nodes are in full load')]);
    const { id } = JSON.parse(begun.text) as { id: string };
    expect((await narrow.rest.call('DELETE', `/v1/rooms/${first}/recordings/${id}`)).status).toBe(200);
    await until('there is room again', async () => (await record(second)).status === 200);
  } finally {
    await narrow.stop();
  }
});
