import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api, REFUSED, bearer, refusal } from '../../harness/api';
import { Kaigi } from '../../harness/kaigi';
import type { Credentials } from '../../harness/rest';

let kaigi: Kaigi;
let api: Api;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-services' });
  api = new Api(kaigi.managementUrl, kaigi.service);
});
afterAll(() => kaigi?.stop());

const ID = /^[0-9a-f]{24}$/;
const UNKNOWN = 'f'.repeat(24);

it('one is made, told its key this once, looked at, renamed, and deleted; its rooms stay', async () => {
  const { status, json: made } = await api.post('/services', { name: 'shop' });
  expect(status).toBe(200);
  expect(made).toEqual({ _id: expect.stringMatching(ID), id: made._id, name: 'shop', super: false, publicKey: null, rooms: [], key: expect.stringMatching(/^[\w+/=]{80,}$/) });
  const own = api.as(made as Credentials);
  const room = await own.room();

  const { key: _, ...shown } = { ...made, rooms: [room] };
  expect((await api.get(`/services/${made.id}`)).json).toEqual(shown);
  expect((await own.get(`/services/${made.id}`)).json).toEqual(shown);
  expect((await api.get('/services')).json).toContainEqual(shown);
  expect((await own.put(`/services/${made.id}`, { name: 'other' })).json).toEqual({ ...shown, name: 'other' });

  expect(await api.delete(`/services/${made.id}`)).toMatchObject({ status: 200, text: 'Service deleted' });
  expect(await own.get('/v1/rooms')).toEqual(REFUSED.unauthorized);
  expect(await api.get(`/services/${made.id}`)).toEqual(REFUSED.noService);
  expect((await api.get(`/v1/rooms/${room}`)).status).toBe(200);
});

it.each([
  ['no body', undefined],
  ['no name', {}],
  ['an empty name', { name: '' }],
  ['a name that is no text', { name: 7 }],
  ['a name that is too long', { name: 'x'.repeat(257) }],
  ['a key that is too short', { name: 'x', key: 'short' }],
  ['a key that is too long', { name: 'x', key: 'x'.repeat(1025) }],
  ['a key that is no text', { name: 'x', key: 7 }],
  ['a public key that is none', { name: 'x', publicKey: 'ssh-rsa AAAA' }],
])('POST refuses %s', async (_, body) => {
  const before = (await api.get('/services')).json;
  expect(await api.post('/services', body)).toEqual(REFUSED.malformed);
  expect((await api.get('/services')).json).toEqual(before);
});

it('a key may be chosen', async () => {
  const service = await api.ok('POST', '/services', { name: 'chosen', key: 'a key of my own' });
  expect(service.key).toBe('a key of my own');
  expect((await api.as(service as Credentials).get('/v1/rooms')).status).toBe(200);
});

it('a new key makes the old one void at once, for signatures and for tokens', async () => {
  const old = await api.tenant('rotated');
  const own = api.as(old);
  const token = bearer(old);
  const { json } = await own.post(`/services/${old.id}/key`, {});
  expect(json).toMatchObject({ id: old.id, key: expect.not.stringMatching(`^${old.key}$`) });
  expect(await own.get('/v1/rooms')).toEqual(REFUSED.unauthorized);
  expect(await own.get('/v1/rooms', { authorization: token })).toEqual(REFUSED.unauthorized);
  const fresh = api.as(json as Credentials);
  expect((await fresh.get('/v1/rooms')).status).toBe(200);
  expect((await fresh.post(`/services/${old.id}/key`, { key: 'chosen again' })).json.key).toBe('chosen again');
  expect(await fresh.post(`/services/${old.id}/key`, {})).toEqual(REFUSED.unauthorized);
});

it.each([
  ['PUT', { name: '' }],
  ['PUT', { publicKey: 7 }],
])('%s refuses %j', async (method, body) => {
  const service = await api.tenant('kept');
  expect(await api.call(method, `/services/${service.id}`, { body })).toEqual(REFUSED.malformed);
  expect((await api.get(`/services/${service.id}`)).json).toMatchObject({ name: 'kept', publicKey: null });
});

it.each(['GET', 'PUT', 'DELETE'])('%s of one that is not there', async (method) => {
  for (const id of [UNKNOWN, 'x', '%20']) expect(await api.call(method, `/services/${id}`, { body: method === 'PUT' ? { name: 'x' } : undefined }), id).toEqual(REFUSED.noService);
});

it('the super service stays', async () => {
  const reply = await api.delete(`/services/${kaigi.service.id}`);
  expect([REFUSED.forbidden, refusal(401, 1101)]).toContainEqual(reply);
  expect((await api.get(`/services/${kaigi.service.id}`)).json).toMatchObject({ super: true });
});

describe('at the same time', () => {
  it('of many who delete one, one has done it', async () => {
    const { id } = await api.tenant('gone');
    const authorization = bearer(kaigi.service);
    const replies = await Promise.all(Array.from({ length: 10 }, () => api.delete(`/services/${id}`, { authorization })));
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(replies.filter(({ status }) => status === 404)).toHaveLength(9);
  });

  it('a name and a public key are both changed', async () => {
    const pem = '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAaTJqUbFsXBnnR+Q0GJ8s5qH5bFIHua2VwLo73ptP08c=\n-----END PUBLIC KEY-----\n';
    const authorization = bearer(kaigi.service);
    for (let round = 0; round < 10; round++) {
      const { id } = await api.tenant('both');
      const [one, two] = await Promise.all([{ name: 'changed' }, { publicKey: pem }].map((body) => api.put(`/services/${id}`, body, { authorization })));
      expect([one!.status, two!.status]).toEqual([200, 200]);
      expect((await api.get(`/services/${id}`, { authorization })).json).toMatchObject({ name: 'changed', publicKey: pem });
    }
  });
});
