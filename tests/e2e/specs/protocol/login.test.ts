import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIALECTS, type Dialect } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { enter } from '../../harness/member';
import { type Ack, Signaling, USER_AGENT, decodeToken, encodeToken } from '../../harness/signaling';
import { until } from '../../harness/until';

let kaigi: Kaigi;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'protocol-login' });
  room = await kaigi.rest.createRoom('login', { views: [{ label: 'common' }, { label: 'second' }] });
});
afterAll(() => kaigi?.stop());

describe.each(DIALECTS)('%s', (_, dialect) => {
  it('is given the room as it stands', async () => {
    const earlier = await enter(kaigi, room, dialect, 'viewer', 'Aiko');
    const { client, id, reply } = await enter(kaigi, room, dialect, 'audio_only_presenter', 'Botan');
    try {
      expect(reply).toMatchObject({
        user: 'Botan',
        role: 'audio_only_presenter',
        permission: { publish: { audio: true, video: false }, subscribe: { audio: true, video: false } },
      });
      expect(reply.room).toMatchObject({ id: room, views: ['common', 'second'] });
      expect(reply.room.participants).toEqual(
        expect.arrayContaining([
          { id: earlier.id, user: 'Aiko', role: 'viewer' },
          { id, user: 'Botan', role: 'audio_only_presenter' },
        ]),
      );
      expect(reply.room.streams.map((stream) => stream.id).sort()).toEqual([`${room}-common`, `${room}-second`]);
      for (const stream of reply.room.streams) expectMixed(stream, dialect);
    } finally {
      await client.leave();
      await earlier.client.leave();
    }
  });

  it('is told nothing before it has logged in', async () => {
    const witness = await enter(kaigi, room, dialect);
    const client = await Signaling.connect(kaigi.url, dialect.connect);
    const passing = await enter(kaigi, room, dialect);
    await passing.client.leave();
    await witness.client.told('participant', { action: 'leave', data: passing.id });
    expect(client.notifications).toEqual([]);
    client.close();
    await witness.client.leave();
  });

  it('can not log in twice on one connection, which goes on', async () => {
    const { client } = await enter(kaigi, room, dialect);
    const again = await client.tryLogin(await kaigi.rest.token(room, 'again'), dialect.login);
    expect(again).toEqual({ status: 'error', data: 'Connection is in service' });
    expect(await client.request('relogin', 'any')).toEqual({ status: 'error', data: 'Connection is in service' });
    expect(await client.request('text', { to: 'all', message: 'still here' })).toEqual({ status: 'ok', data: undefined });
    await client.leave();
  });

  const REFUSED: [string, object, string | RegExp][] = [
    ['a protocol that nobody speaks', { protocol: '7.0' }, 'Unknown client protocol'],
    ['no protocol', { protocol: undefined }, 'Unknown client protocol'],
    ['a version that is too old', { userAgent: { sdk: { type: 'JavaScript', version: '3.5' } } }, 'Deprecated client version'],
    ['no user agent', { userAgent: undefined }, 'User agent info is incorrect'],
    ['a user agent without SDK', { userAgent: {} }, 'User agent info is incorrect'],
    ['an SDK without type', { userAgent: { sdk: { version: '5.1' } } }, 'User agent info is incorrect'],
    ['an SDK without version', { userAgent: { sdk: { type: 'JavaScript' } } }, 'User agent info is incorrect'],
    ['a token that is no text', { token: 7 }, /\S/],
    ['a token that is no base64', { token: '***' }, /\S/],
    ['a token that is no JSON', { token: Buffer.from('{"tokenId":').toString('base64') }, /\S/],
  ];
  it.each(REFUSED)('is refused and put out with %s', async (_, change, text) => {
    const token = await kaigi.rest.token(room, 'Aiko');
    const client = await Signaling.connect(kaigi.url, dialect.connect);
    const ack = await client.request('login', { token, userAgent: USER_AGENT, protocol: dialect.protocol, ...change });
    await expectPutOut(client, ack, text);
  });

  it('is refused and put out with a token whose signature is another', async () => {
    const token = decodeToken(await kaigi.rest.token(room, 'Aiko'));
    const client = await Signaling.connect(kaigi.url, dialect.connect);
    const signature = Buffer.from('0'.repeat(64)).toString('base64');
    await expectPutOut(client, await client.tryLogin(encodeToken({ ...token, signature }), dialect.login), 'Invalid token signature');
  });

  it('is refused and put out with a token that was used', async () => {
    const token = await kaigi.rest.token(room, 'Aiko');
    const first = await Signaling.connect(kaigi.url, dialect.connect);
    await first.login(token, dialect.login);
    await first.leave();
    const second = await Signaling.connect(kaigi.url, dialect.connect);
    await expectPutOut(second, await second.tryLogin(token, dialect.login), /\S/);
  });

  it.each(['logout', 'refreshReconnectionTicket', 'publish', 'subscribe', 'unpublish', 'unsubscribe', 'stream-control', 'subscription-control', 'soac', 'text'])(
    'is refused %s before it has logged in',
    async (name) => {
      const client = await Signaling.connect(kaigi.url, dialect.connect);
      expect(await client.request(name, {})).toEqual({ status: 'error', data: 'Illegal request' });
      client.close();
    },
  );
});

describe('a user agent', () => {
  it.each([
    ['JavaScript', '5.1', true],
    ['Android', 5.0, true],
    ['C++', '5.0', true],
    ['Objective-C', '5.0', true],
    ['Kaigi', '1.0', true],
    ['Something', '1', false],
  ])('of SDK type %s, version %j, is given a ticket: %s', async (type, version, expected) => {
    const client = await Signaling.connect(kaigi.url);
    const userAgent = { sdk: { type, version }, runtime: { name: 'any' }, os: { name: 'any', version: 1 } };
    const reply = await client.login(await kaigi.rest.token(room, 'Aiko'), { userAgent });
    expect(typeof reply.reconnectionTicket).toBe(expected ? 'string' : 'undefined');
    await client.leave();
  });
});

async function expectPutOut(client: Signaling, ack: Ack, text: string | RegExp): Promise<void> {
  expect(ack).toEqual({ status: 'error', data: typeof text === 'string' ? text : expect.stringMatching(text) });
  await until('the server hangs up', () => client.disconnected);
  expect(client.heard('drop')).toEqual([]);
  client.close();
}

/** A mixed stream has no tracks of its own; SDKs read all four lists of what it offers. */
function expectMixed(stream: object, { protocol }: Dialect): void {
  const lists = { resolution: expect.any(Array), framerate: expect.any(Array), bitrate: expect.any(Array), keyFrameInterval: expect.any(Array) };
  const audio = { status: 'active', format: { codec: 'opus', sampleRate: 48_000, channelNum: 2 } };
  const video = { status: 'active', optional: { parameters: lists } };
  const original = { format: { codec: expect.any(String) }, parameters: { resolution: { width: expect.any(Number), height: expect.any(Number) } } };
  const media = {
    '1.0': { audio, video: { ...video, ...original } },
    '1.1': { audio, video: { ...video, original: [original] } },
    '1.2': { tracks: [{ type: 'audio', ...audio }, { type: 'video', ...video, ...original }] },
  }[protocol];
  expect(stream).toMatchObject({ type: 'mixed', media, data: null, info: { label: expect.any(String), activeInput: 'unknown', layout: expect.any(Array) } });
}
