import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Api, REFUSED, bearer, refusal } from '../../harness/api';
import { BLUE, RED } from '../../harness/colours';
import { Stage } from '../../harness/stage';

const UNKNOWN = 'f'.repeat(32);

let stage: Stage;
let api: Api;
let mixed: string;
/** Streams of the page. */
let red: string;
let blue: string;
let silent: string;

beforeAll(async () => {
  stage = await Stage.open('rest-streams');
  api = new Api(stage.kaigi.managementUrl, stage.kaigi.service);
  mixed = stage.mixed;
  red = await stage.page.call('publish', { look: RED });
  blue = await stage.page.call('publish', { look: BLUE });
  silent = await stage.page.call('publish', { look: RED, audio: false });
});
afterAll(() => stage?.close());

interface Shown {
  id: string;
  info: { inViews: string[]; layout: { stream?: string; region: { id: string } }[] };
}

const area = (left: string, width: string): object => ({ left, top: '0', width, height: '1' });
const region = (id: string, left: string, stream?: string): object => ({ ...(stream && { stream }), region: { id, shape: 'rectangle', area: area(left, '1/2') } });

describe.each(['/v1', '/v1.1'])('%s', (version) => {
  const streams = (): string => `${version}/rooms/${stage.room}/streams`;
  const one = (id: string): string => `${streams()}/${id}`;
  const patch = (id: string, op: string, path: string, value: unknown): ReturnType<Api['patch']> => api.patch(one(id), [{ op, path, value }]);
  const views = async (id: string): Promise<string[]> => ((await api.get(one(id))).json as Shown).info.inViews;

  beforeEach(async () => {
    for (const id of [red, blue, silent]) await patch(id, 'remove', '/info/inViews', 'common');
  });

  it('are listed with those of the mixes, in the shape of the version', async () => {
    const { status, json } = await api.get(streams());
    expect(status).toBe(200);
    expect(json.map(({ id }: Shown) => id).sort()).toEqual([mixed, red, blue, silent].sort());
    const audio = { status: 'active', format: { codec: 'opus', sampleRate: 48000, channelNum: 2 }, optional: expect.any(Object) };
    const [size, forward] = [{ width: 640, height: 480 }, json.find(({ id }: Shown) => id === red)];
    const own = json.find(({ id }: Shown) => id === mixed);
    expect(forward).toMatchObject({ id: red, type: 'forward', media: { audio: { ...audio, source: 'mic' }, video: { status: 'active', source: 'camera' } } });
    expect(forward.info).toMatchObject({ owner: stage.page.id, type: 'webrtc', inViews: [] });
    expect(own).toMatchObject({ id: mixed, type: 'mixed', media: { audio }, info: { label: 'common', layout: expect.any(Array) } });
    if (version === '/v1') {
      expect(own.media.video).toMatchObject({ format: { codec: 'vp8' }, parameters: { resolution: size, framerate: 15, keyFrameInterval: 100 } });
      expect(own.media.video).not.toHaveProperty('original');
    } else {
      expect(own.media.video.original).toMatchObject([{ format: { codec: 'vp8' }, parameters: { resolution: size, framerate: 15 } }]);
      expect(own.media.video).not.toHaveProperty('format');
    }
    for (const shown of json) {
      expect(shown.media).not.toHaveProperty('tracks');
      expect((await api.get(one(shown.id))).json).toMatchObject({ id: shown.id, type: shown.type, info: shown.info });
    }
    expect(json.find(({ id }: Shown) => id === silent).media).not.toHaveProperty('audio');
  });

  it('are mixed and unmixed, again without a change', async () => {
    for (let i = 0; i < 2; i++) expect((await patch(red, 'add', '/info/inViews', 'common')).json).toMatchObject({ id: red, info: { inViews: ['common'] } });
    expect(await views(red)).toEqual(['common']);
    for (let i = 0; i < 2; i++) expect((await patch(red, 'remove', '/info/inViews', 'common')).json).toMatchObject({ id: red, info: { inViews: [] } });
  });

  it('are muted and unmuted, by kind', async () => {
    for (const [status, kind] of [['inactive', 'audio'], ['inactive', 'video'], ['inactive', 'video'], ['active', 'audio'], ['active', 'video']] as const) {
      const { json } = await patch(red, 'replace', `/media/${kind}/status`, status);
      expect(json.media[kind].status, `${kind} ${status}`).toBe(status);
    }
  });

  it('several operations of one request are all done', async () => {
    const replace = (kind: string, value: string): object => ({ op: 'replace', path: `/media/${kind}/status`, value });
    const { json } = await api.patch(one(red), [replace('audio', 'inactive'), { op: 'add', path: '/info/inViews', value: 'common' }, replace('video', 'inactive')]);
    expect(json).toMatchObject({ media: { audio: { status: 'inactive' }, video: { status: 'inactive' } }, info: { inViews: ['common'] } });
    expect((await api.patch(one(red), [replace('audio', 'active'), replace('video', 'active')])).status).toBe(200);
    expect((await api.patch(one(red), [])).json).toMatchObject({ id: red });
  });

  it('the layout of a mix is replaced, and who is where', async () => {
    for (const id of [red, blue]) await patch(id, 'add', '/info/inViews', 'common');
    const { status, json } = await patch(mixed, 'replace', '/info/layout', [region('1', '0', blue), region('2', '1/2', red)]);
    expect(status).toBe(200);
    expect((json as Shown).info.layout.map(({ stream, region: { id } }) => [stream, id])).toEqual([[blue, '1'], [red, '2']]);
    const swapped = await patch(mixed, 'replace', '/info/layout/0/stream', red);
    expect((swapped.json as Shown).info.layout.map(({ stream }) => stream)).toEqual([red, blue]);
    expect((await api.get(one(mixed))).json.info.layout).toEqual(swapped.json.info.layout);
  });

  it('a filter is put on a mix, and taken from it', async () => {
    expect((await patch(mixed, 'replace', '/info/filter', 'edgedetect')).json.info.filter).toBe('edgedetect');
    const rotate = { algorithm: 'rotate', parameters: { angle: 180 } };
    for (const id of [mixed, red]) {
      expect((await patch(id, 'replace', '/info/filter', rotate)).json.info).toMatchObject({ filter: 'rotate', filterParameters: { angle: 180, flip: 'none' } });
      const { info } = (await patch(id, 'replace', '/info/filter', 'none')).json;
      expect([info.filter ?? 'none', info.filterParameters]).toEqual(['none', undefined]);
    }
  });

  const step = (op: string, path: string, value?: unknown): object[] => [{ op, path, ...(value !== undefined && { value }) }];
  it.each<[string, unknown, 'forward' | 'mixed']>([
    ['no list', {}, 'forward'],
    ['no operation', [1], 'forward'],
    ['too many operations', Array.from({ length: 65 }, () => step('add', '/info/inViews', 'common')[0]), 'forward'],
    ['an unknown operation', step('move', '/info/inViews', 'common'), 'forward'],
    ['an unknown path', step('replace', '/info/owner', 'x'), 'forward'],
    ['no value', step('add', '/info/inViews'), 'forward'],
    ['a view that is not there', step('add', '/info/inViews', 'other'), 'forward'],
    ['a view that is no text', step('add', '/info/inViews', 7), 'forward'],
    ['an unknown status', step('replace', '/media/audio/status', 'loud'), 'forward'],
    ['a layout for a stream that is no mix', step('replace', '/info/layout', []), 'forward'],
    ['an unknown filter', step('replace', '/info/filter', 'sepia'), 'mixed'],
    ['a filter with a parameter beyond its range', step('replace', '/info/filter', { algorithm: 'rotate', parameters: { angle: 360 } }), 'mixed'],
    ['a filter with an unknown parameter', step('replace', '/info/filter', { algorithm: 'cartoon', parameters: { hue: 1 } }), 'forward'],
    ['a layout with a hole', step('replace', '/info/layout', [region('1', '0'), region('2', '1/2', 'RED')]), 'mixed'],
    ['a layout with one stream twice', step('replace', '/info/layout', [region('1', '0', 'RED'), region('2', '1/2', 'RED')]), 'mixed'],
    ['a layout with one region twice', step('replace', '/info/layout', [region('1', '0'), region('1', '1/2')]), 'mixed'],
    ['a layout of somebody else', step('replace', '/info/layout', [region('1', '0', UNKNOWN)]), 'mixed'],
    ['a region outside', step('replace', '/info/layout', [{ region: { id: '1', shape: 'rectangle', area: area('3/2', '1/2') } }]), 'mixed'],
    ['no fraction', step('replace', '/info/layout', [{ region: { id: '1', shape: 'rectangle', area: area('1/0', '1/2') } }]), 'mixed'],
    ['a region that is not there', step('replace', '/info/layout/7/stream', 'RED'), 'mixed'],
    ['a mix in its own mix', step('add', '/info/inViews', 'common'), 'mixed'],
  ])('PATCH refuses %s, and changes nothing', async (_, body, kind) => {
    const id = kind === 'mixed' ? mixed : red;
    await patch(red, 'add', '/info/inViews', 'common');
    const before = (await api.get(one(id))).json;
    const named = JSON.parse(JSON.stringify(body).replaceAll('"RED"', JSON.stringify(red))) as unknown;
    expect([refusal(500, 1301), refusal(400, 1201)]).toContainEqual(await api.patch(one(id), named));
    expect((await api.get(one(id))).json).toEqual(before);
  });

  it('of what is not there nothing is shown or changed', async () => {
    expect(await api.get(one(UNKNOWN))).toEqual(REFUSED.noStream);
    for (const reply of [await patch(UNKNOWN, 'add', '/info/inViews', 'common'), await api.delete(one(UNKNOWN))]) {
      expect([refusal(500, 1301), REFUSED.noStream]).toContainEqual(reply);
    }
  });

  it('many who mix and unmix at the same time leave the last one\'s state, and the room whole', async () => {
    const authorization = bearer(stage.kaigi.service);
    const all = await Promise.all(
      Array.from({ length: 60 }, (_, i) => {
        const op = i % 2 ? 'remove' : 'add';
        return api.patch(one([red, blue, silent][i % 3]!), [{ op, path: '/info/inViews', value: 'common' }], { authorization });
      }),
    );
    expect(all.filter(({ status }) => status !== 200).map(({ text }) => text)).toEqual([]);
    for (const id of [red, blue, silent]) await patch(id, 'add', '/info/inViews', 'common');
    for (const id of [red, blue, silent]) expect(await views(id)).toEqual(['common']);
    const { layout } = ((await api.get(one(mixed))).json as Shown).info;
    expect(new Set(layout.map(({ stream }) => stream)).size).toBe(layout.length);
  });

  it('DELETE ends one; its owner is told; a mix can not be ended', async () => {
    const stream = await stage.page.call('publish', { look: BLUE });
    expect(await api.delete(one(stream))).toMatchObject({ status: 200, text: '' });
    await stage.page.isTold('progress', { sessionId: stream, status: 'error' });
    expect(await api.get(one(stream))).toEqual(REFUSED.noStream);
    expect([refusal(500, 1301), REFUSED.noStream]).toContainEqual(await api.delete(one(stream)));
    expect(await api.delete(one(mixed))).toEqual(refusal(500, 1301));
    expect((await api.get(one(mixed))).status).toBe(200);
  });
});

describe('of a room in which nobody is', () => {
  it.each(['/v1', '/v1.1'])('%s: there are none, not even the mixes', async (version) => {
    const path = `${version}/rooms/${await api.room()}/streams`;
    expect(await api.get(path)).toMatchObject({ status: 200, json: [] });
    expect(await api.get(`${path}/${UNKNOWN}`)).toEqual(REFUSED.noStream);
    for (const reply of [await api.patch(`${path}/${UNKNOWN}`, []), await api.delete(`${path}/${UNKNOWN}`)]) {
      expect([refusal(500, 1301), REFUSED.noStream, REFUSED.noRoom]).toContainEqual(reply);
    }
  });
});
