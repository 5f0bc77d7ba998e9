import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Api } from '../harness/api';
import { Chromium } from '../harness/browser';
import { RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { MediaRelay } from '../harness/lossy';
import type { RawPage } from '../harness/raw';
import { until } from '../harness/until';
import { ROOM_WITH_ADMIN } from '../harness/wishes';
import type { Counters } from '../page/raw';

/** Where the relay stands. */
const RELAY = '127.0.0.9';
const SIZE = { width: 320, height: 240 };

interface Counted {
  kind: 'audio' | 'video';
  packets: number;
  bytes: number;
  packetsLost: number;
  fractionLost: number;
  frames: number;
  keyFrames: number;
  retransmitted: number;
  nacks: number;
  plis: number;
  bitrate: number;
  frameRate?: number;
  jitter: number;
  resolution?: { width: number; height: number };
  flowing: boolean;
  takers: number;
}
interface StreamStats {
  id: string;
  time: number;
  rtt?: number;
  subscriptions: number;
  tracks: Counted[];
}
interface SubscribedTrack {
  kind: 'audio' | 'video';
  from: string;
  format: { codec: string };
  asked?: { resolution: { width: number; height: number } };
  served: string;
  layer?: { track: string; resolution?: { width: number; height: number } };
  limit: string;
  sent: Counted;
  decisions: { time: number; what: string; why: string }[];
}
interface Subscription {
  id: string;
  participant: string;
  rtt?: number;
  estimatedBitrate?: number;
  tracks: SubscribedTrack[];
}

let relay: MediaRelay;
let kaigi: Kaigi;
let browser: Chromium;
let api: Api;
let room: string;
let ann: RawPage;
let bob: RawPage;
/** What Ann publishes, and Bob's subscription of it. */
let stream: string;
let subscription: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'stats', args: ['--announce', RELAY, '--media-workers', '1'] });
  relay = await MediaRelay.start(kaigi.ports.media, RELAY);
  browser = await Chromium.launch('stats');
  api = new Api(kaigi.managementUrl, kaigi.service);
  room = await kaigi.rest.createRoom('stats', ROOM_WITH_ADMIN);
  ann = await browser.raw(kaigi, 'ann');
  bob = await browser.raw(kaigi, 'bob');
  await ann.join(kaigi, room);
  await bob.join(kaigi, room);
  stream = await ann.call('publish', { look: RED, size: SIZE, noise: true });
  subscription = await bob.call('subscribe', { audio: { from: stream }, video: { from: stream } });
  await bob.moves(subscription, 60);
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  relay?.stop();
});
beforeEach(() => relay.heal());

const get = async <T>(path: string): Promise<T> => (await api.ok('GET', `/v1.1/rooms/${room}${path}`)) as T;
const ofStream = (id = stream): Promise<StreamStats> => get(`/streams/${id}/stats`);
const ofSubscription = (id = subscription): Promise<Subscription> => get(`/subscriptions/${id}`);
const published = async (kind: 'audio' | 'video'): Promise<Counted> => (await ofStream()).tracks.find((track) => track.kind === kind)!;
const track = async (kind: 'audio' | 'video', id = subscription): Promise<SubscribedTrack> =>
  (await ofSubscription(id)).tracks.find((one) => one.kind === kind)!;

/** Whether two numbers differ by that share at most. */
function isClose(what: string, found: number, wanted: number, share: number, least = 0): void {
  if (Math.abs(found - wanted) > Math.max(wanted * share, least)) throw new Error(`${what}: ${found}, the browser says ${wanted}`);
}

/** bit/s between two looks. */
const rate = (before: Counters, after: Counters): number => ((after.bytes - before.bytes) * 8000) / (after.at - before.at);

/**
 * What both say of a picture or a sound after two seconds more; they look one after the other, so that one is some packets ahead. So many key
 * frames may be skipped by a browser: where the layer changes at once, the next one's comes before the first was shown.
 */
async function agree(browserCounts: () => Promise<Counters>, kaigiCounts: () => Promise<Counted>, skipped = 0): Promise<Counted> {
  let told: Counted | undefined;
  await until(
    'the numbers agree',
    async () => {
      const before = await browserCounts();
      await new Promise((resolve) => setTimeout(resolve, 2000));
      const after = await browserCounts();
      told = await kaigiCounts();
      // A browser that begins to send probes the way by padding, which is none of a track's.
      isClose('packets', told.packets, after.packets, 0.04, 30);
      isClose('bytes', told.bytes, after.bytes, 0.06, 12_000);
      isClose('bitrate', told.bitrate, rate(before, after), 0.2);
      if (told.kind === 'video') {
        isClose('frames', told.frames, after.frames, 0.04, 4);
        isClose('frame rate', told.frameRate ?? 0, (after.frames - before.frames) / 2, 0.2);
        isClose('key frames', told.keyFrames, after.keyFrames, 0, skipped);
        expect(told.resolution).toEqual(after.size);
      }
      return true;
    },
    30_000,
  );
  return told!;
}

describe('what is counted', () => {
  it.each(['audio', 'video'] as const)('of published %s is what its browser counts', async (kind) => {
    const told = await agree(() => ann.call('counters', stream, kind), () => published(kind));
    expect(told).toMatchObject({ flowing: true, takers: 1, packetsLost: 0 });
    if (kind === 'video') expect(told.resolution).toEqual(SIZE);
  });

  it.each(['audio', 'video'] as const)('of subscribed %s is what its browser counts', async (kind) => {
    const told = await agree(() => bob.call('counters', subscription, kind), async () => ({ ...(await track(kind)).sent, kind }));
    expect(told.flowing).toBe(true);
    expect(await track(kind)).toMatchObject({ from: stream, served: 'forward', limit: 'none', format: { codec: kind === 'audio' ? 'opus' : 'vp8' } });
  });

  it('comes all at once, and of the room alone', async () => {
    const all = await get<{ time: number; streams: StreamStats[]; subscriptions: Subscription[] }>('/stats');
    expect(Math.abs(all.time - Date.now())).toBeLessThan(5000);
    expect(all.streams.map(({ id }) => id).sort()).toEqual([stream, `${room}-common`].sort());
    expect(all.streams.find(({ id }) => id === stream)?.subscriptions).toBe(1);
    expect(all.subscriptions.map(({ id, participant }) => [id, participant])).toEqual([[subscription, bob.id]]);
  });

  it('has the losses on the way in', async () => {
    const before = await published('video');
    relay.up.losesEach = 8;
    const told = await until('a dozen packets are lost', async () => {
      const now = await published('video');
      return now.packetsLost >= before.packetsLost + 12 && now;
    }, 30_000); // prettier-ignore
    expect(told.nacks).toBeGreaterThan(before.nacks);
    expect(told.retransmitted).toBeGreaterThan(before.retransmitted);
    expect(told.fractionLost).toBeGreaterThan(0);
    relay.heal();
    await until('the browser heard of as many', async () => {
      const [lost, heard] = [(await published('video')).packetsLost, (await ann.call('counters', stream, 'video')).lost];
      isClose('packets lost', lost, heard, 0, 1);
      return true;
    });
    const all = (await ofStream()).tracks.reduce((sum, { packetsLost }) => sum + packetsLost, 0);
    expect(all).toBeLessThanOrEqual(relay.up.lost);
    // Retransmissions are lost, too, and are no losses of the stream.
    expect(all).toBeGreaterThan(relay.up.lost * 0.7);
  });

  it('has the losses on the way out', async () => {
    const before = (await track('video')).sent;
    relay.down.losesEach = 8;
    const told = await until('a dozen packets are lost', async () => {
      const { sent } = await track('video');
      return sent.packetsLost >= before.packetsLost + 12 && sent;
    }, 30_000); // prettier-ignore
    expect(told.nacks).toBeGreaterThan(before.nacks);
    expect(told.retransmitted).toBeGreaterThan(before.retransmitted);
    relay.heal();
    await until('both count as many', async () => {
      const [lost, seen] = [(await track('video')).sent.packetsLost, (await bob.call('counters', subscription, 'video')).lost];
      isClose('packets lost', lost, seen, 0, 1);
      return true;
    });
  });

  it('has the round trips to publisher and subscriber', async () => {
    relay.up.delay = 40;
    relay.down.delay = 40;
    await until('both are known', async () => {
      const [up, down] = [(await ofStream()).rtt ?? 0, (await ofSubscription()).rtt ?? 0];
      if (![up, down].every((rtt) => rtt >= 80 && rtt < 130)) throw new Error(`${up} ms, ${down} ms`);
      return true;
    }, 30_000); // prettier-ignore
  });
});

describe('why something is seen or not', () => {
  const control = (operation: 'pause' | 'play'): Promise<unknown> => bob.call('request', 'subscription-control', { id: subscription, operation, data: 'video' });
  const whys = async (): Promise<string[]> => (await track('video')).decisions.map(({ why }) => why);

  it('begins with the subscription', async () => {
    const told = await track('video');
    expect(told.decisions.slice(0, 3).map(({ why }) => why)).toEqual([
      `subscribed to ${stream}`,
      expect.stringMatching(/^takes \S+, as published$/),
      expect.stringMatching(/^source set/),
    ]);
    const times = told.decisions.map(({ time }) => time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(times.every((time) => Math.abs(time - Date.now()) < 600_000)).toBe(true);
  });

  it('is a pause of the subscriber', async () => {
    await control('pause');
    await until('it is paused', async () => (await track('video')).limit === 'paused');
    expect(await whys()).toContain('paused by its participant');
    expect((await track('video')).layer).toBeUndefined();
    await until('nothing flows', async () => !(await track('video')).sent.flowing);
    await control('play');
    await until('it flows again', async () => {
      const { limit, sent } = await track('video');
      return limit === 'none' && sent.flowing;
    });
    expect(await whys()).toEqual(expect.arrayContaining(['resumed by its participant', 'resumed, waits for a key frame']));
  });

  it('is a pause of the source', async () => {
    const patch = (value: string): Promise<unknown> => api.ok('PATCH', `/v1.1/rooms/${room}/streams/${stream}`, [{ op: 'replace', path: '/media/video/status', value }]);
    await patch('inactive');
    await until('its source is paused', async () => (await track('video')).limit === 'source');
    expect(await whys()).toEqual(expect.arrayContaining(['source paused by management', 'source is paused']));
    expect((await published('video')).flowing).toBe(false);
    await patch('active');
    await until('it flows again', async () => (await track('video')).limit === 'none');
  });

  it('is that less was asked for, which is made', async () => {
    const size = { width: 160, height: 120 };
    const small = await bob.call('subscribe', { video: { from: stream, parameters: { resolution: size } } });
    const told = await until('it is transcoded', async () => {
      const one = await track('video', small);
      return one.served === 'transcoded' && one.sent.flowing && one;
    });
    expect(told).toMatchObject({ asked: { resolution: size }, limit: 'asked', layer: { resolution: size } });
    expect(told.decisions.map(({ why }) => why)).toContain('transcoding asked: vp8 160×120');
    const seen = await until('the browser shows it', async () => {
      const { size: shown } = await bob.call('counters', small, 'video');
      return shown.width > 0 && shown;
    });
    expect(seen).toEqual(size);
    await bob.call('unsubscribe', small);
    expect((await api.get(`/v1.1/rooms/${room}/subscriptions/${small}`)).status).toBe(404);
  });

  it('is that it is mixed', async () => {
    const mixed = `${room}-common`;
    const id = await bob.call('subscribe', { video: { from: mixed } });
    const told = await agree(() => bob.call('counters', id, 'video'), async () => ({ ...(await track('video', id)).sent, kind: 'video' }), 1);
    expect(await track('video', id)).toMatchObject({ from: mixed, served: 'mixed', limit: 'none' });
    const [made] = (await ofStream(mixed)).tracks;
    expect(made).toMatchObject({ kind: 'video', takers: 1, flowing: true, resolution: told.resolution });
    isClose('bitrate of what is made', made?.bitrate ?? 0, told.bitrate, 0.2);
    await bob.call('unsubscribe', id);
  });
});
