import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { Signaling, decodeToken, encodeToken } from '../harness/signaling';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'tokens' });
  browser = await Chromium.launch('tokens');
  room = await kaigi.rest.createRoom('tokens', { autoMix: true });
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

/** Tries a token and expects to be refused and shut out; the text of the refusal. */
async function refusal(token: unknown): Promise<string> {
  const client = await Signaling.connect(kaigi.url);
  try {
    const ack = await client.tryLogin(token);
    expect(ack).toEqual({ status: 'error', data: expect.any(String) });
    await until('the server hangs up', () => client.disconnected);
    return ack.data as string;
  } finally {
    client.close();
  }
}

it('lets a token in once', async () => {
  const token = await kaigi.rest.token(room, 'Aiko');
  const client = await Signaling.connect(kaigi.url);
  await client.login(token);
  await client.request('logout');
  client.close();

  expect(await refusal(token)).toMatch(/\S/);
});

it('refuses a token of which anything was altered', async () => {
  const token = decodeToken(await kaigi.rest.token(room, 'Aiko'));
  const others = {
    'another id': { ...token, tokenId: randomBytes(12).toString('hex') },
    'another host': { ...token, host: 'elsewhere.test:8080' },
    'another signature': { ...token, signature: Buffer.from(randomBytes(32).toString('hex')).toString('base64') },
    'no signature': { ...token, signature: '' },
  };
  for (const [what, altered] of Object.entries(others)) {
    expect(await refusal(encodeToken(altered)), what).toBe('Invalid token signature');
  }

  const client = await Signaling.connect(kaigi.url);
  await client.login(encodeToken(token));
  await client.request('logout');
  client.close();
});

it('refuses what is no token', async () => {
  for (const nonsense of ['', 'not base64!', Buffer.from('[1]').toString('base64'), Buffer.from('{"a":').toString('base64'), 'é', 42, {}, null]) {
    expect(await refusal(nonsense), JSON.stringify(nonsense)).toMatch(/\S/);
  }
});

it('refuses tokens for roles that the room does not have', async () => {
  const answer = await kaigi.rest.call('POST', `/v1/rooms/${room}/tokens`, { user: 'Aiko', role: 'emperor' });
  expect(answer.status).toBe(400);
  expect(JSON.parse(answer.text)).toEqual({ error: { code: 1201, message: 'Name or role not valid' } });
});

it('refuses what a role may not do, and the participant can go on with what it may', async () => {
  const presenter = await browser.open(kaigi, 'presenter');
  await presenter.join(await kaigi.rest.token(room, 'Aiko'));
  await presenter.publish(RED);

  const viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Botan', 'viewer'));
  await expect(viewer.publish(RED)).rejects.toThrow('unauthorized');

  const mixed = await viewer.subscribe(await viewer.mixedStream());
  await until('the mixed picture moves', async () => (await viewer.frames(mixed)) > 10);
});
