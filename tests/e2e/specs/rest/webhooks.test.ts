import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api, REFUSED, bearer, refusal } from '../../harness/api';
import { Kaigi } from '../../harness/kaigi';

let kaigi: Kaigi;
let api: Api;
/** Of a service of its own. */
let own: Api;
let all: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-webhooks' });
  api = new Api(kaigi.managementUrl, kaigi.service);
  own = api.as(await api.tenant('hooks'));
  all = `/services/${own.service.id}/webhooks`;
});
afterAll(() => kaigi?.stop());

const UNKNOWN = 'f'.repeat(24);
const URL = 'http://127.0.0.1:9/hook';
const SECRET = /^whsec_[\w+/]{32,88}={0,2}$/;
const noWebhook = refusal(404, 1001, 'Webhook not found');

describe('webhooks', () => {
  it('are made with a secret that is told this once, looked at, changed and deleted', async () => {
    const before = Date.now();
    const { status, json: made } = await own.post(all, { url: URL, events: ['room.*', 'participant.joined'] });
    expect(status).toBe(200);
    expect(made).toMatchObject({ id: expect.stringMatching(/^[0-9a-f]{24}$/), service: own.service.id, url: URL, events: ['room.*', 'participant.joined'], active: true, secret: expect.stringMatching(SECRET) });
    expect(made.created).toBeGreaterThanOrEqual(before - 1000);
    const { secret: _, ...shown } = made;
    const one = `${all}/${made.id}`;
    expect((await own.get(all)).json).toEqual([expect.objectContaining(shown)]);
    expect((await own.get(one)).json).toEqual({ ...shown, status: expect.objectContaining({ queued: 0, delivered: 0, lost: 0, failures: 0 }) });
    expect((await api.get(one)).json, 'a super service sees them').toMatchObject(shown);

    expect((await own.put(one, { active: false })).json).toMatchObject({ ...shown, active: false });
    expect((await own.put(one, { url: `${URL}/2`, events: [] })).json).toMatchObject({ url: `${URL}/2`, events: [], active: false });
    const rotated = (await own.post(`${one}/secret`)).json;
    expect(rotated).toMatchObject({ id: made.id, secret: expect.stringMatching(SECRET) });
    expect(rotated.secret).not.toBe(made.secret);
    expect(await own.post(`${one}/ping`)).toEqual(refusal(400, 1201, 'The webhook is not active'));

    expect((await own.delete(one)).status).toBe(200);
    expect((await own.get(all)).json).toEqual([]);
    for (const reply of [await own.get(one), await own.put(one, {}), await own.delete(one), await own.post(`${one}/secret`), await own.post(`${one}/ping`)]) expect(reply).toEqual(noWebhook);
  });

  const key = (bytes: number): string => `whsec_${Buffer.alloc(bytes, 7).toString('base64')}`;
  it.each([24, 32, 64])('a secret of %i bytes may be chosen', async (bytes) => {
    const { json } = await own.post(all, { url: URL, secret: key(bytes) });
    expect(json.secret).toBe(key(bytes));
    await own.delete(`${all}/${json.id}`);
  });

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['no URL', {}],
    ['a URL that is no text', { url: 7 }],
    ['a URL of another kind', { url: 'ftp://127.0.0.1/' }],
    ['no URL at all', { url: 'hook' }],
    ['a URL with a password', { url: 'http://user:password@127.0.0.1/' }],
    ['a URL that is too long', { url: `http://127.0.0.1/${'x'.repeat(3000)}` }],
    ['an unknown event', { url: URL, events: ['room.painted'] }],
    ['events that are no list', { url: URL, events: 'room.*' }],
    ['a secret that is too short', { url: URL, secret: key(23) }],
    ['a secret that is too long', { url: URL, secret: key(65) }],
    ['a secret of another form', { url: URL, secret: 'secret' }],
  ])('refuses %s', async (_, body) => {
    expect(await own.post(all, body)).toEqual(REFUSED.malformed);
    expect((await own.get(all)).json).toEqual([]);
  });

  it.each([[{ url: 7 }], [{ url: 'ftp://x' }], [{ events: 'x' }], [{ active: 'yes' }], [[]]])('are not changed by %j', async (body) => {
    const { json } = await own.post(all, { url: URL });
    const one = `${all}/${json.id}`;
    expect(await own.put(one, body)).toEqual(REFUSED.malformed);
    expect((await own.get(one)).json).toMatchObject({ url: URL, events: [], active: true });
    await own.delete(one);
  });

  it('of a service that is not there', async () => {
    expect(await api.get(`/services/${UNKNOWN}/webhooks`)).toEqual(REFUSED.noService);
    expect(await api.post(`/services/${UNKNOWN}/webhooks`, { url: URL })).toEqual(REFUSED.noService);
  });

  it('are made and deleted by many at the same time, and changed, and none is lost', async () => {
    const authorization = bearer(own.service);
    const made = await Promise.all(Array.from({ length: 10 }, (_, i) => own.ok('POST', all, { url: `${URL}/${i}` }, { authorization })));
    expect(new Set(made.map(({ id }) => id)).size).toBe(10);
    const one = `${all}/${made[0].id}`;
    const replies = await Promise.all([{ url: `${URL}/x` }, { events: ['room.*'] }, { active: false }].map((body) => own.put(one, body, { authorization })));
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await own.get(one)).json).toMatchObject({ url: `${URL}/x`, events: ['room.*'], active: false });
    const deleted = await Promise.all(made.map(({ id }) => own.delete(`${all}/${id}`, { authorization })));
    expect(deleted.map(({ status }) => status)).toEqual(Array(10).fill(200));
    expect((await own.get(all)).json).toEqual([]);
  });
});

describe('events', () => {
  it.each(['after=x', 'after=-1', `after=${'9'.repeat(30)}`, 'types=room.painted', 'types=*'])('are refused with %s', async (query) => {
    expect(await own.get(`/v1/events?${query}`)).toEqual(REFUSED.malformed);
  });

  it('are refused after something that is no number', async () => {
    expect(await own.get('/v1/events', { headers: { 'last-event-id': 'x' } })).toEqual(REFUSED.malformed);
  });

  it('of a room that is not its own there are none', async () => {
    const room = await api.room();
    expect(await own.get(`/v1/events?room=${room}`)).toEqual(REFUSED.noRoom);
    expect(await own.get(`/v1/events?room=${UNKNOWN}`)).toEqual(REFUSED.noRoom);
  });
});
