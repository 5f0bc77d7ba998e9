import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api, REFUSED, refusal } from '../../harness/api';
import { Kaigi } from '../../harness/kaigi';
import { request } from '../../harness/http';

let kaigi: Kaigi;
let api: Api;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-basics' });
  api = new Api(kaigi.managementUrl, kaigi.service);
  room = await api.room();
});
afterAll(() => kaigi?.stop());

describe('paths', () => {
  it.each(['/v1/rooms/', '/V1/ROOMS', '//v1//rooms', '/v1.1/rooms/', '/V1.1/Rooms'])('%s is the list of rooms', async (path) => {
    expect((await api.get(path)).json).toEqual((await api.get('/v1/rooms')).json);
  });

  it.each(['participants', 'streams', 'streaming-ins', 'streaming-outs', 'recordings', 'sipcalls', 'analytics'])("%s may have the slash at its end that OWT's client sends", async (list) => {
    for (const version of ['v1', 'v1.1']) expect(await api.get(`/${version}/rooms/${room}/${list}/`)).toMatchObject({ status: 200, json: [] });
  });

  it.each(['/', '/v1', '/v2/rooms', '/v1/room', '/rooms', '/v1.2/rooms', '/openapi', '/favicon.ico'])('%s is none, and needs no proof to learn that', async (path) => {
    expect(await api.get(path, { authorization: null })).toEqual(REFUSED.noPath);
  });

  it.each(['/v1/rooms/x/y/z', '/v1/rooms/{room}/things', '/v1/rooms/{room}/recordings/1', '/services/a/b'])('GET %s is none', async (path) => {
    expect((await api.get(path.replace('{room}', room))).status).toBeGreaterThanOrEqual(404);
    expect((await api.get(path.replace('{room}', room))).status).toBeLessThanOrEqual(405);
  });

  it.each(['%00', '%2e%2e', 'a%2Fb', 'é', '%ff', 'x'.repeat(300), "';--"])('a room %s is none', async (id) => {
    const reply = await api.get(`/v1/rooms/${encodeURI(decodeSafely(id))}`);
    expect([404, 500]).toContain(reply.status);
    expect(reply.json.error.code).toBeGreaterThan(1000);
  });
});

function decodeSafely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

describe('browsers of other origins', () => {
  it.each(['/v1/rooms', '/services', '/nowhere'])('may ask whether they may: OPTIONS %s', async (path) => {
    const reply = await api.call('OPTIONS', path, { authorization: null });
    expect(reply).toMatchObject({ status: 200, text: 'OK' });
    expect(reply.headers['access-control-allow-origin']).toBe('*');
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) expect(reply.headers['access-control-allow-methods']).toContain(method);
    for (const header of ['authorization', 'content-type']) expect(reply.headers['access-control-allow-headers']).toContain(header);
  });

  it('may read every answer', async () => {
    for (const reply of [await api.get('/v1/rooms'), await api.get('/v1/rooms', { authorization: null }), await api.get('/nowhere')]) {
      expect(reply.headers).toMatchObject({ 'access-control-allow-origin': '*', 'x-content-type-options': 'nosniff' });
    }
  });
});

describe('bodies', () => {
  it.each(['{', '{"name":', 'name=x', '"x"', '1', 'null', '\u0000', '[1,', '{"name":"x"}}'])('%j is no JSON body', async (text) => {
    expect(await api.post('/v1/rooms', undefined, { raw: [text, 'application/json'] })).toEqual(refusal(400, 1201, 'Failed to parse JSON body'));
  });

  it('JSON may say its charset', async () => {
    const reply = await api.post('/v1/rooms', undefined, { raw: ['{"name":"会議"}', 'application/json; charset=utf-8'] });
    expect(reply).toMatchObject({ status: 200, json: { name: '会議' } });
  });

  it('forms are understood', async () => {
    expect(await api.post('/v1/rooms', undefined, { raw: ['name=a+form', 'application/x-www-form-urlencoded'] })).toMatchObject({ status: 200, json: { name: 'a form' } });
    const token = ['user=Aiko&role=presenter&preference[isp]=isp&preference[region]=region', 'application/x-www-form-urlencoded'] as [string, string];
    expect((await api.post(`/v1/rooms/${room}/tokens`, undefined, { raw: token })).status).toBe(200);
  });

  it('other types count as empty', async () => {
    for (const type of ['text/plain;charset=UTF-8', 'application/octet-stream']) {
      expect(await api.post('/v1/rooms', undefined, { raw: ['{"name":"x"}', type] }), type).toEqual(refusal(400, 1201, 'Invalid request body'));
      expect((await api.get('/v1/rooms', { raw: ['', type] })).status).toBe(200);
    }
  });

  it('of more than 100 kB are refused, just below that read', async () => {
    const body = (size: number): object => ({ name: 'x', options: { unknown: 'a'.repeat(size) } });
    expect(await api.post('/v1/rooms', body(100 * 1024))).toEqual(refusal(413, 1201));
    expect((await api.post('/v1/rooms', body(100 * 1024 - 100))).status).toBe(200);
  });

  it('nested as deep as can be are refused, not fallen over', async () => {
    const deep = '['.repeat(50_000);
    expect(await api.post('/v1/rooms', undefined, { raw: [deep, 'application/json'] })).toEqual(refusal(400, 1201));
    const closed = `{"name":"x","options":{"sip":${'['.repeat(20_000)}${']'.repeat(20_000)}}}`;
    expect(await api.post('/v1/rooms', undefined, { raw: [closed, 'application/json'] })).toEqual(refusal(400, 1201));
  });
});

it('answers HEAD as GET, without the content', async () => {
  const head = await api.call('HEAD', '/v1/rooms');
  expect(head.text).toBe('');
  expect([200, 404, 405]).toContain(head.status);
});

it('is not on the port of the pages, nor are they on its', async () => {
  expect((await request(`${kaigi.url}/v1/rooms`)).status).toBe(404);
  expect((await request(`${kaigi.managementUrl}/socket.io/?EIO=4&transport=polling`)).status).toBe(404);
});
