import { createHash } from 'node:crypto';
import net from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Answer, request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import type { Process } from '../harness/processes';
import { mauth } from '../harness/rest';
import { Signaling, USER_AGENT } from '../harness/signaling';
import { until } from '../harness/until';

let kaigi: Kaigi;
let room: string;
let processes: Process[];

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'hostile' });
  room = await kaigi.rest.createRoom('hostile');
  processes = kaigi.children();
  expect(processes).toHaveLength(6);
});
afterAll(() => kaigi?.stop());

// Whatever is thrown at it: the same processes go on, and honest people can still come in.
afterEach(async () => {
  const honest = await Signaling.connect(kaigi.url);
  const reply = await honest.login(await kaigi.rest.token(room, 'Honest'));
  expect(reply.room.id).toBe(room);
  await honest.request('logout');
  honest.close();
  expect(kaigi.children()).toEqual(processes);
});

const DEEP = JSON.stringify(Array.from({ length: 2000 }).reduce<unknown>((inner) => [inner], 0));

describe('Engine.IO', () => {
  const PACKETS: [string, string][] = [
    ['nothing', ''],
    ['an unknown packet type', '9'],
    ['an event before the namespace is connected', '42["login",{}]'],
    ['an unfinished event', '42["login",{"token":'],
    ['an event without a name', '420[]'],
    ['an event whose name is no string', '420[{"a":1}]'],
    ['an absurd acknowledgement id', '4299999999999999999999999["login",{}]'],
    ['a binary event without its attachments', '4599-["login",{"_placeholder":true,"num":99}]'],
    ['an acknowledgement that nobody asked for', '4312345["ok"]'],
    ['another namespace', '40/admin,'],
    ['deep nesting', `420["login",${DEEP}]`],
    ['text that is not Unicode', '42\u0000\uFFFF["\\ud800"]'],
    ['a megabyte and more', `420["login","${'x'.repeat(1_200_000)}"]`],
  ];

  it.each(PACKETS)('takes %s by polling', async (_, packet) => {
    const poll = `${kaigi.url}/socket.io/?EIO=4&transport=polling`;
    const open = await request(poll);
    const sid = (JSON.parse(open.text.slice(1)) as { sid: string }).sid;
    const headers = { 'content-type': 'text/plain;charset=UTF-8', 'content-length': String(Buffer.byteLength(packet)) };
    // A server that sees too large a body may close the connection while it is still written.
    const answer = await request(`${poll}&sid=${sid}`, { method: 'POST', headers, body: packet }).catch((error: Error) => error);
    if (!(answer instanceof Error)) expect([200, 400, 404, 413]).toContain(answer.status);
  });

  it.each([
    'EIO=4&transport=carrier-pigeon',
    'EIO=99&transport=polling',
    'transport=polling',
    'EIO=4&transport=polling&sid=nobody',
    'EIO=4&transport=websocket',
    'EIO=%00&transport=%ff',
  ])('refuses a handshake with %s', async (query) => {
    const answer = await request(`${kaigi.url}/socket.io/?${query}`);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
  });

  it('takes WebSocket frames that break the rules of WebSocket', async () => {
    const frames = [
      Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
      // A text frame that claims to be 2^63 - 1 bytes long.
      Buffer.from([0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
      // A masked text frame of invalid UTF-8.
      Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28]),
      // A masked binary frame.
      Buffer.from([0x82, 0x83, 0, 0, 0, 0, 1, 2, 3]),
    ];
    for (const frame of frames) expect(await webSocketWith(frame)).toBe('closed');
  });

  /** Opens a WebSocket by hand, writes the bytes, and tells what the server then does. */
  function webSocketWith(bytes: Buffer): Promise<'closed'> {
    const key = createHash('md5').update(bytes).digest('base64');
    return new Promise((resolve, reject) => {
      const socket = net.connect(kaigi.ports.http, '127.0.0.1');
      const timer = setTimeout(() => {
        // It may also wait for more: then it is us who go.
        socket.destroy();
        resolve('closed');
      }, 500);
      socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? resolve('closed') : reject(error)));
      socket.on('close', () => {
        clearTimeout(timer);
        resolve('closed');
      });
      socket.once('data', () => socket.write(bytes));
      socket.write(
        `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
          `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
      );
    });
  }
});

describe('login', () => {
  const LOGINS: [string, unknown[]][] = [
    ['nothing', []],
    ['null', [null]],
    ['a number', [42]],
    ['an array', [[1, 2, 3]]],
    ['no token', [{ userAgent: USER_AGENT, protocol: '1.2' }]],
    ['no user agent', [{ token: 'x', protocol: '1.2' }]],
    ['half a user agent', [{ token: 'x', userAgent: { sdk: {} }, protocol: '1.2' }]],
    ['an unknown protocol', [{ token: 'x', userAgent: USER_AGENT, protocol: '7.3' }]],
    ['no protocol', [{ token: 'x', userAgent: USER_AGENT }]],
    ['a protocol that is an object', [{ token: 'x', userAgent: USER_AGENT, protocol: {} }]],
  ];
  it.each(LOGINS)('answers %s with an error', async (_, data) => {
    const client = await Signaling.connect(kaigi.url);
    expect(await client.request('login', ...data)).toEqual({ status: 'error', data: expect.any(String) });
    client.close();
  });

  it.each([[null], [42], ['AAAA'], [{}], [Buffer.from('{"participantId":"x"}').toString('base64')]])(
    'answers the reconnection ticket %j with an error',
    async (ticket) => {
      const client = await Signaling.connect(kaigi.url);
      expect(await client.request('relogin', ticket)).toEqual({ status: 'error', data: expect.any(String) });
      client.close();
    },
  );

  it('is needed before anything else', async () => {
    const client = await Signaling.connect(kaigi.url);
    for (const name of ['publish', 'subscribe', 'unpublish', 'unsubscribe', 'stream-control', 'subscription-control', 'soac', 'text']) {
      expect(await client.request(name, {}), name).toEqual({ status: 'error', data: 'Illegal request' });
    }
    client.close();
  });
});

describe('a participant', () => {
  let client: Signaling;

  beforeEach(async () => {
    client = await Signaling.connect(kaigi.url);
    await client.login(await kaigi.rest.token(room, 'Mallory'));
  });
  afterEach(() => client.close());

  const REQUESTS: [string, unknown[]][] = [
    ['publish', []],
    ['publish', [null]],
    ['publish', [{ media: 7 }]],
    ['publish', [{ media: { tracks: [{ type: 'smell', mid: '0' }] }, transport: { type: 'webrtc' } }]],
    ['publish', [{ media: { tracks: [{ type: 'audio', mid: 0 }] }, transport: { type: 'webrtc' } }]],
    ['publish', [{ media: { tracks: [{ type: 'audio', mid: '0', source: 'dream' }] }, transport: { type: 'webrtc' } }]],
    ['publish', [{ media: { tracks: [] }, attributes: null }]],
    ['publish', [{ media: { tracks: [{ type: 'audio', mid: '0' }] }, transport: { type: 'webrtc', id: 'of-nobody' } }]],
    ['subscribe', [{ media: { tracks: [{ type: 'video', mid: '0', from: 'nowhere' }] }, transport: { type: 'webrtc' } }]],
    ['subscribe', [{ media: { tracks: [{ type: 'video', mid: '0' }] } }]],
    ['subscribe', [{ media: { tracks: [{ type: 'video', mid: '0', from: 'x', parameters: { resolution: { width: -1 } } }] } }]],
    ['unpublish', [{ id: '../../etc/passwd' }]],
    ['unpublish', ['nothing']],
    ['unsubscribe', [{ id: 'nothing' }]],
    ['stream-control', [{ id: 'x', operation: 'explode', data: 'av' }]],
    ['stream-control', [{ id: 'x', operation: 'pause', data: 'av' }]],
    ['subscription-control', [{ id: 'x', operation: 'update', data: { video: { parameters: { framerate: 'fast' } } } }]],
    ['soac', [{ id: 5, signaling: { type: 'offer', sdp: '' } }]],
    ['soac', [{ id: 'x', signaling: null }]],
    ['soac', [{ id: 'x', signaling: { type: 'spell' } }]],
    ['soac', [{ id: 'x', signaling: { type: 'offer', sdp: 'v=0' } }]],
    ['text', [{ to: '', message: 'x' }]],
    ['text', [{ to: 'nobody', message: 'x' }]],
    ['text', ['x']],
    ['login', [{}]],
  ];
  it.each(REQUESTS)('is answered an error to %s %j', async (name, data) => {
    expect(await client.request(name, ...data)).toEqual({ status: 'error', data: expect.any(String) });
  });

  const AUDIO_OFFER = [
    'v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 't=0 0', 'a=group:BUNDLE 0',
    'm=audio 9 UDP/TLS/RTP/SAVPF 111', 'c=IN IP4 0.0.0.0', 'a=mid:0', 'a=sendonly', 'a=rtcp-mux',
    'a=ice-ufrag:abcd', 'a=ice-pwd:0123456789012345678901', 'a=setup:actpass',
    `a=fingerprint:sha-256 ${Array.from({ length: 32 }, () => 'AB').join(':')}`, 'a=rtpmap:111 opus/48000/2', '',
  ].join('\r\n'); // prettier-ignore

  const SDPS: [string, unknown][] = [
    ['empty', ''],
    ['a number', 7],
    ['an object', { sdp: 'v=0' }],
    ['not SDP', 'GET / HTTP/1.1\r\n\r\n'],
    ['only a version', 'v=0\r\n'],
    ['without media', 'v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n'],
    ['control characters', `v=0\r\no=- ${'\u0000\u0007'.repeat(50)}\r\n`],
    ['one endless line', `v=0\r\na=${'x'.repeat(200_000)}\r\n`],
    ['without ICE', AUDIO_OFFER.replace(/a=ice-.*\r\n/g, '')],
    ['without a fingerprint', AUDIO_OFFER.replace(/a=fingerprint.*\r\n/, '')],
    ['a fingerprint that is none', AUDIO_OFFER.replace(/sha-256 .*\r\n/, 'sha-256 zz:zz\r\n')],
    ['payload numbers out of range', AUDIO_OFFER.replaceAll('111', '99999999999')],
    ['no codec that is known', AUDIO_OFFER.replace('opus/48000/2', 'yodel/1/1')],
    ['another mid than was announced', AUDIO_OFFER.replace('a=mid:0', 'a=mid:7').replace('BUNDLE 0', 'BUNDLE 7')],
    ['a thousand m-lines', AUDIO_OFFER + AUDIO_OFFER.slice(AUDIO_OFFER.indexOf('m=')).repeat(1000)],
  ];
  it.each(SDPS)('is told of an error, or answered, when its offer is %s', async (_, sdp) => {
    const tracks = [{ type: 'audio', mid: '0', source: 'mic' }];
    const publish = await client.request('publish', { media: { tracks }, transport: { type: 'webrtc' } });
    expect(publish.status).toBe('ok');
    const { id, transportId } = publish.data as { id: string; transportId: string };
    expect(transportId).toBe(id);

    const ack = await client.request('soac', { id: transportId, signaling: { type: 'offer', sdp } });
    if (ack.status !== 'error') {
      await until('there is an answer or an error', () => client.notifications.some(({ event }) => event === 'progress'));
    } else {
      expect(ack.data).toEqual(expect.any(String));
    }
    expect(await client.request('unpublish', { id })).toMatchObject({ status: expect.stringMatching(/ok|error/) });
  });

  const CANDIDATES: [string, string][] = [
    ['nothing', ''],
    ['only a prefix', 'a='],
    ['no fields', 'candidate:'],
    ['too few fields', 'a=candidate:1 1 udp'],
    ['wrong fields', 'a=candidate:1 1 udp x 999.1.1.1 99999 typ host'],
    ['a control character', '\u0000'],
    ['ten thousand characters', 'x'.repeat(10_000)],
  ];
  it.each(CANDIDATES)('may send a candidate that is %s', async (_, candidate) => {
    const tracks = [{ type: 'audio', mid: '0', source: 'mic' }];
    const publish = await client.request('publish', { media: { tracks }, transport: { type: 'webrtc' } });
    const { id } = publish.data as { id: string };
    const signaling = { type: 'candidate', candidate: { candidate, sdpMid: '0', sdpMLineIndex: 0 } };
    expect((await client.request('soac', { id, signaling })).status).toMatch(/ok|error/);
  });
});

describe('REST', () => {
  const error = (answer: Answer): { code: number; message: string } =>
    (JSON.parse(answer.text) as { error: { code: number; message: string } }).error;

  it('turns away who has no signature or a wrong one', async () => {
    const url = `${kaigi.managementUrl}/v1/rooms`;
    const { id, key } = kaigi.service;
    const headers = [
      undefined,
      '',
      'MAuth',
      'Basic YTpi',
      `MAuth ${'mauth_'.repeat(1000)}`,
      mauth({ id, key: `${key}x` }),
      mauth({ id: '0'.repeat(24), key }),
      mauth({ id: '../services', key }),
      mauth({ id, key }).replace('HMAC_SHA256', 'PLAIN'),
    ];
    for (const header of headers) {
      const answer = await request(url, { headers: header === undefined ? {} : { authorization: header } });
      expect(answer.status, String(header).slice(0, 80)).toBe(401);
      expect(error(answer).code).toBe(1101);
    }
  });

  it('answers what it does not know with 404', async () => {
    for (const path of ['/v1/rooms/000000000000000000000000', '/v1/nothing', '/', `/v1/rooms/${room}/nothing`]) {
      const answer = await kaigi.rest.call('GET', path);
      expect(answer.status, path).toBe(404);
      expect(error(answer).code, path).toBeGreaterThanOrEqual(1001);
    }
  });

  const COMMON = '/v1/rooms/ROOM/streams/ROOM-common';
  const BODIES: [string, string, string, string][] = [
    ['unfinished JSON', 'POST', '/v1/rooms', '{"name":'],
    ['an array', 'POST', '/v1/rooms', '[]'],
    ['a string', 'POST', '/v1/rooms', '"name"'],
    ['an empty name', 'POST', '/v1/rooms', '{"name":""}'],
    ['a name that is an object', 'POST', '/v1/rooms', '{"name":{"$gt":""}}'],
    ['options that are a number', 'POST', '/v1/rooms', '{"name":"x","options":7}'],
    [
      'an impossible resolution',
      'POST',
      '/v1/rooms',
      '{"name":"x","options":{"views":[{"video":{"parameters":{"resolution":{"width":-4,"height":1e99}}}}]}}',
    ],
    ['deep nesting', 'POST', '/v1/rooms', `{"name":${DEEP}}`],
    ['two megabytes', 'POST', '/v1/rooms', `{"name":"${'x'.repeat(2_000_000)}"}`],
    ['views that are a string', 'PUT', '/v1/rooms/ROOM', '{"views":"none"}'],
    ['nobody', 'POST', '/v1/rooms/ROOM/tokens', '{}'],
    ['a role that is a list', 'POST', '/v1/rooms/ROOM/tokens', '{"user":"x","role":["presenter"]}'],
    ['a patch that is no list', 'PATCH', COMMON, '{"op":"replace"}'],
    ['an unknown filter', 'PATCH', COMMON, '[{"op":"replace","path":"/info/filter","value":"sepia"}]'],
    ['an id that is a path', 'PATCH', '/v1/rooms/ROOM/streams/%2e%2e%2f', '[]'],
    ['an unknown participant', 'DELETE', '/v1/rooms/ROOM/participants/nobody', ''],
  ];
  it.each(BODIES)('answers %s (%s %s) with an error', async (_, method, path, body) => {
    const headers = {
      authorization: mauth(kaigi.service),
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
    };
    const url = kaigi.managementUrl + path.replaceAll('ROOM', room);
    const answer = await request(url, { method, headers, body }).catch((failure: Error) => failure);
    // Too large a body may be cut off while it is written.
    if (answer instanceof Error) {
      expect(body.length).toBeGreaterThan(1_000_000);
    } else {
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(error(answer).message).toEqual(expect.any(String));
    }
  });

  it('hangs up on what is not HTTP', async () => {
    for (const port of [kaigi.ports.http, kaigi.ports.management, kaigi.ports.media]) {
      await new Promise<void>((resolve, reject) => {
        const socket = net.connect(port, '127.0.0.1', () => {
          socket.end('\u0016\u0003\u0001 nonsense \r\n\r\n');
        });
        socket.on('error', (failure: NodeJS.ErrnoException) => (failure.code === 'ECONNRESET' ? resolve() : reject(failure)));
        socket.on('close', () => resolve());
        socket.resume();
      });
    }
  });
});
