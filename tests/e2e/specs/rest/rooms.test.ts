import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api, REFUSED, type Reply, bearer, refusal } from '../../harness/api';
import { Kaigi } from '../../harness/kaigi';
import { matches } from '../../harness/matches';
import { Signaling } from '../../harness/signaling';

let kaigi: Kaigi;
let api: Api;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-rooms' });
  api = new Api(kaigi.managementUrl, kaigi.service);
});
afterAll(() => kaigi?.stop());

const ID = /^[0-9a-f]{24}$/;
const UNKNOWN = 'f'.repeat(24);
const ROLE = { role: 'guest', publish: { audio: true, video: false }, subscribe: { audio: true, video: true } };

/** OWT's room, made with a name alone, and Kaigi's own attribute. */
const DEFAULT = {
  autoMix: false,
  inputLimit: -1,
  participantLimit: -1,
  selectActiveAudio: false,
  enableBandwidthAdaptation: false,
  roles: [
    { role: 'presenter', publish: { audio: true, video: true }, subscribe: { audio: true, video: true } },
    { role: 'viewer', publish: { audio: false, video: false }, subscribe: { audio: true, video: true } },
    { role: 'audio_only_presenter', publish: { audio: true, video: false }, subscribe: { audio: true, video: false } },
    { role: 'video_only_viewer', publish: { audio: false, video: false }, subscribe: { audio: false, video: true } },
    { role: 'sip', publish: { audio: true, video: true }, subscribe: { audio: true, video: true } },
  ],
  notifying: { participantActivities: true, streamChange: true },
  transcoding: { audio: true, video: { format: true, parameters: { resolution: true, framerate: true, bitrate: true, keyFrameInterval: true } } },
  __v: 0,
};

describe.each(['/v1', '/v1.1'])('%s', (version) => {
  const rooms = `${version}/rooms`;
  const one = (id: string): string => `${rooms}/${id}`;

  describe('POST rooms', () => {
    it('makes a room with OWT\'s defaults', async () => {
      const { json } = await api.post(rooms, { name: 'my room' });
      expect(json).toMatchObject({ ...DEFAULT, _id: expect.stringMatching(ID), id: json._id, name: 'my room' });
      expect(json.mediaIn.audio.map(({ codec }: { codec: string }) => codec)).toEqual(['opus', 'isac', 'isac', 'g722', 'pcma', 'pcmu', 'aac', 'ac3', 'nellymoser', 'ilbc']);
      expect(json.mediaOut.video.parameters.framerate).toEqual([6, 12, 15, 24, 30, 48, 60]);
      expect(json.views).toMatchObject([{ label: 'common', audio: { vad: true }, video: { maxInput: 16, layout: { fitPolicy: 'letterbox', templates: { base: 'fluid' } } } }]);
      expect((await api.get(one(json._id))).json).toMatchObject({ ...DEFAULT, name: 'my room' });
    });

    it('takes attributes in place of the defaults, and drops nulls and what it does not know', async () => {
      const options = { name: 'not this', inputLimit: 3, roles: [ROLE], notifying: { streamChange: false }, participantLimit: null, what: 'ever' };
      const { json } = await api.post(rooms, { name: 'named', options });
      expect(json).toMatchObject({ name: 'named', inputLimit: 3, roles: [ROLE], participantLimit: -1, notifying: { participantActivities: true, streamChange: false } });
      expect(json).not.toHaveProperty('what');
      expect(json).not.toHaveProperty('service');
    });

    it.each([
      ['no body', undefined],
      ['no name', {}],
      ['an empty name', { name: '' }],
      ['a name that is no text', { name: 7 }],
      ['a list', ['name']],
    ])('refuses %s', async (_, body) => {
      expect(await api.post(rooms, body)).toEqual(refusal(400, 1201, 'Invalid request body'));
    });

    it.each([[7], ['x'], [true], [[]]])('refuses options %j', async (options) => {
      expect(await api.post(rooms, { name: 'x', options })).toEqual(refusal(400, 1201, 'Invalid room option'));
    });

    it.each([[null], [false], [undefined], [{}]])('takes options %j for none', async (options) => {
      expect((await api.post(rooms, { name: 'x', options })).status).toBe(200);
    });

    const view = (video: object): object => ({ views: [{ label: 'common', video }] });
    it.each([
      ['a limit in words', { inputLimit: 'ten' }],
      ['roles that are no list', { roles: {} }],
      ['a role without a name', { roles: [{}] }],
      ['views that are no list', { views: 'common' }],
      ['a view with too many inputs', view({ maxInput: 257 })],
      ['a view with no input', view({ maxInput: 0 })],
      ['a colour that is none', view({ bgColor: { r: 256, g: 0, b: 0 } })],
      ['an unknown fit', view({ layout: { fitPolicy: 'stretch' } })],
      ['a codec that is not given out', { views: [{ label: 'common', video: { format: { codec: 'h265' } } }] }],
    ])('refuses %s, as OWT does', async (_, options) => {
      expect(await api.post(rooms, { name: 'x', options })).toEqual(refusal(500, 2001));
    });
  });

  describe('GET rooms', () => {
    it('lists in the order of making, a page at a time if asked so', async () => {
      const own = api.as(await api.tenant('pages'));
      expect((await own.get(rooms)).json).toEqual([]);
      const made: string[] = [];
      for (let i = 0; i < 5; i++) made.push(await own.room({}, `room ${i}`));
      const ids = async (query: string): Promise<number[]> => {
        const { json } = await own.get(`${rooms}${query}`);
        return json.map(({ _id, id }: { _id: string; id: string }) => (expect(id).toBe(_id), made.indexOf(_id)));
      };
      for (const all of ['', '?page=2', '?per_page=0', '?per_page=x&page=y', '?per_page=-1', '?per_page=100&page=1', '?other=1']) expect(await ids(all), all).toEqual([0, 1, 2, 3, 4]);
      expect(await ids('?per_page=2')).toEqual([0, 1]);
      expect(await ids('?page=2&per_page=2')).toEqual([2, 3]);
      expect(await ids('?page=3&per_page=2')).toEqual([4]);
      expect(await ids('?page=4&per_page=2')).toEqual([]);
      expect(await ids('?page=99999999999999999999&per_page=2')).toEqual([0, 1]);
    });
  });

  describe('GET, PUT, PATCH, DELETE of a room', () => {
    it('that is not there', async () => {
      for (const reply of [await api.get(one(UNKNOWN)), await api.put(one(UNKNOWN), {}), await api.patch(one(UNKNOWN), {}), await api.delete(one(UNKNOWN))]) {
        expect(reply).toEqual(REFUSED.noRoom);
      }
    });

    it('PUT replaces attributes, whole ones, and leaves the others', async () => {
      const room = await api.room({ inputLimit: 7, notifying: { streamChange: false } });
      const { json } = await api.put(one(room), { participantLimit: 9, notifying: { participantActivities: false }, name: 'other' });
      expect(json).toMatchObject({ _id: room, id: room, name: 'other', inputLimit: 7, participantLimit: 9, notifying: { participantActivities: false, streamChange: true } });
      expect((await api.get(one(room))).json).toMatchObject({ name: 'other', participantLimit: 9 });
    });

    it('PUT takes a whole document back, as the console sends it, and keeps who it is', async () => {
      const room = await api.room();
      const { json } = await api.get(one(room));
      const reply = await api.put(one(room), { ...json, _id: UNKNOWN, id: UNKNOWN, __v: 7, service: 'x', inputLimit: 2, sip: null });
      expect(reply.json).toMatchObject({ _id: room, id: room, __v: 0, inputLimit: 2 });
    });

    it('PATCH merges into attributes, member by member (RFC 7396)', async () => {
      const room = await api.room({ inputLimit: 7 });
      const { status, json } = await api.patch(one(room), { notifying: { streamChange: false }, transcoding: { video: { parameters: { bitrate: false } } } });
      expect(status).toBe(200);
      expect(json).toMatchObject({
        _id: room,
        inputLimit: 7,
        notifying: { participantActivities: true, streamChange: false },
        transcoding: { audio: true, video: { format: true, parameters: { resolution: true, bitrate: false } } },
      });
      // Null is "not given": what there is by default.
      expect((await api.patch(one(room), { inputLimit: null })).json.inputLimit).toBe(-1);
    });

    it("PATCH takes a list for a JSON Patch (RFC 6902), as OWT's client sends it", async () => {
      const room = await api.room({ inputLimit: 7 });
      const steps = [
        { op: 'test', path: '/inputLimit', value: 7 },
        { op: 'replace', path: '/notifying/streamChange', value: false },
        { op: 'add', path: '/roles/-', value: ROLE },
        { op: 'remove', path: '/views/0' },
      ];
      const { status, json } = await api.patch(one(room), steps);
      expect(status).toBe(200);
      expect(json).toMatchObject({ inputLimit: 7, notifying: { participantActivities: true, streamChange: false }, views: [] });
      expect(json.roles.at(-1)).toEqual(ROLE);
      const failing = [{ op: 'replace', path: '/inputLimit', value: 8 }, { op: 'test', path: '/inputLimit', value: 7 }];
      expect(await api.patch(one(room), failing)).toEqual(REFUSED.malformed);
      expect((await api.get(one(room))).json.inputLimit).toBe(7);
    });

    it.each([['PUT'], ['PATCH']])('%s refuses what is no room, and changes nothing', async (method) => {
      const room = await api.room();
      const before = (await api.get(one(room))).json;
      for (const body of [[1], { inputLimit: 'x' }, { roles: 7 }, { name: 7 }, { views: [{ video: { format: { codec: 'nothing' } } }] }]) {
        expect(await api.call(method, one(room), { body }), JSON.stringify(body)).toEqual(REFUSED.malformed);
      }
      expect((await api.get(one(room))).json).toEqual(before);
    });

    it('DELETE says so, once, and drops those who are in it', async () => {
      const room = await api.room();
      const client = await Signaling.connect(kaigi.url);
      await client.login(await kaigi.rest.token(room, 'Aiko'));
      expect(await api.delete(one(room))).toMatchObject({ status: 200, text: 'Room deleted' });
      await client.toldThat('drop', () => true);
      expect(await api.delete(one(room))).toEqual(REFUSED.noRoom);
      expect(await api.get(one(room))).toEqual(REFUSED.noRoom);
      client.close();
    });
  });

  describe('ETag and If-Match', () => {
    const withTag = (tag: string): { headers: Record<string, string> } => ({ headers: { 'if-match': tag } });
    const tagOf = ({ headers }: Reply): string => String(headers.etag);

    it('a tag stands for a content', async () => {
      const room = await api.room();
      const tag = tagOf(await api.get(one(room)));
      expect(tag).toMatch(/^"[^"]+"$/);
      expect(tagOf(await api.get(one(room)))).toBe(tag);
      const changed = await api.put(one(room), { inputLimit: 1 });
      expect(tagOf(changed)).not.toBe(tag);
      expect(tagOf(await api.get(one(room)))).toBe(tagOf(changed));
      expect(tagOf(await api.put(one(room), { inputLimit: -1 }))).toBe(tag);
    });

    it.each(['PUT', 'PATCH', 'DELETE'])('%s is done only if the room is what was seen', async (method) => {
      const room = await api.room();
      const tag = tagOf(await api.get(one(room)));
      await api.put(one(room), { inputLimit: 1 });
      const body = method === 'DELETE' ? undefined : { inputLimit: 2 };
      for (const stale of [tag, '"x"', `W/${tag}`, `"x", ${tag}`]) expect(await api.call(method, one(room), { body, ...withTag(stale) }), stale).toEqual(refusal(412, 1201));
      expect((await api.get(one(room))).json.inputLimit).toBe(1);
      const now = tagOf(await api.get(one(room)));
      expect((await api.call(method, one(room), { body, ...withTag(`"x", ${now}`) })).status).toBe(200);
    });

    it('any will do, and what is no tag will not', async () => {
      const room = await api.room();
      expect((await api.put(one(room), { inputLimit: 3 }, withTag('*'))).status).toBe(200);
      for (const none of ['x', '"', '', ',']) expect(await api.put(one(room), { inputLimit: 4 }, withTag(none)), none).toEqual(REFUSED.malformed);
      expect((await api.get(one(room))).json.inputLimit).toBe(3);
    });
  });
});

describe('at the same time', () => {
  /** The token spares what is not looked at here: a nonce for each request. */
  const quick = (): { authorization: string } => ({ authorization: bearer(kaigi.service) });

  it('a hundred changes of different attributes, by PUT and PATCH, are all there at the end', async () => {
    const room = await api.room();
    const path = (i: number): string => `/${i % 2 ? 'v1' : 'v1.1'}/rooms/${room}`;
    const attributes: ((n: number) => Record<string, unknown>)[] = [
      (n) => ({ name: `name ${n}` }),
      (n) => ({ inputLimit: n }),
      (n) => ({ participantLimit: n }),
      (n) => ({ selectActiveAudio: n % 2 === 0 }),
      (n) => ({ enableBandwidthAdaptation: n % 2 === 0 }),
      (n) => ({ autoMix: n % 2 === 0 }),
      (n) => ({ roles: [{ ...ROLE, role: `role ${n}` }] }),
      (n) => ({ notifying: { participantActivities: n % 2 === 0, streamChange: n % 2 === 0 } }),
      (n) => ({ views: [{ label: `view${n}` }] }),
      (n) => ({ mediaIn: { audio: [{ codec: 'opus', sampleRate: 48000, channelNum: 2 }], video: n % 2 === 0 ? [{ codec: 'vp8' }] : [] } }),
    ];
    const replies = await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const attribute = i % attributes.length;
        const body = attributes[attribute]!(i);
        return { attribute, body, reply: await api.call(i % 3 ? 'PATCH' : 'PUT', path(i), { body, ...quick() }) };
      }),
    );
    for (const { body, reply } of replies) {
      expect(reply.status, reply.text).toBe(200);
      // Its own change is in the answer to each.
      expect(reply.json).toMatchObject(body);
    }
    const { json } = await api.get(path(0));
    for (const attribute of attributes.keys()) {
      const tried = replies.filter((one) => one.attribute === attribute);
      expect(tried.some(({ body }) => matches(json, body)), Object.keys(attributes[attribute]!(0))[0]).toBe(true);
    }
  });

  it('a hundred increments over what was read are a hundred', async () => {
    const room = await api.room({ inputLimit: 0 });
    const path = `/v1/rooms/${room}`;
    const increment = async (i: number): Promise<number> => {
      for (let tries = 1; ; tries++) {
        const { json, headers } = await api.get(path, quick());
        const body = { inputLimit: json.inputLimit + 1 };
        const reply = await api.call(i % 2 ? 'PUT' : 'PATCH', path, { body, headers: { 'if-match': String(headers.etag) }, ...quick() });
        if (reply.status === 200) return tries;
        expect(reply).toEqual(refusal(412, 1201));
      }
    };
    const worker = async (i: number): Promise<void> => {
      for (let n = 0; n < 20; n++) await increment(i);
    };
    await Promise.all(Array.from({ length: 5 }, (_, i) => worker(i)));
    expect((await api.get(path)).json.inputLimit).toBe(100);
  });

  it('a room is deleted once, and changes to it are done or find none', async () => {
    for (let round = 0; round < 5; round++) {
      const path = `/v1/rooms/${await api.room()}`;
      const all = await Promise.all([
        ...Array.from({ length: 5 }, () => api.delete(path, quick())),
        ...Array.from({ length: 5 }, (_, n) => api.put(path, { inputLimit: n }, quick())),
      ]);
      expect(all.slice(0, 5).filter(({ status }) => status === 200)).toHaveLength(1);
      for (const { status, json } of all) expect(status === 200 || json.error.code === 1003, `${status}`).toBe(true);
      expect(await api.get(path), 'it does not come back by a late change').toEqual(REFUSED.noRoom);
    }
  });

  it('fifty are made and deleted, each once', async () => {
    const own = api.as(await api.tenant('many'));
    const authorization = bearer(own.service);
    const made = await Promise.all(Array.from({ length: 50 }, (_, i) => own.ok('POST', '/v1/rooms', { name: `${i}` }, { authorization })));
    expect(new Set(made.map(({ _id }) => _id)).size).toBe(50);
    expect((await own.get('/v1/rooms')).json).toHaveLength(50);
    const deleted = await Promise.all(made.map(({ _id }) => own.delete(`/v1/rooms/${_id}`, { authorization })));
    expect(deleted.every(({ status }) => status === 200)).toBe(true);
    expect((await own.get('/v1/rooms')).json).toEqual([]);
  });
});
