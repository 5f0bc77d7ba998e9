import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Api, REFUSED, refusal } from '../../harness/api';
import { DIALECTS } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import { ROUTES, fill } from '../../harness/routes';

// What is part of the API, but not served: requests of the right form are told so, others what is wrong with them.

let kaigi: Kaigi;
let api: Api;
/** Of these rooms one is running. */
let running: string;
let idle: string;
let member: Member;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-unserved' });
  api = new Api(kaigi.managementUrl, kaigi.service);
  [running, idle] = [await api.room(), await api.room()];
  member = await enter(kaigi, running, DIALECTS[0]![1]);
});
afterAll(async () => {
  await member?.client.leave();
  await kaigi?.stop();
});

const notAvailable = (what: string): object => refusal(500, 1301, `The service ${what} is not available`);
const BAD = refusal(400, 1201, 'Bad request');

const AUDIO = { from: 'RUNNING-common' };
const MEDIA = { audio: AUDIO, video: false };
const OUT = { protocol: 'dash', url: 'http://127.0.0.1:9/x', media: MEDIA };
const CALL = { peerURI: 'a@b', mediaIn: { audio: true, video: false }, mediaOut: { audio: AUDIO, video: false } };

/** Requests of the right form, and others; with what the others are answered; and what those of the right form are told is not there. */
const RESOURCES: [what: string, right: object[], wrong: unknown[], answer: object, missing: string | undefined][] = [
  [
    'streaming-outs',
    [OUT],
    [{}, { ...OUT, media: {} }, { ...OUT, media: { audio: {}, video: false } }, { ...OUT, protocol: 'carrier pigeon' }, { ...OUT, url: undefined }, { ...OUT, media: { ...MEDIA, audio: { from: 'x', format: { codec: 'mp3' } } } }],
    BAD,
    undefined,
  ],
  [
    'recordings',
    [{ container: 'ts', media: MEDIA }, { container: 'ts', media: { audio: false, video: { from: 'x', format: { codec: 'h264', profile: 'CB' } } } }],
    [undefined, {}, { container: 'avi', media: MEDIA }, { media: { audio: AUDIO } }, { media: { audio: true, video: false } }],
    BAD,
    'recordings in MPEG-TS',
  ],
  ['sipcalls', [CALL], [{}, { ...CALL, peerURI: 7 }, { ...CALL, mediaIn: { audio: false, video: false } }, { ...CALL, mediaOut: { audio: false, video: false } }], BAD, 'sipcalls'],
];

describe.each(['/v1', '/v1.1'])('%s', (version) => {
  const of = (room: string): string => `${version}/rooms/${room}`;

  describe.each(RESOURCES)('%s', (what, right, wrong, answer, missing) => {
    it.each(missing === undefined ? [] : right)('of the right form: %j', async (body) => {
      for (const room of [running, idle]) expect(await api.post(`${of(room)}/${what}`, body)).toEqual(notAvailable(missing ?? ''));
    });

    it.each(wrong.map((body) => [body]))('of another form: %j', async (body) => {
      expect(await api.post(`${of(running)}/${what}`, body)).toEqual(answer);
    });

    it('of a room that is not there', async () => {
      expect(await api.post(`${of('f'.repeat(24))}/${what}`, right[0])).toEqual(REFUSED.noRoom);
    });
  });

  it.each(['streaming-outs', 'recordings', 'analytics', 'sipcalls'])('lists of %s are empty', async (what) => {
    for (const room of [running, idle]) expect(await api.get(`${of(room)}/${what}`)).toMatchObject({ status: 200, json: [] });
    expect(await api.get(`${of(running)}/${what}/1`)).toEqual(refusal(expect.toSatisfy((status: number) => status === 404 || status === 405) as number, 1001));
  });

  it.each(['streaming-outs', 'recordings', 'analytics', 'sipcalls'])('of %s none is changed or ended', async (what) => {
    const prefix = what === 'sipcalls' ? '/output' : '';
    const change = [{ op: 'replace', path: `${prefix}/media/audio/from`, value: 'x' }];
    if (what !== 'analytics') {
      expect(await api.patch(`${of(running)}/${what}/1`, change)).toEqual(REFUSED.failed);
      for (const none of [{}, [{ op: 'add', path: '/x', value: 1 }], [{ ...change[0], path: '/url' }]]) expect(await api.patch(`${of(running)}/${what}/1`, none), JSON.stringify(none)).toEqual(REFUSED.failed);
    }
    expect(await api.delete(`${of(running)}/${what}/1`)).toEqual(REFUSED.failed);
  });

  it('a streaming-in is ended as any stream, and there is none', async () => {
    const reply = await api.delete(`${of(running)}/streaming-ins/${'f'.repeat(32)}`);
    expect([REFUSED.failed, REFUSED.noStream]).toContainEqual(reply);
  });

  it('cascading', async () => {
    const options = { evIP: '127.0.0.1', evPort: 9, room: 'a', token: 'b' };
    expect(await api.post(`${of(running)}/cascading`, { options })).toEqual(notAvailable('cascading'));
    expect(await api.call('GET', `${of(running)}/bridges`, { body: { targetCluster: 'x' } })).toEqual(REFUSED.failed);
  });
});

it.each(ROUTES.filter(({ path }) => path.includes('/stream-engine/')).map(({ method, path, body }) => [method, path, body] as const))('%s %s', async (method, path, body) => {
  expect(await api.call(method, fill(path), { body })).toEqual(notAvailable('stream-engine'));
});
