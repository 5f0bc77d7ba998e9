import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLUE, RED } from '../../harness/colours';
import { DIALECTS } from '../../harness/dialects';
import type { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import type { RawPage } from '../../harness/raw';
import { Stage } from '../../harness/stage';

const NOWHERE = 'f'.repeat(32);

let stage: Stage;
let kaigi: Kaigi;
let page: RawPage;
let room: string;
let mixed: string;
/** Streams of the page. */
let stream: string;
let second: string;
let silent: string;

beforeAll(async () => {
  stage = await Stage.open('stream-control');
  ({ kaigi, room, mixed, page } = stage);
  stream = await page.call('publish', { look: RED });
  second = await page.call('publish', { look: BLUE });
  silent = await page.call('publish', { look: RED, audio: false });
});
afterAll(() => stage?.close());

interface Layout {
  data: { value: { stream?: string; region: { id: string } }[] };
}

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

  const control = (member: Member, operation: string, data: unknown, id = stream) =>
    member.client.request('stream-control', { id, operation, data });
  const done = { status: 'ok', data: undefined };

  /** Who is shown in which region, as the other is told last. */
  const told = async (wanted: Record<string, string>): Promise<void> => {
    await other.client.toldThat('stream', (data) => {
      const { id, status, data: change } = data as { id: string; status: string } & Layout;
      if (id !== mixed || status !== 'update' || !Array.isArray(change.value)) return false;
      const shown = Object.fromEntries(change.value.flatMap(({ stream: of, region }) => (of ? [[of, region.id]] : [])));
      return isDeepStrictEqual(shown, wanted);
    });
  };

  it.each([
    ['audio', ['audio.status']],
    ['video', ['video.status']],
    ['av', ['audio.status', 'video.status']],
  ])('stops and starts %s for everybody, who are told', async (kind, fields) => {
    for (const [operation, value] of [['pause', 'inactive'], ['play', 'active']] as const) {
      other.client.forget();
      admin.client.forget();
      expect(await control(admin, operation, kind)).toEqual(done);
      for (const field of fields) {
        for (const { client } of [admin, other]) {
          const update = { id: stream, status: 'update', data: { field, value } };
          expect(await client.told('stream', update)).toEqual(update);
        }
      }
      const rest = await kaigi.rest.stream(room, stream);
      for (const field of fields) expect(rest.media[field.split('.')[0] as 'audio' | 'video']?.status).toBe(value);
      expect(other.client.changes(stream)).toHaveLength(fields.length);
    }
  });

  it('tells again what is repeated', async () => {
    expect(await control(admin, 'pause', 'audio')).toEqual(done);
    other.client.forget();
    expect(await control(admin, 'pause', 'audio')).toEqual(done);
    await other.client.told('stream', { id: stream, data: { field: 'audio.status', value: 'inactive' } });
    expect(await control(admin, 'play', 'audio')).toEqual(done);
  });

  it('mixes and unmixes, and the layout is told', async () => {
    other.client.forget();
    expect(await control(admin, 'mix', 'common')).toEqual(done);
    expect(await control(admin, 'mix', 'common')).toEqual(done);
    await told({ [stream]: '1' });
    expect((await kaigi.rest.stream(room, stream)).info.inViews).toEqual(['common']);
    other.client.forget();
    expect(await control(admin, 'unmix', 'common')).toEqual(done);
    expect(await control(admin, 'unmix', 'common')).toEqual(done);
    await told({});
    expect((await kaigi.rest.stream(room, stream)).info.inViews).toEqual([]);
  });

  describe('regions', () => {
    const region = (id: string, name: unknown, view: unknown = 'common') => control(admin, 'set-region', { view, region: name }, id);
    const where = (id: string, view: unknown = 'common') => control(admin, 'get-region', view, id);

    beforeAll(async () => {
      for (const id of [stream, second]) await control(admin, 'mix', 'common', id);
    });
    afterAll(async () => {
      for (const id of [stream, second]) await control(admin, 'unmix', 'common', id);
    });

    it('are told', async () => {
      expect(await where(stream)).toEqual({ status: 'ok', data: { region: '1' } });
      expect(await where(second)).toEqual({ status: 'ok', data: { region: '2' } });
    });

    it('are swapped', async () => {
      other.client.forget();
      expect(await region(second, '1')).toEqual(done);
      await told({ [second]: '1', [stream]: '2' });
      expect(await where(second)).toEqual({ status: 'ok', data: { region: '1' } });
      expect(await region(stream, '1')).toEqual(done);
      expect(await where(second)).toEqual({ status: 'ok', data: { region: '2' } });
    });

    it.each([
      ['an empty region', () => region(stream, '4'), 'Invalid region_id.'],
      ['a region that is not there', () => region(stream, 'nowhere'), 'Invalid region_id.'],
      ['a stream that is not mixed', () => region(silent, '1'), 'Invalid input stream_id.'],
      ['the region of a stream that is not mixed', () => where(silent), 'Invalid input stream_id.'],
      ['a view that is not there', () => region(stream, '1', 'nowhere'), 'Invalid view'],
      ['the region in a view that is not there', () => where(stream, 'nowhere'), 'Invalid view'],
      ['no region', () => region(stream, ''), /^request/],
      ['a region that is a number', () => region(stream, 1), /^request/],
      ['a view that is a number', () => where(stream, 1), /^request/],
    ])('are refused for %s', async (_, request, text) => {
      expect(await request()).toEqual({ status: 'error', data: typeof text === 'string' ? text : expect.stringMatching(text) });
    });
  });

  it.each(['pause', 'play', 'mix', 'unmix', 'set-region', 'get-region'])('can not %s what is others', async (operation) => {
    const data = { pause: 'av', play: 'av', mix: 'common', unmix: 'common', 'get-region': 'common' }[operation] ?? { view: 'common', region: '1' };
    expect(await control(other, operation, data)).toEqual({ status: 'error', data: 'unauthorized' });
  });

  const REFUSED: [string, () => unknown, string | RegExp][] = [
    ['a stream that is not there', () => ({ id: NOWHERE, operation: 'pause', data: 'av' }), 'Stream does NOT exist'],
    ['to pause the mixed stream', () => ({ id: mixed, operation: 'pause', data: 'av' }), 'Stream is Mixed'],
    ['to pause a kind that is not there', () => ({ id: silent, operation: 'pause', data: 'audio' }), 'Stream does NOT contain valid track to mute/unmute'],
    ['to mix into a view that is not there', () => ({ id: stream, operation: 'mix', data: 'nowhere' }), 'Invalid view'],
    ['to unmix from a view that is not there', () => ({ id: stream, operation: 'unmix', data: 'nowhere' }), 'Invalid view'],
    ['a kind that does not exist', () => ({ id: stream, operation: 'pause', data: 'smell' }), /^request/],
    ['a view that is no text', () => ({ id: stream, operation: 'mix', data: 7 }), /^request/],
    ['an operation that does not exist', () => ({ id: stream, operation: 'explode', data: 'av' }), /^request/],
    ['no operation', () => ({ id: stream, data: 'av' }), /^request/],
    ['no data', () => ({ id: stream, operation: 'pause' }), /^request/],
    ['more members', () => ({ id: stream, operation: 'pause', data: 'av', more: 1 }), /^request/],
    ['nothing', () => null, /^request/],
  ];
  it.each(REFUSED)('is refused %s', async (_, data, text) => {
    const expected = typeof text === 'string' ? text : expect.stringMatching(text);
    expect(await admin.client.request('stream-control', data())).toEqual({ status: 'error', data: expected });
  });
});

it('is for the owner, too', async () => {
  await page.call('request', 'stream-control', { id: stream, operation: 'pause', data: 'video' });
  await page.isTold('stream', { id: stream, status: 'update', data: { field: 'video.status', value: 'inactive' } });
  await page.call('request', 'stream-control', { id: stream, operation: 'play', data: 'video' });
  await page.call('request', 'stream-control', { id: stream, operation: 'mix', data: 'common' });
  expect(await page.call('request', 'stream-control', { id: stream, operation: 'get-region', data: 'common' })).toEqual({ region: '1' });
});
