import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Api, REFUSED, bearer, refusal } from '../../harness/api';
import { DIALECTS } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import { until } from '../../harness/until';

const UNKNOWN = 'f'.repeat(32);
const BOTH = { audio: true, video: true };
const NONE = { audio: false, video: false };

let kaigi: Kaigi;
let api: Api;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-participants' });
  api = new Api(kaigi.managementUrl, kaigi.service);
});
afterAll(() => kaigi?.stop());

describe.each(['/v1', '/v1.1'])('%s', (version) => {
  const [, dialect] = DIALECTS[0]!;
  let room: string;
  let path: string;
  let presenter: Member;
  let viewer: Member;

  beforeEach(async () => {
    room = await api.room();
    path = `${version}/rooms/${room}/participants`;
    presenter = await enter(kaigi, room, dialect, 'presenter', 'Aiko');
    viewer = await enter(kaigi, room, dialect, 'viewer', 'Botan');
  });
  afterEach(async () => {
    for (const member of [presenter, viewer]) await member.client.leave();
  });

  const shown = (member: Member, user: string, role: string, publish: object): object => ({ id: member.id, user, role, permission: { publish, subscribe: BOTH } });

  it('are listed, and looked at one by one', async () => {
    const aiko = shown(presenter, 'Aiko', 'presenter', BOTH);
    const botan = shown(viewer, 'Botan', 'viewer', NONE);
    const { status, json } = await api.get(path);
    expect(status).toBe(200);
    expect(json).toHaveLength(2);
    expect(json).toEqual(expect.arrayContaining([aiko, botan]));
    expect((await api.get(`${path}/${viewer.id}`)).json).toEqual(botan);
    await viewer.client.leave();
    await until('one has left', async () => (await api.get(path)).json.length === 1);
    expect(await api.get(`${path}/${viewer.id}`)).toEqual(REFUSED.noParticipant);
  });

  it('users are whatever JSON they were given', async () => {
    const user = { name: 'Chika', tags: ['a', 1, null] };
    const client = await enter(kaigi, room, dialect, 'presenter', user as unknown as string);
    expect((await api.get(`${path}/${client.id}`)).json.user).toEqual(user);
    await client.client.leave();
  });

  it.each<[string, unknown, unknown, object]>([
    ['/permission/publish', true, BOTH, { publish: BOTH }],
    ['/permission/publish', { audio: true, video: false }, { audio: true, video: false }, { publish: { audio: true, video: false } }],
    ['/permission/publish/video', true, { audio: false, video: true }, { publish: { audio: false, video: true } }],
    ['/permission/subscribe', false, NONE, { subscribe: NONE }],
    ['/permission/subscribe/audio', false, { audio: false, video: true }, { subscribe: { audio: false, video: true } }],
  ])('PATCH replaces %s by %j', async (at, value, _, permission) => {
    const { status, json } = await api.patch(`${path}/${viewer.id}`, [{ op: 'replace', path: at, value }]);
    expect(status).toBe(200);
    expect(json).toMatchObject({ id: viewer.id, permission });
    expect((await api.get(`${path}/${viewer.id}`)).json).toEqual(json);
  });

  it('PATCH makes several changes, of which the last counts, and may make none', async () => {
    const change = (at: string, value: unknown): object => ({ op: 'replace', path: `/permission/${at}`, value });
    const all = [change('publish', true), change('publish/audio', false), change('subscribe/video', false)];
    expect((await api.patch(`${path}/${viewer.id}`, all)).json.permission).toEqual({ publish: { audio: false, video: true }, subscribe: { audio: true, video: false } });
    expect((await api.patch(`${path}/${viewer.id}`, [])).status).toBe(200);
  });

  it.each<[string, unknown]>([
    ['no list', {}],
    ['no operation', [1]],
    ['another operation', [{ op: 'add', path: '/permission/publish', value: true }]],
    ['an unknown path', [{ op: 'replace', path: '/permission', value: true }]],
    ['a role', [{ op: 'replace', path: '/role', value: 'presenter' }]],
    ['a value of the wrong type', [{ op: 'replace', path: '/permission/publish', value: 'yes' }]],
    ['one kind of two', [{ op: 'replace', path: '/permission/publish', value: { audio: true } }]],
    ['both kinds for one', [{ op: 'replace', path: '/permission/publish/audio', value: BOTH }]],
    ['no value', [{ op: 'replace', path: '/permission/publish' }]],
    ['too many changes', Array.from({ length: 65 }, () => ({ op: 'replace', path: '/permission/publish', value: true }))],
    ['one bad among good', [{ op: 'replace', path: '/permission/publish', value: true }, { op: 'replace', path: '/x', value: true }]],
  ])('PATCH refuses %s, and changes nothing', async (_, body) => {
    const reply = await api.patch(`${path}/${viewer.id}`, body);
    expect([refusal(500, 1301), refusal(400, 1201)]).toContainEqual(reply);
    expect((await api.get(`${path}/${viewer.id}`)).json.permission).toEqual({ publish: NONE, subscribe: BOTH });
  });

  it('DELETE drops one, and nobody else', async () => {
    expect(await api.delete(`${path}/${viewer.id}`)).toMatchObject({ status: 200, text: '' });
    await viewer.client.toldThat('drop', () => true);
    await presenter.client.told('participant', { action: 'leave', data: viewer.id });
    expect((await api.get(path)).json.map(({ id }: { id: string }) => id)).toEqual([presenter.id]);
    expect(presenter.client.heard('drop')).toEqual([]);
  });

  it('who is not there is not found, or was refused', async () => {
    expect(await api.get(`${path}/${UNKNOWN}`)).toEqual(REFUSED.noParticipant);
    const changes = [await api.patch(`${path}/${UNKNOWN}`, [{ op: 'replace', path: '/permission/publish', value: true }]), await api.delete(`${path}/${UNKNOWN}`)];
    for (const reply of changes) expect([refusal(500, 1301), REFUSED.noParticipant]).toContainEqual(reply);
  });

  it('a hundred changes of different permissions at the same time are all made', async () => {
    const authorization = bearer(kaigi.service);
    const permissions = ['publish/audio', 'publish/video', 'subscribe/audio', 'subscribe/video'];
    const replies = await Promise.all(
      Array.from({ length: 100 }, (_, i) => {
        const body = [{ op: 'replace', path: `/permission/${permissions[i % 4]}`, value: i < 96 ? i % 8 < 4 : i % 2 === 0 }];
        return api.patch(`${path}/${viewer.id}`, body, { authorization });
      }),
    );
    expect(replies.map(({ status }) => status)).toEqual(Array(100).fill(200));
    for (const at of permissions) await api.patch(`${path}/${viewer.id}`, [{ op: 'replace', path: `/permission/${at}`, value: at.endsWith('audio') }]);
    expect((await api.get(`${path}/${viewer.id}`)).json.permission).toEqual({ publish: { audio: true, video: false }, subscribe: { audio: true, video: false } });
  });

  it('of many who drop one at the same time one has done it', async () => {
    const authorization = bearer(kaigi.service);
    const replies = await Promise.all(Array.from({ length: 10 }, () => api.delete(`${path}/${viewer.id}`, { authorization })));
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
    expect((await api.get(path)).json).toHaveLength(1);
  });
});

describe('of a room in which nobody is', () => {
  it('there are none', async () => {
    const path = `/v1/rooms/${await api.room()}/participants`;
    expect(await api.get(path)).toMatchObject({ status: 200, json: [] });
    expect(await api.get(`${path}/${UNKNOWN}`)).toEqual(REFUSED.noParticipant);
    for (const reply of [await api.patch(`${path}/${UNKNOWN}`, []), await api.delete(`${path}/${UNKNOWN}`)]) {
      expect([refusal(500, 1301), REFUSED.noParticipant, REFUSED.noRoom]).toContainEqual(reply);
    }
  });
});
