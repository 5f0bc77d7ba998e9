import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api, REFUSED, bearer, refusal } from '../../harness/api';
import { BLUE, RED } from '../../harness/colours';
import { Stage } from '../../harness/stage';
import { until } from '../../harness/until';

// That the numbers are right is looked at in stats.test.ts; here who is answered what, and in which form.

const UNKNOWN = 'f'.repeat(32);

let stage: Stage;
let api: Api;
let idle: string;
/** Streams of the page, and its subscriptions: of the first, and of the mix. */
let red: string;
let blue: string;
let forward: string;
let mix: string;

beforeAll(async () => {
  stage = await Stage.open('rest-stats');
  api = new Api(stage.kaigi.managementUrl, stage.kaigi.service);
  idle = await api.room();
  red = await stage.page.call('publish', { look: RED });
  blue = await stage.page.call('publish', { look: BLUE, audio: false });
  forward = await stage.page.call('subscribe', { audio: { from: red }, video: { from: red } });
  mix = await stage.page.call('subscribe', { video: { from: stage.mixed } });
  for (const subscription of [forward, mix]) await stage.page.moves(subscription);
});
afterAll(() => stage?.close());

const LIMIT = expect.stringMatching(/^(none|bandwidth|asked|paused|source)$/);

describe.each(['/v1', '/v1.1'])('%s', (version) => {
  const of = (room: string): string => `${version}/rooms/${room}`;
  const here = (): string => of(stage.room);
  /** Counters begin when a session does, rates a little later. */
  const counted = { bitrate: expect.any(Number), packets: expect.any(Number), bytes: expect.any(Number), packetsLost: expect.any(Number), nacks: expect.any(Number), keyFrames: expect.any(Number) };

  it('a stream is counted track by track', async () => {
    const found = await until('it flows', async () => {
      const { status, json } = await api.get(`${here()}/streams/${red}/stats`);
      expect(status).toBe(200);
      return json.tracks.every(({ flowing }: { flowing: boolean }) => flowing) && json;
    });
    expect(found).toMatchObject({ id: red, time: expect.any(Number), subscriptions: 1 });
    expect(found.tracks.map(({ kind }: { kind: string }) => kind).sort()).toEqual(['audio', 'video']);
    for (const track of found.tracks) expect(track).toMatchObject({ id: expect.any(String), ...counted });
    expect(Math.abs(Date.now() - found.time)).toBeLessThan(10_000);
    expect((await api.get(`${here()}/streams/${blue}/stats`)).json).toMatchObject({ id: blue, subscriptions: 0, tracks: [{ kind: 'video' }] });
  });

  it('a mix is counted too', async () => {
    const { status, json } = await api.get(`${here()}/streams/${stage.mixed}/stats`);
    expect(status).toBe(200);
    expect(json).toMatchObject({ id: stage.mixed, subscriptions: 1 });
  });

  it('a room is counted at once', async () => {
    const { json } = await api.get(`${here()}/stats`);
    expect(json.streams.map(({ id }: { id: string }) => id)).toEqual(expect.arrayContaining([red, blue, stage.mixed]));
    expect(json.subscriptions.map(({ id }: { id: string }) => id).sort()).toEqual([forward, mix].sort());
  });

  it('subscriptions say how they are served, and what limits them', async () => {
    const { json } = await api.get(`${here()}/subscriptions/${forward}`);
    expect(json).toMatchObject({ id: forward, participant: stage.page.id, transport: expect.any(String) });
    expect(json.tracks).toHaveLength(2);
    for (const track of json.tracks) expect(track).toMatchObject({ from: red, served: 'forward', limit: LIMIT, sent: counted, decisions: expect.any(Array) });
    expect((await api.get(`${here()}/subscriptions/${mix}`)).json.tracks).toMatchObject([{ kind: 'video', from: stage.mixed, served: 'mixed', limit: LIMIT }]);
  });

  it('are listed, by participant and by stream', async () => {
    const ids = async (query: string): Promise<string[]> => {
      const { status, json } = await api.get(`${here()}/subscriptions${query}`);
      expect(status).toBe(200);
      return json.map(({ id }: { id: string }) => id).sort();
    };
    expect(await ids('')).toEqual([forward, mix].sort());
    expect(await ids(`?participant=${stage.page.id}`)).toEqual([forward, mix].sort());
    expect(await ids(`?stream=${red}`)).toEqual([forward]);
    expect(await ids(`?stream=${blue}`)).toEqual([]);
    expect(await ids(`?participant=${UNKNOWN}&stream=${red}`)).toEqual([]);
  });

  it('what is not there', async () => {
    expect(await api.get(`${here()}/streams/${UNKNOWN}/stats`)).toEqual(REFUSED.noStream);
    expect(await api.get(`${here()}/subscriptions/${UNKNOWN}`)).toEqual(refusal(404, 1001, 'Subscription not found'));
    expect(await api.get(`${of('f'.repeat(24))}/stats`)).toEqual(REFUSED.noRoom);
  });

  it('a room in which nobody is', async () => {
    expect((await api.get(`${of(idle)}/stats`)).json).toMatchObject({ streams: [], subscriptions: [] });
    expect((await api.get(`${of(idle)}/subscriptions`)).json).toEqual([]);
    expect(await api.get(`${of(idle)}/streams/${UNKNOWN}/stats`)).toEqual(REFUSED.noStream);
  });

  it('a hundred who ask at the same time are all answered', async () => {
    const authorization = bearer(stage.kaigi.service);
    const replies = await Promise.all(Array.from({ length: 100 }, (_, i) => api.get(`${here()}/${i % 2 ? 'stats' : 'subscriptions'}`, { authorization })));
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]));
  });
});
