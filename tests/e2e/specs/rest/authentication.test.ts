import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api, REFUSED, bearer, jwt, refusal, seconds } from '../../harness/api';
import { Kaigi } from '../../harness/kaigi';
import { type Credentials, mauth } from '../../harness/rest';
import { ROUTES, type Route, fill, named } from '../../harness/routes';

let kaigi: Kaigi;
let api: Api;
/** A service that is no super service, and its rooms. */
let tenant: Api;
let room: string;
let second: string;
/** Another one. */
let stranger: Credentials;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-authentication' });
  api = new Api(kaigi.managementUrl, kaigi.service);
  tenant = api.as(await api.tenant('tenant'));
  stranger = await api.tenant('stranger');
  [room, second] = [await tenant.room(), await tenant.room()];
});
afterAll(() => kaigi?.stop());

/** All that routes without a right could have changed. */
async function state(): Promise<unknown> {
  return [await api.ok('GET', '/v1/rooms'), await api.ok('GET', '/services')];
}

/** Calls a route of the tenant as somebody. */
function call({ method, path, body }: Route, authorization: string | null): ReturnType<Api['call']> {
  return api.call(method, fill(path, { room, service: tenant.service.id }), { body, authorization });
}

const replace = (header: string, field: string, value: string): string => header.replace(new RegExp(`${field}=[^,]*`), `${field}=${value}`);
const MINUTE = 60_000;

/** What does not let in, made anew for each request. */
const UNSIGNED: Record<string, () => string | null> = {
  'no header': () => null,
  'an empty header': () => '',
  'another scheme': () => `Basic ${Buffer.from(`${tenant.service.id}:${tenant.service.key}`).toString('base64')}`,
  'the scheme alone': () => 'MAuth',
  'a wrong key': () => mauth({ id: tenant.service.id, key: stranger.key }),
  'an unknown service': () => mauth({ id: 'f'.repeat(24), key: tenant.service.key }),
  'no id of a service': () => mauth({ id: '../x', key: tenant.service.key }),
  'a wrong signature': () => replace(mauth(tenant.service), 'mauth_signature', 'A'.repeat(88)),
  'no signature': () => mauth(tenant.service).replace(/,mauth_signature=.*/, ''),
  'another method of signing': () => replace(mauth(tenant.service), 'mauth_signature_method', 'HMAC_SHA1'),
  'another nonce than was signed': () => replace(mauth(tenant.service), 'mauth_cnonce', '1'),
  'another time than was signed': () => replace(mauth(tenant.service), 'mauth_timestamp', String(Date.now() + 1)),
  'a user that was not signed': () => `${mauth(tenant.service)},mauth_username=QWtp,mauth_role=presenter`,
  'a time long ago': () => mauth(tenant.service, Date.now() - 6 * MINUTE),
  'a time to come': () => mauth(tenant.service, Date.now() + 6 * MINUTE),
  'no time': () => mauth(tenant.service, Number.NaN),
};

const claims = (more: object = {}): object => ({ iss: tenant.service.id, exp: seconds(600), ...more });
const signed = (more?: object, header?: object): string => `Bearer ${jwt(claims(more), tenant.service.key, header)}`;

const BAD_TOKENS: Record<string, () => string> = {
  'no token': () => 'Bearer ',
  'something else': () => 'Bearer abc.def',
  'a token that is too long': () => `Bearer ${'a.'.repeat(20_000)}`,
  'claims that were changed': () => signed().replace(/\.[^.]*\./, `.${Buffer.from(JSON.stringify(claims({ exp: seconds(9999) }))).toString('base64url')}.`),
  'a signature that was changed': () => signed().replace(/\.[^.]*$/, `.${randomBytes(32).toString('base64url')}`),
  'no signature at all': () => signed().replace(/\.[^.]*$/, '.'),
  'the algorithm none': () => signed({}, { typ: 'JWT', alg: 'none' }).replace(/\.[^.]*$/, '.'),
  'another algorithm': () => signed({}, { typ: 'JWT', alg: 'HS512' }),
  'a key pair that the service has not told': () => `Bearer ${jwt(claims(), generateKeyPairSync('ed25519').privateKey)}`,
  'a token that is over': () => signed({ exp: seconds(-60) }),
  'a token that is not good yet': () => signed({ nbf: seconds(300) }),
  'a token for ever': () => signed({ exp: undefined }),
  'a token of nobody': () => signed({ iss: undefined }),
  'an unknown service': () => signed({ iss: 'f'.repeat(24) }),
  "another service's key": () => `Bearer ${jwt(claims(), stranger.key)}`,
  'a grant that is not known': () => signed({ grants: { readonly: true } }),
  'grants that are none': () => signed({ grants: { rooms: 'all' } }),
};

describe('whoever does not prove to be a service is refused on every route, and changes nothing:', () => {
  it.each(Object.entries({ ...UNSIGNED, ...BAD_TOKENS }))('%s', async (_, authorization) => {
    const before = await state();
    for (const { route, reply } of await Promise.all(ROUTES.map(async (route) => ({ route, reply: await call(route, authorization()) })))) {
      expect(reply, `${route.method} ${route.path}`).toEqual(REFUSED.unauthorized);
    }
    expect(await state()).toEqual(before);
  });

  it('a request that was sent before', async () => {
    const authorization = mauth(tenant.service);
    expect((await tenant.get('/v1/rooms', { authorization })).status).toBe(200);
    const before = await state();
    const replies = await Promise.all(ROUTES.map((route) => call(route, authorization)));
    for (const reply of replies) expect(reply).toEqual(refusal(401, 1101, 'The request was made before, or at another time than it says'));
    expect(await state()).toEqual(before);
  });
});

it('of many requests with one nonce at the same time one is let in', async () => {
  const authorization = mauth(tenant.service);
  const replies = await Promise.all(Array.from({ length: 20 }, () => tenant.get('/v1/rooms', { authorization })));
  expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
  expect(replies.filter(({ status }) => status === 401)).toHaveLength(19);
});

it('who is not let in does not learn which paths exist', async () => {
  for (const path of ['/v1/rooms/a/b/c', '/services/a/b/c']) {
    expect(await api.get(path, { authorization: null }), path).toEqual(REFUSED.unauthorized);
    expect(await api.get(path), path).toEqual(REFUSED.noPath);
  }
});

it("says what a client that asks OWT's way compares", async () => {
  expect(await api.get('/v1/rooms', { authorization: null })).toEqual(refusal(401, 1101, 'WWW-Authenticate: MAuth realm="http://marte3.dit.upm.es"'));
});

it('takes headers as clients write them: in any order, quoted, with blanks, of any letter case', async () => {
  const shuffled = (header: string): string => `MAuth ${header.replace('MAuth ', '').split(',').reverse().join(',')}`;
  // Of the first field the first six letters are the scheme's.
  const forms: ((header: string) => string)[] = [
    (header) => header,
    (header) => header.replaceAll(',', ', '),
    (header) => header.replaceAll(/=([^,]+)/g, '="$1"'),
    (header) => header.replace('MAuth realm', 'mauth realm'),
    (header) => shuffled(header).replace('MAuth mauth_', 'MAuth '),
  ];
  for (const form of forms) {
    const authorization = form(mauth(tenant.service));
    expect((await tenant.get('/v1/rooms', { authorization })).status, authorization).toBe(200);
  }
  const lower = bearer(tenant.service).replace('Bearer', 'bearer');
  expect((await tenant.get('/v1/rooms', { authorization: lower })).status).toBe(200);
});

it('takes tokens that were signed with the key pair whose public half the service told, and with its own key as before', async () => {
  const pair = generateKeyPairSync('ed25519');
  const pem = createPublicKey(pair.privateKey).export({ type: 'spki', format: 'pem' }) as string;
  const service = await api.tenant('pair');
  const own = api.as(service);
  const token = `Bearer ${jwt({ iss: service.id, exp: seconds(600) }, pair.privateKey)}`;
  expect(await own.get('/v1/rooms', { authorization: token })).toEqual(REFUSED.unauthorized);
  expect((await own.put(`/services/${service.id}`, { publicKey: pem })).json.publicKey).toBe(pem);
  expect((await own.get('/v1/rooms', { authorization: token })).json).toEqual([]);
  expect((await own.get('/v1/rooms', { authorization: bearer(service) })).json).toEqual([]);
  // What everybody knows is no secret to sign with.
  const forged = `Bearer ${jwt({ iss: service.id, exp: seconds(600) }, pem)}`;
  expect(await own.get('/v1/rooms', { authorization: forged })).toEqual(REFUSED.unauthorized);
  expect((await own.put(`/services/${service.id}`, { publicKey: null })).json.publicKey).toBeNull();
  expect(await own.get('/v1/rooms', { authorization: token })).toEqual(REFUSED.unauthorized);
});

describe('a service has its own rooms alone:', () => {
  it.each(named(ROUTES.filter(({ room }) => room)))('%s', async (_, route) => {
    expect(await call(route, mauth(stranger))).toEqual(REFUSED.noRoom);
    expect(await api.as(stranger).call(route.method, fill(route.path), { body: route.body })).toEqual(REFUSED.noRoom);
  });

  it.each(named(ROUTES.filter(({ path }) => path.includes('{service}'))))("%s of another one's", async (_, route) => {
    expect(await call(route, mauth(stranger))).toEqual(REFUSED.forbidden);
  });

  it.each(named(ROUTES.filter(({ superOnly }) => superOnly)))('%s, which is the super service\'s', async (_, route) => {
    expect(await call(route, mauth(stranger))).toEqual(REFUSED.forbidden);
  });

  it('and sees no others', async () => {
    expect((await tenant.get('/v1/rooms')).json.map(({ _id }: { _id: string }) => _id)).toEqual([room, second]);
    expect((await api.as(stranger).get('/v1/rooms')).json).toEqual([]);
    expect((await api.get(`/v1/rooms/${room}`)).status).toBe(200);
  });
});

describe('tokens with less than all rights', () => {
  /** What is changed is put back, or was never there. */
  const harmless = ROUTES.filter(({ method, path }) => !['DELETE /v1/rooms/{room}', 'DELETE /v1.1/rooms/{room}'].includes(`${method} ${path}`) && !path.startsWith('/services'));
  const isToken = ({ path }: Route): boolean => path.endsWith('/tokens');
  const letsIn = ({ status }: { status: number }): boolean => status !== 401 && status !== 403;

  it.each(named(ROUTES.filter((route) => !isToken(route))))('that let people in are for nothing else: %s', async (_, route) => {
    expect(await call(route, bearer(tenant.service, { tokensOnly: true }))).toEqual(REFUSED.forbidden);
  });

  it.each(named(ROUTES.filter(({ method }) => method !== 'GET')))('that are for looking change nothing: %s', async (_, route) => {
    expect(await call(route, bearer(tenant.service, { readOnly: true }))).toEqual(REFUSED.forbidden);
  });

  it.each(named(harmless.filter(({ method, superOnly, endless }) => method === 'GET' && !superOnly && !endless)))('that are for looking look: %s', async (_, route) => {
    expect(await call(route, bearer(tenant.service, { readOnly: true }))).toSatisfy(letsIn);
  });

  it.each(named(ROUTES.filter(({ room }) => room)))('for other rooms do not find this one: %s', async (_, route) => {
    expect(await call(route, bearer(tenant.service, { rooms: [second] }))).toEqual(REFUSED.noRoom);
  });

  it.each(named(ROUTES.filter(({ room, filtered }) => !room && !filtered)))('for some rooms are for nothing else: %s', async (_, route) => {
    expect(await call(route, bearer(tenant.service, { rooms: [room] }))).toEqual(REFUSED.forbidden);
  });

  it.each(named(harmless.filter(({ room }) => room)))('for a room are for all of it: %s', async (_, route) => {
    expect(await call(route, bearer(tenant.service, { rooms: [room] }))).toSatisfy(letsIn);
  });

  it('for some rooms list those', async () => {
    const ids = async (rooms: string[]): Promise<string[]> =>
      ((await tenant.get('/v1/rooms', { authorization: bearer(tenant.service, { rooms }) })).json as { _id: string }[]).map(({ _id }) => _id);
    expect(await ids([second])).toEqual([second]);
    expect(await ids([])).toEqual([]);
    expect(await ids(['unknown', room])).toEqual([room]);
  });

  it('that let people in do that', async () => {
    const authorization = bearer(tenant.service, { rooms: [room], tokensOnly: true });
    const reply = await tenant.post(`/v1/rooms/${room}/tokens`, { user: 'Aiko', role: 'presenter' }, { authorization });
    expect(reply).toMatchObject({ status: 200, text: expect.stringMatching(/^[\w+/=]{20,}$/) });
  });
});
