import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHmac } from 'node:crypto';
import { Api, bearer, refusal } from '../../harness/api';
import { Kaigi } from '../../harness/kaigi';
import type { Credentials } from '../../harness/rest';
import { Signaling, decodeToken } from '../../harness/signaling';

let kaigi: Kaigi;
let api: Api;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-tokens' });
  api = new Api(kaigi.managementUrl, kaigi.service);
  room = await api.room();
});
afterAll(() => kaigi?.stop());

/** A signature that says for whom the token is. */
function mauthFor({ id, key }: Credentials, user: string, role: string): string {
  const [time, nonce, name] = [String(Date.now()), String(Math.random()), Buffer.from(user).toString('base64')];
  const signature = Buffer.from(createHmac('sha256', key).update([time, nonce, name, role].join(',')).digest('hex')).toString('base64');
  return `MAuth realm=x,mauth_signature_method=HMAC_SHA256,mauth_username=${name},mauth_role=${role},mauth_serviceid=${id},mauth_cnonce=${nonce},mauth_timestamp=${time},mauth_signature=${signature}`;
}

async function loggedInBy(token: string): Promise<{ user: unknown; role: string }> {
  const client = await Signaling.connect(kaigi.url);
  const { user, role } = await client.login(token);
  await client.leave();
  return { user, role };
}

describe.each(['/v1', '/v1.1'])('%s', (version) => {
  const path = (): string => `${version}/rooms/${room}/tokens`;

  it('is plain text, and lets in the user in the role', async () => {
    const reply = await api.post(path(), { user: 'Aiko', role: 'viewer', preference: { isp: 'isp', region: 'region' } });
    expect(reply.status).toBe(200);
    expect(reply.headers['content-type']).toMatch(/^text\/(html|plain); *charset=utf-8$/i);
    expect(decodeToken(reply.text)).toEqual({ tokenId: expect.stringMatching(/^[0-9a-f]{24}$/), host: `127.0.0.1:${kaigi.ports.http}`, secure: false, signature: expect.any(String) });
    expect(await loggedInBy(reply.text)).toEqual({ user: 'Aiko', role: 'viewer' });
  });

  it('the header says for whom, before the body does', async () => {
    const { text } = await api.post(path(), { user: 'Botan', role: 'presenter' }, { authorization: mauthFor(kaigi.service, 'Aiko', 'viewer') });
    expect(await loggedInBy(text)).toEqual({ user: 'Aiko', role: 'viewer' });
  });

  it.each<[unknown]>([[7], [{ name: 'x' }], [['a']], [true]])('a user may be %j', async (user) => {
    expect(await loggedInBy((await api.post(path(), { user, role: 'presenter' })).text)).toEqual({ user, role: 'presenter' });
  });

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['no user', { role: 'presenter' }],
    ['an empty user', { user: '', role: 'presenter' }],
    ['null for a user', { user: null, role: 'presenter' }],
    ['a user that is too long', { user: 'x'.repeat(5000), role: 'presenter' }],
    ['no role', { user: 'Aiko' }],
    ['a role that the room does not have', { user: 'Aiko', role: 'emperor' }],
    ['a role that is no text', { user: 'Aiko', role: 1 }],
  ])('is refused to %s', async (_, body) => {
    expect(await api.post(path(), body)).toEqual(refusal(400, 1201, 'Name or role not valid'));
  });

  it('a preference that makes no sense does not keep anybody out', async () => {
    for (const preference of [null, 7, 'x', {}, { isp: 7 }, { region: 'x'.repeat(1000) }]) {
      expect((await api.post(path(), { user: 'Aiko', role: 'presenter', preference })).status, JSON.stringify(preference)).toBe(200);
    }
  });

  it('a hundred at the same time are a hundred different ones', async () => {
    const authorization = bearer(kaigi.service);
    const replies = await Promise.all(Array.from({ length: 100 }, () => api.post(path(), { user: 'Aiko', role: 'presenter' }, { authorization })));
    expect(replies.every(({ status }) => status === 200)).toBe(true);
    expect(new Set(replies.map(({ text }) => decodeToken(text).tokenId)).size).toBe(100);
  });
});
