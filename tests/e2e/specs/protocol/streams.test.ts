import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../../harness/browser';
import { RED } from '../../harness/colours';
import { DIALECTS, type Dialect } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { matches } from '../../harness/matches';
import { enter } from '../../harness/member';
import type { RawPage } from '../../harness/raw';
import { SMALL_VIEW } from '../../harness/room';
import type { StreamInfo } from '../../harness/signaling';

let kaigi: Kaigi;
let browser: Chromium;
let page: RawPage;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'protocol-streams' });
  browser = await Chromium.launch('protocol-streams');
  room = await kaigi.rest.createRoom('streams', { views: [SMALL_VIEW] });
  page = await browser.raw(kaigi, 'page');
  await page.join(kaigi, room);
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

const LISTS = { resolution: expect.any(Array), framerate: expect.any(Array), bitrate: expect.any(Array), keyFrameInterval: expect.any(Array) };

/** A stream of the page as a version is told of it. */
function expectForward(stream: StreamInfo, id: string, { protocol }: Dialect, inViews: string[] = []): void {
  expect(stream).toMatchObject({ id, type: 'forward', data: false, info: { owner: page.id, type: 'webrtc', inViews } });
  const audio = { status: 'active', source: 'mic', format: { codec: 'opus', sampleRate: 48_000, channelNum: 2 }, optional: { format: expect.any(Array) } };
  const video = { status: 'active', source: 'camera', optional: { format: expect.any(Array), parameters: LISTS } };
  const format = { codec: 'vp8' };
  if (protocol === '1.2') {
    const track = { id: expect.stringMatching(/^[0-9a-f]{32}-\d+$/), mid: expect.stringMatching(/^\d+$/) };
    expect(stream.media.tracks).toEqual([
      { type: 'audio', ...track, ...audio },
      expect.objectContaining({ type: 'video', ...track, ...video, format }),
    ]);
  } else {
    const media = stream.media as unknown as { audio: object; video: { original?: object[]; format?: object } };
    expect(Object.keys(media).sort()).toEqual(['audio', 'video']);
    expect(media.audio).toEqual(audio);
    expect(media.video).toMatchObject(protocol === '1.1' ? { ...video, original: [{ format }] } : { ...video, format });
    expect([media.video.original !== undefined, media.video.format !== undefined]).toEqual([protocol === '1.1', protocol === '1.0']);
  }
}

describe.each(DIALECTS)('%s', (_, dialect) => {
  it('is told of a stream from its beginning to its end, in the words of its version', async () => {
    const { client } = await enter(kaigi, room, dialect);
    const id = await page.call('publish', { look: RED, framerate: 5 });
    const added = await client.told<{ data: StreamInfo }>('stream', { id, status: 'add' });
    expectForward(added.data, id, dialect);

    // Who comes later is told the same.
    const later = await enter(kaigi, room, dialect);
    const found = later.reply.room.streams.find((stream) => stream.id === id);
    if (!found) throw new Error('the stream is not there');
    expectForward(found, id, dialect);

    await kaigi.rest.patchStream(room, id, [{ op: 'replace', path: '/media/video/status', value: 'inactive' }]);
    await client.told('stream', { id, status: 'update', data: { field: 'video.status', value: 'inactive' } });
    // A change to what it is already is told to nobody.
    await kaigi.rest.patchStream(room, id, [{ op: 'replace', path: '/media/video/status', value: 'inactive' }]);
    await kaigi.rest.patchStream(room, id, [{ op: 'replace', path: '/media/video/status', value: 'active' }]);
    await client.told('stream', { id, status: 'update', data: { field: 'video.status', value: 'active' } });
    expect(client.heard('stream', { id, data: { field: 'video.status' } })).toHaveLength(2);

    await page.call('unpublish', id);
    for (const one of [client, later.client]) expect(await one.told('stream', { id, status: 'remove' })).toEqual({ id, status: 'remove' });
    const statuses = client.heard('stream', { id }).map((data) => (data as { status: string }).status);
    expect(statuses[0]).toBe('add');
    expect(statuses.at(-1)).toBe('remove');
    expect(statuses.slice(1, -1).every((status) => status === 'update')).toBe(true);
    await later.client.leave();
    await client.leave();
  });
});

describe.each(DIALECTS)('%s', (_, dialect) => {
  it('is told everything that may change of a stream', async () => {
    const { client } = await enter(kaigi, room, dialect);
    const mixed = `${room}-common`;
    const update = (field: string) => ({ status: 'update', data: { field } });
    const id = await page.call('publish', { look: RED, framerate: 5 });
    await client.told('stream', { id, status: 'add' });

    // The picture's size, as soon as it is known, and where it is mixed.
    const whole = { id, ...update('.') };
    const width = (data: unknown): number | undefined => own((data as Whole).data.value.media)?.parameters?.resolution?.width;
    await client.toldThat('stream', (data) => matches(data, whole) && width(data) !== undefined, 'with its size');
    await kaigi.rest.patchStream(room, id, [{ op: 'add', path: '/info/inViews', value: 'common' }]);
    await client.toldThat('stream', (data) => matches(data, { ...whole, data: { value: { info: { inViews: ['common'] } } } }), 'that is mixed');
    const last = client.heard('stream', whole).at(-1) as Whole;
    expect(width(last)).toBeGreaterThan(0);
    expectForward(last.data.value, id, dialect, ['common']);

    // The mixed stream: who is where, and who speaks.
    const layout = await client.told('stream', { id: mixed, ...update('video.layout'), data: { value: [{ stream: id }] } });
    const area = { left: '0/1', top: '0/1', width: '1/1', height: '1/1' };
    expect(layout).toEqual({ id: mixed, status: 'update', data: { field: 'video.layout', value: [{ stream: id, region: { id: '1', shape: 'rectangle', area } }] } });
    const heard = await client.told('stream', { id: mixed, ...update('activeInput'), data: { value: id } });
    expect(heard).toEqual({ id: mixed, status: 'update', data: { field: 'activeInput', value: id } });

    for (const kind of ['audio', 'video']) {
      await page.call('request', 'stream-control', { id, operation: 'pause', data: kind });
      expect(await client.told('stream', { id, ...update(`${kind}.status`) })).toEqual({ id, status: 'update', data: { field: `${kind}.status`, value: 'inactive' } });
    }
    await page.call('unpublish', id);
    expect(await client.told('stream', { id, status: 'remove' })).toEqual({ id, status: 'remove' });
    await client.leave();
  });
});

/** A stream that is told again as a whole. */
interface Whole {
  data: { value: { media: unknown } & StreamInfo };
}

interface Picture {
  parameters?: { resolution?: { width: number } };
}

/** What a version tells of the picture itself. */
function own(media: unknown): Picture | undefined {
  const { tracks, video } = media as { tracks?: Picture[]; video?: Picture & { original?: Picture[] } };
  return tracks?.[1] ?? video?.original?.[0] ?? video;
}

describe('a stream that management removes', () => {
  it('ends for its owner and for who has subscribed it', async () => {
    const id = await page.call('publish', { look: RED });
    const subscription = await page.call('subscribe', { video: { from: id } });
    const answer = await kaigi.rest.call('DELETE', `/v1/rooms/${room}/streams/${id}`);
    expect(answer.status).toBe(200);
    await page.isTold('progress', { sessionId: id, status: 'error' });
    await page.isTold('progress', { sessionId: subscription, status: 'error', data: 'Source stream loss' });
    await page.isTold('stream', { id, status: 'remove' });
    const told = (await page.call('told')).map(({ event, data }) => `${event} ${JSON.stringify(data)}`);
    const place = (...parts: string[]): number => told.findIndex((line) => parts.every((part) => line.includes(part)));
    expect(place('progress', subscription, 'Source stream loss')).toBeLessThan(place('stream', id, '"remove"'));
  });
});

describe('who speaks', () => {
  it('is told of the mixed stream', async () => {
    const id = await page.call('publish', { look: RED });
    await kaigi.rest.patchStream(room, id, [{ op: 'add', path: '/info/inViews', value: 'common' }]);
    await page.isTold('stream', { id: `${room}-common`, status: 'update', data: { field: 'activeInput', value: id } });
    await page.call('unpublish', id);
  });
});

it('tells nobody of streams in a room that does not want it', async () => {
  const discreet = await kaigi.rest.createRoom('discreet', { notifying: { participantActivities: true, streamChange: false } });
  const guest = await browser.raw(kaigi, 'guest');
  await guest.join(kaigi, discreet);
  const id = await guest.call('publish', { look: RED });
  await guest.call('request', 'text', { to: 'all', message: 'published' });
  await guest.isTold('text', { message: 'published' });
  expect((await guest.call('told')).filter(({ event }) => event === 'stream')).toEqual([]);
  expect((await kaigi.rest.streams(discreet)).map((stream) => stream.id)).toContain(id);
  await guest.close();
});
