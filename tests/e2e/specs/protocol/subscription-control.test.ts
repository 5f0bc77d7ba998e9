import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLUE, RED } from '../../harness/colours';
import { DIALECTS } from '../../harness/dialects';
import type { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import type { RawPage } from '../../harness/raw';
import { Stage } from '../../harness/stage';
import { until } from '../../harness/until';
import { NOT_OFFERED, OFFERED } from '../../harness/wishes';

const NOWHERE = 'f'.repeat(32);

let stage: Stage;
let kaigi: Kaigi;
let page: RawPage;
let room: string;
let mixed: string;
/** Streams of the page. */
let stream: string;
let second: string;
/** Subscriptions of the page: of the first stream, of its picture alone, of the mixed stream. */
let forward: string;
let picture: string;
let ofMix: string;

beforeAll(async () => {
  stage = await Stage.open('subscription-control');
  ({ kaigi, room, mixed, page } = stage);
  stream = await page.call('publish', { look: RED });
  second = await page.call('publish', { look: BLUE });
  forward = await page.call('subscribe', { audio: { from: stream }, video: { from: stream } });
  picture = await page.call('subscribe', { video: { from: stream } });
  ofMix = await page.call('subscribe', { audio: { from: mixed }, video: { from: mixed } });
});
afterAll(() => stage?.close());

describe.each(DIALECTS)('%s', (_, dialect) => {
  let admin: Member;
  let other: Member;

  beforeAll(async () => {
    admin = await enter(kaigi, room, dialect, 'admin');
    other = await enter(kaigi, room, dialect);
  });
  afterAll(async () => {
    for (const member of [admin, other]) await member?.client.leave();
  });

  const control = (operation: string, data: unknown, id = forward, member = admin) =>
    member.client.request('subscription-control', { id, operation, data });
  const done = { status: 'ok', data: undefined };

  it.each(['audio', 'video', 'av'])('stops and starts %s, and nobody is told', async (kind) => {
    other.client.forget();
    for (const id of [forward, ofMix]) {
      expect(await control('pause', kind, id)).toEqual(done);
      expect(await control('pause', kind, id)).toEqual(done);
      expect(await control('play', kind, id)).toEqual(done);
    }
    await admin.client.granted('text', { to: other.id, message: 'done' });
    await other.client.told('text', { message: 'done' });
    expect(other.client.changes()).toEqual([]);
  });

  it.each(OFFERED)('updates a subscription of the mixed stream: %s', async (_, parameters) => {
    expect(await control('update', { video: { parameters } }, ofMix)).toEqual(done);
  });

  it.each(NOT_OFFERED)('is refused an update of a subscription of the mixed stream: %s', async (_, parameters, which) => {
    const text = `Target video stream does NOT satisfy:${which}`;
    expect(await control('update', { video: { parameters } }, ofMix)).toEqual({ status: 'error', data: text });
  });

  it('changes the source, one kind or both', async () => {
    expect(await control('update', { audio: { from: second } })).toEqual(done);
    expect(await control('update', { video: { from: second } })).toEqual(done);
    expect(await control('update', { audio: { from: stream }, video: { from: stream } })).toEqual(done);
    expect(await control('update', { video: { from: mixed } })).toEqual(done);
    expect(await control('update', { video: { from: stream } })).toEqual(done);
  });

  it('changes nothing where nothing is asked for', async () => {
    expect(await control('update', {})).toEqual(done);
    expect(await control('update', { video: {} })).toEqual(done);
    expect(await control('update', { video: { parameters: {} } })).toEqual(done);
    expect(await control('update', { audio: { from: stream }, video: { from: stream } })).toEqual(done);
  });

  it('is told what the way to the subscriber carries', async () => {
    // There is nothing to tell before the first feedback of the subscriber.
    const told = await until('an estimate', async () => {
      const ack = await admin.client.request('subscription-control', { id: forward, operation: 'querybwe' });
      if (ack.status !== 'ok') throw new Error(String(ack.data));
      return ack.data as { estimatedBitrate: number };
    });
    expect(Object.keys(told)).toEqual(['estimatedBitrate']);
    expect(told.estimatedBitrate).toBeGreaterThan(10_000);
  });

  it.each([
    ['pause', 'av'],
    ['play', 'av'],
    ['update', { video: { parameters: {} } }],
    ['querybwe', undefined],
  ])("can not %s another's", async (operation, data) => {
    // An update that asks for nothing need not look whose the subscription is.
    const asked = operation === 'update' ? { video: { from: second } } : data;
    expect(await control(operation, asked, forward, other)).toEqual({ status: 'error', data: 'unauthorized' });
  });

  const REFUSED: [string, () => unknown, string | RegExp][] = [
    ['a subscription that is not there', () => ({ id: NOWHERE, operation: 'pause', data: 'av' }), 'Subscription does NOT exist'],
    ['an update of one that is not there', () => ({ id: NOWHERE, operation: 'update', data: { video: { from: stream } } }), 'Subscription does NOT exist'],
    ['the bandwidth of one that is not there', () => ({ id: NOWHERE, operation: 'querybwe' }), 'Subscription does NOT exist'],
    ['to update sound that it has not', () => ({ id: picture, operation: 'update', data: { audio: { from: second } } }), 'Target subscription does NOT have audio to update'],
    [
      'a source that is not there',
      () => ({ id: forward, operation: 'update', data: { video: { from: NOWHERE } } }),
      /^(Update subscription failed|Target video stream does NOT satisfy:Requested video stream)$/,
    ],
    ['a kind that does not exist', () => ({ id: forward, operation: 'pause', data: 'smell' }), /^request/],
    ['an operation that does not exist', () => ({ id: forward, operation: 'explode', data: 'av' }), /^request/],
    ['an update that is a text', () => ({ id: forward, operation: 'update', data: 'x' }), /^request/],
    ['an update of what is no kind', () => ({ id: forward, operation: 'update', data: { text: {} } }), /^request/],
    ['an update whose framerate is a text', () => ({ id: forward, operation: 'update', data: { video: { parameters: { framerate: 'fast' } } } }), /^request/],
    ['no operation', () => ({ id: forward, data: 'av' }), /^request/],
    ['more members', () => ({ id: forward, operation: 'pause', data: 'av', more: 1 }), /^request/],
    ['nothing', () => null, /^request/],
  ];
  it.each(REFUSED)('is refused %s', async (_, data, text) => {
    const expected = typeof text === 'string' ? text : expect.stringMatching(text);
    expect(await admin.client.request('subscription-control', data())).toEqual({ status: 'error', data: expected });
  });
});

it('leaves subscriptions that go on', async () => {
  for (const id of [forward, picture, ofMix]) await page.moves(id);
  await page.sees(forward, RED);
  await page.sees(picture, RED);
});
