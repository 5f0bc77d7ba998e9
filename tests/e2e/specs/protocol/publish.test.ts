import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIALECTS } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import { lines, offer } from '../../harness/offer';
import type { Session } from '../../harness/signaling';
import { type Kind, type Protocol, publishing } from '../../page/wire';

const ID = /^[0-9a-f]{32}$/;
const UNKNOWN = 'f'.repeat(32);

let kaigi: Kaigi;
let room: string;
let full: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'protocol-publish' });
  room = await kaigi.rest.createRoom('publish');
  full = await kaigi.rest.createRoom('full', { inputLimit: 0 });
});
afterAll(() => kaigi?.stop());

/** A request with the kinds, and with a transport where the version knows of any. */
function wish(protocol: Protocol, kinds: Kind[], more: object = {}): object {
  return { ...publishing(protocol, kinds), ...(protocol === '1.2' && { transport: { type: 'webrtc' } }), ...more };
}

describe.each(DIALECTS)('%s', (_, dialect) => {
  const { protocol } = dialect;
  let one: Member;
  let other: Member;
  let viewer: Member;
  let singer: Member;

  beforeAll(async () => {
    one = await enter(kaigi, room, dialect);
    other = await enter(kaigi, room, dialect);
    viewer = await enter(kaigi, room, dialect, 'viewer');
    singer = await enter(kaigi, room, dialect, 'audio_only_presenter');
  });
  afterAll(async () => {
    for (const member of [one, other, viewer, singer]) await member?.client.leave();
  });

  const KINDS: Kind[][] = [['audio', 'video'], ['audio'], ['video']];
  it.each(KINDS.map((kinds) => [kinds.join(' and '), kinds] as const))('begins a publication of %s, and is answered its offer', async (_, kinds) => {
    const session = await one.client.granted<Session>('publish', wish(protocol, kinds, { attributes: { name: 'a', more: [1, null] } }));
    expect(session).toEqual({ id: expect.stringMatching(ID), transportId: session.id });

    const sdp = offer(kinds.map((kind) => ({ kind, direction: 'sendonly' })));
    expect(await one.client.request('soac', { id: session.id, signaling: { type: 'offer', sdp } })).toEqual({ status: 'ok', data: undefined });
    const answer = await one.client.told<{ data: { type: string; sdp: string } }>('progress', { id: session.id, status: 'soac' });
    expect(answer).toEqual({ id: session.id, status: 'soac', data: { type: 'answer', sdp: expect.any(String) } });
    const answered = lines(answer.data.sdp);
    expect(answered.map(({ kind, mid, direction }) => [kind, mid, direction])).toEqual(kinds.map((kind, i) => [kind, String(i), 'recvonly']));
    // SDKs do not listen to candidates that come later.
    for (const { candidates } of answered) expect(candidates.length).toBeGreaterThan(0);

    expect(await one.client.request('unpublish', { id: session.id })).toEqual({ status: 'ok', data: undefined });
    expect(await one.client.request('unpublish', { id: session.id })).toEqual({ status: 'error', data: expect.any(String) });
    expect(one.client.heard('progress', { status: 'error' })).toEqual([]);
    // It was never established, so nobody has heard of it.
    expect(other.client.heard('stream')).toEqual([]);
    one.client.forget();
  });

  it('may send candidates in all the forms that SDKs have', async () => {
    const { id } = await one.client.granted<Session>('publish', wish(protocol, ['audio']));
    const line = 'candidate:842163049 1 udp 1677729535 127.0.0.1 9 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag abcd network-cost 999';
    const place = { sdpMid: '0', sdpMLineIndex: 0 };
    const candidates: object[] = [
      { candidate: line, ...place },
      { candidate: `a=${line}`, ...place },
      { candidate: `a=${line}`, ...place },
      { candidate: `a=${line}` },
      { candidate: line.replace('127.0.0.1', '3f0b9a3e-4c4d-4ad7-9a37-0c5f4d1b8a11.local'), ...place },
      { candidate: line.replace(' udp ', ' tcp ') + ' tcptype active', ...place },
      { candidate: '', ...place },
      { candidate: 'a=', ...place },
      { candidate: '', sdpMid: null, sdpMLineIndex: null },
    ];
    const sdp = offer([{ kind: 'audio', direction: 'sendonly' }]);
    // Before the offer and after it.
    await one.client.granted('soac', { id, signaling: { type: 'candidate', candidate: candidates[0] } });
    await one.client.granted('soac', { id, signaling: { type: 'offer', sdp } });
    for (const candidate of candidates) {
      expect(await one.client.request('soac', { id, signaling: { type: 'candidate', candidate } }), JSON.stringify(candidate)).toEqual({ status: 'ok', data: undefined });
    }
    await one.client.granted('soac', { id, signaling: { type: 'removed-candidates', candidates: [{ candidate: `a=${line}` }, candidates[0]] } });
    await one.client.granted('soac', { id, signaling: { type: 'answer', sdp: 'v=0' } });
    await one.client.granted('unpublish', { id });
    one.client.forget();
  });

  it('may signal with more arguments than there are, and without an answer', async () => {
    const { id } = await one.client.granted<Session>('publish', wish(protocol, ['audio']));
    const sdp = offer([{ kind: 'audio', direction: 'sendonly' }]);
    one.client.send('soac', { id, signaling: { type: 'offer', sdp } }, null);
    await one.client.told('progress', { id, status: 'soac' });
    const candidate = { candidate: 'a=candidate:1 1 udp 1 127.0.0.1 9 typ host', sdpMid: '0', sdpMLineIndex: 0 };
    await one.client.granted('soac', { id, signaling: { type: 'candidate', candidate } }, null);
    await one.client.granted('unpublish', { id });
    one.client.forget();
  });

  it('is refused what its role may not', async () => {
    const refused = { status: 'error', data: 'unauthorized' };
    expect(await viewer.client.request('publish', wish(protocol, ['audio']))).toEqual(refused);
    expect(await viewer.client.request('publish', wish(protocol, ['video']))).toEqual(refused);
    expect(await singer.client.request('publish', wish(protocol, ['audio', 'video']))).toEqual(refused);
    const { id } = await singer.client.granted<Session>('publish', wish(protocol, ['audio']));
    await singer.client.granted('unpublish', { id });
  });

  it('is refused where nobody may publish any more', async () => {
    const { client } = await enter(kaigi, full, dialect);
    expect(await client.request('publish', wish(protocol, ['audio']))).toEqual({ status: 'error', data: 'Too many inputs' });
    await client.leave();
  });

  it("can not end or signal another's publication", async () => {
    const { id } = await other.client.granted<Session>('publish', wish(protocol, ['audio']));
    expect(await one.client.request('unpublish', { id })).toEqual({ status: 'error', data: expect.any(String) });
    const sdp = offer([{ kind: 'audio', direction: 'sendonly' }]);
    const refused = { status: 'error', data: `Transport ${id} does NOT exist` };
    expect(await one.client.request('soac', { id, signaling: { type: 'offer', sdp } })).toEqual(refused);
    // Its owner can.
    await other.client.granted('soac', { id, signaling: { type: 'offer', sdp } });
    await other.client.told('progress', { id, status: 'soac' });
    await other.client.granted('unpublish', { id });
  });

  const SHAPES: Record<'1.x' | '1.2', [string, unknown][]> = {
    '1.2': [
      ['nothing', null],
      ['no media', { transport: { type: 'webrtc' } }],
      ['media that is no object', { media: 'audio' }],
      ['media by kind, as in the versions before', { media: { audio: { source: 'mic' }, video: false } }],
      ['no tracks', { media: { tracks: [] } }],
      ['too many tracks', { media: { tracks: Array.from({ length: 9 }, (_, i) => ({ type: 'audio', mid: String(i) })) } }],
      ['a track without mid', { media: { tracks: [{ type: 'audio', source: 'mic' }] } }],
      ['a mid that is a number', { media: { tracks: [{ type: 'audio', mid: 0 }] } }],
      ['a track of no kind', { media: { tracks: [{ type: 'smell', mid: '0' }] } }],
      ['a source that does not exist', { media: { tracks: [{ type: 'audio', mid: '0', source: 'file' }] } }],
      ['attributes that are null', { media: { tracks: [{ type: 'audio', mid: '0' }] }, attributes: null }],
      ['a transport whose id is null', { media: { tracks: [{ type: 'audio', mid: '0' }] }, transport: { type: 'webrtc', id: null } }],
      ['a transport with more members', { media: { tracks: [{ type: 'audio', mid: '0' }] }, transport: { type: 'webrtc', x: 1 } }],
      ['data that is no boolean', { media: { tracks: [{ type: 'audio', mid: '0' }] }, data: 'yes' }],
      ['more members', { media: { tracks: [{ type: 'audio', mid: '0' }] }, more: 1 }],
    ],
    '1.x': [
      ['nothing', null],
      ['no media', {}],
      ['only one kind', { media: { audio: { source: 'mic' } } }],
      ['neither kind', { media: { audio: false, video: false } }],
      ['a kind that is true', { media: { audio: true, video: false } }],
      ['a kind that is null', { media: { audio: null, video: { source: 'camera' } } }],
      ['a source that does not exist', { media: { audio: { source: 'file' }, video: false } }],
      ['tracks, as in 1.2', { media: { tracks: [{ type: 'audio', mid: '0' }] } }],
      ['a transport', { media: { audio: { source: 'mic' }, video: false }, transport: { type: 'webrtc' } }],
      ['data', { media: { audio: { source: 'mic' }, video: false }, data: true }],
    ],
  };
  it.each(SHAPES[protocol === '1.2' ? '1.2' : '1.x'])('is refused a request with %s', async (_, data) => {
    expect(await one.client.request('publish', data)).toEqual({ status: 'error', data: expect.stringMatching(/^request\b/) });
  });

  const SIGNALS: [string, unknown, string][] = [
    ['no id', { signaling: { type: 'offer', sdp: 'v=0' } }, 'Invalid soac id'],
    ['an id that is a number', { id: 7, signaling: { type: 'offer', sdp: 'v=0' } }, 'Invalid soac id'],
    ['nothing', null, 'Invalid soac id'],
    ['no signaling', { id: UNKNOWN }, 'Invalid signaling object'],
    ['signaling that is a text', { id: UNKNOWN, signaling: 'offer' }, 'Invalid signaling object'],
    ['an offer without SDP', { id: UNKNOWN, signaling: { type: 'offer' } }, 'Invalid signaling object'],
    ['a candidate that is missing', { id: UNKNOWN, signaling: { type: 'candidate' } }, 'Invalid signaling object'],
    ['an unknown type', { id: UNKNOWN, signaling: { type: 'pranswer', sdp: 'v=0' } }, 'Invalid signaling type'],
    ['a transport that is not there', { id: UNKNOWN, signaling: { type: 'offer', sdp: 'v=0' } }, `Transport ${UNKNOWN} does NOT exist`],
  ];
  it.each(SIGNALS)('is refused signaling with %s', async (_, data, text) => {
    expect(await one.client.request('soac', data)).toEqual({ status: 'error', data: text });
  });

  it.each([[{ id: 'a_b' }], [{ id: '' }], [{}], [null], [{ id: 7 }]])('is refused to unpublish %j', async (data) => {
    expect(await one.client.request('unpublish', data)).toEqual({ status: 'error', data: 'Invalid stream id' });
  });

  it.runIf(protocol === '1.2')('puts further publications on the same transport', async () => {
    const first = await one.client.granted<Session>('publish', wish(protocol, ['audio']));
    const tracks = [{ type: 'video', mid: '1', source: 'screen-cast', scalabilityMode: 'L1T2' }];
    const transport = { type: 'webrtc', id: first.transportId };
    const second = await one.client.granted<Session>('publish', { media: { tracks }, transport });
    expect(second).toEqual({ id: expect.stringMatching(ID), transportId: first.transportId });
    expect(second.id).not.toBe(first.id);

    const inUse = await one.client.request('publish', { media: { tracks }, transport });
    expect(inUse).toEqual({ status: 'error', data: expect.stringMatching(/mid 1/) });

    await one.client.granted('unpublish', { id: first.id });
    const sdp = offer([{ kind: 'audio', direction: 'sendonly' }, { kind: 'video', direction: 'sendonly' }]); // prettier-ignore
    await one.client.granted('soac', { id: first.transportId, signaling: { type: 'offer', sdp } });
    const answer = await one.client.told<{ data: { sdp: string } }>('progress', { id: first.transportId, status: 'soac' });
    expect(lines(answer.data.sdp).map(({ direction }) => direction)).toEqual(['inactive', 'recvonly']);
    await one.client.granted('unpublish', { id: second.id });
    one.client.forget();
  });

  it.runIf(protocol === '1.2')('is answered an offer whose m-lines belong to nothing', async () => {
    const { id, transportId } = await one.client.granted<Session>('publish', wish(protocol, ['audio']));
    expect(await one.client.request('publish', { media: { tracks: [] }, transport: { type: 'webrtc', id: transportId } })).toMatchObject({ status: 'error' });
    const sdp = offer([{ kind: 'audio', direction: 'sendonly' }, { kind: 'audio', direction: 'sendonly' }, { kind: 'video', direction: 'sendonly' }]); // prettier-ignore
    await one.client.granted('soac', { id: transportId, signaling: { type: 'offer', sdp } });
    const answer = await one.client.told<{ data: { sdp: string } }>('progress', { id: transportId, status: 'soac' });
    expect(lines(answer.data.sdp).map(({ direction }) => direction)).toEqual(['recvonly', 'inactive', 'inactive']);
    await one.client.granted('unpublish', { id });
    one.client.forget();
  });

  it.runIf(protocol === '1.2')('is refused a transport that is not its own', async () => {
    const tracks = [{ type: 'audio', mid: '0', source: 'mic' }];
    const { transportId, id } = await other.client.granted<Session>('publish', wish(protocol, ['audio']));
    const asked = await one.client.request('publish', { media: { tracks }, transport: { type: 'webrtc', id: transportId } });
    expect(asked).toEqual({ status: 'error', data: `Transport ${transportId} does NOT exist` });
    await other.client.granted('unpublish', { id });
  });
});
