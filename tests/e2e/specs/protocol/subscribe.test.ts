import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RED } from '../../harness/colours';
import { DIALECTS } from '../../harness/dialects';
import type { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import { lines, offer } from '../../harness/offer';
import type { RawPage } from '../../harness/raw';
import type { Session } from '../../harness/signaling';
import { Stage } from '../../harness/stage';
import { NOT_OFFERED, OFFERED } from '../../harness/wishes';
import { type Kind, type Wish, subscribing } from '../../page/wire';

const ID = /^[0-9a-f]{32}$/;
const NOWHERE = 'f'.repeat(32);

let stage: Stage;
let kaigi: Kaigi;
let page: RawPage;
let room: string;
let mixed: string;
/** Streams of a page: one with both kinds, one with each alone. */
let both: string;
let audio: string;
let video: string;

beforeAll(async () => {
  stage = await Stage.open('subscribe');
  ({ kaigi, room, mixed, page } = stage);
  both = await page.call('publish', { look: RED });
  audio = await page.call('publish', { look: RED, video: false });
  video = await page.call('publish', { look: RED, audio: false });
});
afterAll(() => stage?.close());

describe.each(DIALECTS)('%s', (_, dialect) => {
  const { protocol } = dialect;
  let one: Member;
  let other: Member;
  let spectator: Member;

  const wish = (wishes: Partial<Record<Kind, Wish>>): object => ({
    ...subscribing(protocol, wishes),
    ...(protocol === '1.2' && { transport: { type: 'webrtc' } }),
  });

  beforeAll(async () => {
    one = await enter(kaigi, room, dialect);
    other = await enter(kaigi, room, dialect);
    spectator = await enter(kaigi, room, dialect, 'video_only_viewer');
  });
  afterAll(async () => {
    for (const member of [one, other, spectator]) await member?.client.leave();
  });

  const SOURCES: [string, () => Partial<Record<Kind, Wish>>][] = [
    ['both kinds of a stream', () => ({ audio: { from: both }, video: { from: both } })],
    ['the sound of a stream', () => ({ audio: { from: both } })],
    ['the picture of a stream', () => ({ video: { from: both } })],
    ['sound and picture of two streams', () => ({ audio: { from: audio }, video: { from: video } })],
    ['the mixed stream', () => ({ audio: { from: mixed }, video: { from: mixed } })],
    ['mixed sound and a picture as it is', () => ({ audio: { from: mixed }, video: { from: both } })],
  ];
  it.each(SOURCES)('begins a subscription of %s, and is answered its offer', async (_, sources) => {
    const wishes = sources();
    const session = await one.client.granted<Session>('subscribe', wish(wishes));
    expect(session).toEqual({ id: expect.stringMatching(ID), transportId: session.id });
    const kinds = Object.keys(wishes) as Kind[];
    const sdp = offer(kinds.map((kind) => ({ kind, direction: 'recvonly' })));
    await one.client.granted('soac', { id: session.id, signaling: { type: 'offer', sdp } });
    const { data } = await one.client.told<{ data: { type: string; sdp: string } }>('progress', { id: session.id, status: 'soac' });
    const answered = lines(data.sdp);
    expect(answered.map(({ kind, direction }) => [kind, direction])).toEqual(kinds.map((kind) => [kind, 'sendonly']));
    // SDKs take what belongs together by the id of its MediaStream.
    expect(new Set(answered.map(({ msid }) => msid)).size).toBe(1);
    expect(answered[0]?.msid).toMatch(/\S/);

    expect(await one.client.request('unsubscribe', { id: session.id })).toEqual({ status: 'ok', data: undefined });
    expect(await one.client.request('unsubscribe', { id: session.id })).toEqual({ status: 'error', data: expect.any(String) });
    expect(other.client.heard('progress')).toEqual([]);
    one.client.forget();
  });

  it.each(OFFERED)('may want of the mixed picture: %s', async (_, parameters) => {
    const { id } = await one.client.granted<Session>('subscribe', wish({ video: { from: mixed, parameters } }));
    await one.client.granted('unsubscribe', { id });
  });

  it.each(NOT_OFFERED)('is refused of the mixed picture: %s', async (_, parameters, which) => {
    const ack = await one.client.request('subscribe', wish({ video: { from: mixed, parameters } }));
    expect(ack).toEqual({ status: 'error', data: `Target video stream does NOT satisfy:${which}` });
  });

  it.runIf(protocol === '1.2').each([
    ['video', { codec: 'h264', profile: 'CB' }],
    ['video', { codec: 'vp9' }],
    ['video', { codec: 'vp8' }],
    ['audio', { codec: 'opus', sampleRate: 48_000, channelNum: 2 }],
    ['audio', { codec: 'pcmu' }],
  ] as const)('may want the mixed %s as %j', async (kind, format) => {
    const { id } = await one.client.granted<Session>('subscribe', wish({ [kind]: { from: mixed, format } }));
    await one.client.granted('unsubscribe', { id });
  });

  it.runIf(protocol === '1.2').each([
    ['video', { codec: 'h265' }],
    ['audio', { codec: 'opus', sampleRate: 8000, channelNum: 1 }],
  ] as const)('is refused the mixed %s as %j', async (kind, format) => {
    const ack = await one.client.request('subscribe', wish({ [kind]: { from: mixed, format } }));
    expect(ack).toEqual({ status: 'error', data: `Target ${kind} stream does NOT satisfy:Format is not acceptable` });
  });

  it.runIf(protocol === '1.2')('puts further subscriptions on the same transport, also beside a publication', async () => {
    const tracks = [{ type: 'audio', mid: '0', source: 'mic' }];
    const first = await one.client.granted<Session>('publish', { media: { tracks }, transport: { type: 'webrtc' } });
    const transport = { type: 'webrtc', id: first.transportId };
    const wanted = [{ type: 'video', mid: '1', from: both }];
    const second = await one.client.granted<Session>('subscribe', { media: { tracks: wanted }, transport });
    expect(second.transportId).toBe(first.transportId);
    const sdp = offer([{ kind: 'audio', direction: 'sendonly' }, { kind: 'video', direction: 'recvonly' }]); // prettier-ignore
    await one.client.granted('soac', { id: first.transportId, signaling: { type: 'offer', sdp } });
    const { data } = await one.client.told<{ data: { sdp: string } }>('progress', { id: first.transportId, status: 'soac' });
    expect(lines(data.sdp).map(({ direction }) => direction)).toEqual(['recvonly', 'sendonly']);
    await one.client.granted('unsubscribe', { id: second.id });
    await one.client.granted('unpublish', { id: first.id });
    one.client.forget();
  });

  it('is refused what is not there', async () => {
    const text = (kind: Kind): string => `Target ${kind} stream does NOT satisfy:Requested ${kind} stream`;
    expect(await one.client.request('subscribe', wish({ video: { from: NOWHERE } }))).toEqual({ status: 'error', data: text('video') });
    expect(await one.client.request('subscribe', wish({ audio: { from: NOWHERE } }))).toEqual({ status: 'error', data: text('audio') });
    expect(await one.client.request('subscribe', wish({ audio: { from: video } }))).toEqual({ status: 'error', data: text('audio') });
    expect(await one.client.request('subscribe', wish({ video: { from: audio } }))).toEqual({ status: 'error', data: text('video') });
    const half = wish({ audio: { from: both }, video: { from: NOWHERE } });
    expect(await one.client.request('subscribe', half)).toEqual({ status: 'error', data: text('video') });
  });

  it('is refused what its role may not', async () => {
    const refused = { status: 'error', data: 'unauthorized' };
    expect(await spectator.client.request('subscribe', wish({ audio: { from: mixed } }))).toEqual(refused);
    expect(await spectator.client.request('subscribe', wish({ audio: { from: both }, video: { from: both } }))).toEqual(refused);
    const { id } = await spectator.client.granted<Session>('subscribe', wish({ video: { from: both } }));
    await spectator.client.granted('unsubscribe', { id });
  });

  it("can not end another's subscription", async () => {
    const { id } = await other.client.granted<Session>('subscribe', wish({ video: { from: both } }));
    expect(await one.client.request('unsubscribe', { id })).toEqual({ status: 'error', data: expect.any(String) });
    await other.client.granted('unsubscribe', { id });
  });

  const TRACK = { type: 'video', mid: '0', from: NOWHERE };
  const SHAPES: Record<'1.x' | '1.2', [string, unknown][]> = {
    '1.2': [
      ['nothing', null],
      ['no media', { transport: { type: 'webrtc' } }],
      ['no tracks', { media: { tracks: [] } }],
      ['a track without source', { media: { tracks: [{ type: 'video', mid: '0' }] } }],
      ['a source that is a number', { media: { tracks: [{ ...TRACK, from: 7 }] } }],
      ['a track without mid', { media: { tracks: [{ type: 'video', from: NOWHERE }] } }],
      ['half a resolution', { media: { tracks: [{ ...TRACK, parameters: { resolution: { width: 4 } } }] } }],
      ['a framerate that is a text', { media: { tracks: [{ ...TRACK, parameters: { framerate: 'fast' } }] } }],
      ['a parameter that does not exist', { media: { tracks: [{ ...TRACK, parameters: { colour: 'red' } }] } }],
      ['a format that does not exist', { media: { tracks: [{ ...TRACK, format: { codec: 'flipbook' } }] } }],
      ['data without source', { media: { tracks: [TRACK] }, data: {} }],
      ['more members', { media: { tracks: [TRACK] }, more: 1 }],
    ],
    '1.x': [
      ['nothing', null],
      ['no media', {}],
      ['only one kind', { media: { audio: { from: NOWHERE } } }],
      ['neither kind', { media: { audio: false, video: false } }],
      ['a kind without source', { media: { audio: {}, video: false } }],
      ['a framerate that is a text', { media: { audio: false, video: { from: NOWHERE, parameters: { framerate: 'fast' } } } }],
      ['tracks, as in 1.2', { media: { tracks: [TRACK] } }],
      ['a transport', { media: { audio: { from: NOWHERE }, video: false }, transport: { type: 'webrtc' } }],
    ],
  };
  it.each(SHAPES[protocol === '1.2' ? '1.2' : '1.x'])('is refused a request with %s', async (_, data) => {
    expect(await one.client.request('subscribe', data)).toEqual({ status: 'error', data: expect.stringMatching(/^request\b/) });
  });

  it.each([[{ id: 'a_b' }], [{ id: '' }], [{}], [null], [{ id: 7 }]])('is refused to unsubscribe %j', async (data) => {
    expect(await one.client.request('unsubscribe', data)).toEqual({ status: 'error', data: 'Invalid subscription id' });
  });
});
