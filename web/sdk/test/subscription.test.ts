import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { ENLARGE_AFTER_MS, PAUSE_AFTER_MS, REDUCE_AFTER_MS } from '../src/adaptation.js';
import type { SubscribeOptions, Subscription } from '../src/subscription.js';
import { Bench, FakeMediaStream, settle } from './fakes.js';

/** The observers of an element: tests say what they see. */
const observers = { resize: [] as (() => void)[], sight: [] as ((entries: { isIntersecting: boolean }[]) => void)[] };

beforeAll(() =>
  Object.assign(globalThis, {
    MediaStream: FakeMediaStream,
    ResizeObserver: class {
      constructor(callback: () => void) {
        observers.resize.push(callback);
      }
      observe(): void {}
      disconnect(): void {}
    },
    IntersectionObserver: class {
      constructor(callback: (entries: { isIntersecting: boolean }[]) => void) {
        observers.sight.push(callback);
      }
      observe(): void {}
      disconnect(): void {}
    },
    getComputedStyle: () => ({ objectFit: 'contain' }),
    devicePixelRatio: 2,
  }),
);
beforeEach(() => {
  observers.resize.length = observers.sight.length = 0;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => vi.useRealTimers());

const LARGE = { width: 1280, height: 720 };
const SMALL = { width: 320, height: 180 };
const MIDDLE = { width: 640, height: 360 };

/** A stream of 1280×720 that the server also gives in two smaller sizes. */
const WIDE = {
  id: 'wide',
  type: 'forward',
  media: {
    tracks: [
      { type: 'audio', source: 'mic' },
      { type: 'video', id: 't-1', source: 'camera', parameters: { resolution: LARGE, framerate: 30 }, optional: { parameters: { resolution: [SMALL, { width: 320, height: 240 }, MIDDLE, { width: 800, height: 600 }], framerate: [15], bitrate: ['x0.6'], keyFrameInterval: [2] } } },
    ],
  },
  info: { owner: 'other' },
};

async function subscribed(options?: SubscribeOptions): Promise<{ bench: Bench; subscription: Subscription }> {
  const bench = await Bench.joined();
  bench.socket.notify('stream', { id: 'wide', status: 'add', data: WIDE });
  const subscribing = bench.client.subscribe('wide', options);
  await bench.serve('subscribe', 's1', 's1');
  return { bench, subscription: await subscribing };
}

/** A video element of a size in CSS pixels; the screen has two pixels to each. */
const element = (clientWidth: number, clientHeight: number) =>
  ({ clientWidth, clientHeight, srcObject: null }) as unknown as HTMLVideoElement & { clientWidth: number; clientHeight: number };

async function nextControl(bench: Bench): Promise<{ operation: string; data: unknown }> {
  const request = await bench.socket.next('subscription-control');
  request.ok();
  await settle();
  return request.data;
}

describe('an attached element', () => {
  it('plays the stream, and has the server send no more pixels than it shows', async () => {
    const { bench, subscription } = await subscribed();
    const video = element(100, 60);
    subscription.attach(video);
    expect(video.srcObject).toBe(subscription.stream);
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS);
    expect(await nextControl(bench)).toEqual({ id: 's1', operation: 'update', data: { video: { parameters: { resolution: SMALL } } } });

    Object.assign(video, { clientWidth: 300, clientHeight: 170 });
    observers.resize[0]!();
    await vi.advanceTimersByTimeAsync(ENLARGE_AFTER_MS);
    expect(await nextControl(bench)).toMatchObject({ data: { video: { parameters: { resolution: MIDDLE } } } });

    // 800×600 would fill it, but is of another shape.
    Object.assign(video, { clientWidth: 500, clientHeight: 280 });
    observers.resize[0]!();
    await vi.advanceTimersByTimeAsync(ENLARGE_AFTER_MS);
    expect(await nextControl(bench)).toMatchObject({ data: { video: { parameters: { resolution: LARGE } } } });
  });

  it('that is scrolled away has the video paused, not the sound', async () => {
    const { bench, subscription } = await subscribed();
    subscription.attach(element(640, 360));
    observers.sight[0]!([{ isIntersecting: false }]);
    await vi.advanceTimersByTimeAsync(PAUSE_AFTER_MS);
    expect(await nextControl(bench)).toEqual({ id: 's1', operation: 'pause', data: 'video' });
    observers.sight[0]!([{ isIntersecting: true }]);
    expect(await nextControl(bench)).toEqual({ id: 's1', operation: 'play', data: 'video' });
  });

  it('in a page in the background likewise', async () => {
    const { bench, subscription } = await subscribed();
    subscription.attach(element(640, 360));
    bench.page.visible = false;
    bench.page.tell('visibility');
    await vi.advanceTimersByTimeAsync(PAUSE_AFTER_MS);
    expect(await nextControl(bench)).toMatchObject({ operation: 'pause', data: 'video' });
  });

  it('does not resume what the application has muted, and what it unmutes unseen comes when it is seen', async () => {
    const { bench, subscription } = await subscribed();
    subscription.attach(element(640, 360));
    const muting = subscription.mute('video');
    await nextControl(bench);
    await muting;
    observers.sight[0]!([{ isIntersecting: false }]);
    await vi.advanceTimersByTimeAsync(PAUSE_AFTER_MS);
    observers.sight[0]!([{ isIntersecting: true }]);
    await settle();
    expect(bench.socket.unread).toEqual([]);

    observers.sight[0]!([{ isIntersecting: false }]);
    await vi.advanceTimersByTimeAsync(PAUSE_AFTER_MS);
    await subscription.unmute('video');
    expect(bench.socket.unread).toEqual([]);
    observers.sight[0]!([{ isIntersecting: true }]);
    expect(await nextControl(bench)).toMatchObject({ operation: 'play', data: 'video' });
  });

  it('adapts nothing if told so', async () => {
    const { bench, subscription } = await subscribed();
    subscription.attach(element(10, 10), { adapt: false, pauseHidden: false });
    observers.sight[0]!([{ isIntersecting: false }]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(bench.socket.unread).toEqual([]);
  });

  it('adapts nothing if a resolution was asked for, unless told so', async () => {
    const { bench, subscription } = await subscribed({ video: { resolution: LARGE } });
    const detach = subscription.attach(element(10, 10));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(bench.socket.unread).toEqual([]);
    detach();
    subscription.attach(element(10, 10), { adapt: true });
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS);
    expect(await nextControl(bench)).toMatchObject({ operation: 'update' });
  });

  it('that is detached, or whose subscription ends, is watched no more', async () => {
    const { bench, subscription } = await subscribed();
    const watched = bench.page.watched;
    const [first, second] = [element(10, 10), element(20, 20)];
    const detach = subscription.attach(first);
    subscription.attach(second);
    detach();
    detach();
    expect(first.srcObject).toBeNull();
    bench.progress('s1', { sessionId: 's1', status: 'error', data: 'Source stream loss' });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(bench.page.watched).toBe(watched);
    expect(bench.socket.unread).toEqual([]);
  });

  it('asks for the size of a layer of a simulcast stream, which the server may leave for a smaller one on a narrow way', async () => {
    const bench = await Bench.joined();
    const layer = (id: string, resolution: object) => ({ type: 'video', id, rid: id, parameters: { resolution }, optional: { parameters: { resolution: [{ width: 160, height: 90 }] } } });
    const layers = { ...WIDE, id: 'layers', media: { tracks: [layer('q', SMALL), layer('h', MIDDLE), layer('f', LARGE)] } };
    bench.socket.notify('stream', { id: 'layers', status: 'add', data: layers });
    const subscribing = bench.client.subscribe('layers');
    await bench.serve('subscribe', 's1', 's1');
    const subscription = await subscribing;
    const large = element(640, 360);
    const detach = subscription.attach(large);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(bench.socket.unread, 'the largest comes anyhow').toEqual([]);
    detach();

    subscription.attach(element(300, 160));
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS);
    expect(await nextControl(bench)).toEqual({ id: 's1', operation: 'update', data: { video: { parameters: { resolution: MIDDLE } } } });

    bench.progress('s1', { status: 'error', data: 'Node lost' });
    const again = [{ type: 'video', mid: '0', from: 'layers', parameters: { resolution: MIDDLE } }];
    expect((await bench.serve('subscribe', 's2', 's2')).data.media.tracks).toEqual(again);
  });

  it('follows the stream when its resolutions change', async () => {
    const { bench, subscription } = await subscribed();
    subscription.attach(element(500, 280));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(bench.socket.unread).toEqual([]);
    const [audio, video] = WIDE.media.tracks;
    const larger = { ...WIDE, media: { tracks: [audio, { ...video, parameters: { resolution: { width: 1920, height: 1080 } }, optional: { parameters: { resolution: [LARGE] } } }] } };
    bench.socket.notify('stream', { id: 'wide', status: 'update', data: { field: '.', value: larger } });
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS);
    expect(await nextControl(bench)).toMatchObject({ data: { video: { parameters: { resolution: LARGE } } } });
  });
});

describe('a subscription', () => {
  it('takes audio and video from different streams', async () => {
    const bench = await Bench.joined();
    const subscribing = bench.client.subscribe('room-common', { audio: { from: 'theirs' } });
    const request = await bench.serve('subscribe', 's1', 's1');
    expect(request.data.media.tracks).toMatchObject([{ type: 'audio', from: 'theirs' }, { type: 'video', from: 'room-common' }]);
    await subscribing;
  });

  it('asks for other measures with all their names', async () => {
    const { bench, subscription } = await subscribed();
    const updating = subscription.update({ video: { resolution: SMALL, framerate: 15, bitrateMultiplier: 0.6, keyFrameInterval: 2, priority: 3 } });
    expect(await nextControl(bench)).toEqual({
      id: 's1',
      operation: 'update',
      data: { video: { parameters: { resolution: SMALL, framerate: 15, bitrate: 'x0.6', keyFrameInterval: 2, priority: 3 } } },
    });
    await updating;
  });

  it('changes to another stream, as far as that has what is received', async () => {
    const { bench, subscription } = await subscribed();
    bench.socket.notify('stream', { id: 'radio', status: 'add', data: { id: 'radio', type: 'forward', media: { tracks: [{ type: 'audio' }] } } });
    const updating = subscription.update({ from: 'theirs' });
    expect(await nextControl(bench)).toMatchObject({ data: { audio: { from: 'theirs' }, video: { from: 'theirs' } } });
    await updating;
    expect(subscription.source.id).toBe('theirs');
    const tuning = subscription.update({ from: 'radio' });
    expect((await nextControl(bench)).data).toEqual({ audio: { from: 'radio' } });
    await tuning;
    await expect(subscription.update({ video: { from: 'radio' } })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(subscription.update({ from: 'nobody' })).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('stays as it was if the server refuses', async () => {
    const { bench, subscription } = await subscribed();
    const updating = subscription.update({ from: 'theirs' });
    (await bench.socket.next('subscription-control')).refuse('Update subscription failed');
    await expect(updating).rejects.toMatchObject({ code: 'refused' });
    expect(subscription.source.id).toBe('wide');
  });

  it('knows what its way is estimated to carry', async () => {
    const { bench, subscription } = await subscribed();
    const asking = subscription.queryBandwidth();
    const request = await bench.socket.next('subscription-control');
    expect(request.data).toEqual({ id: 's1', operation: 'querybwe' });
    request.ok({ estimatedBitrate: 1_200_000 });
    expect(await asking).toBe(1_200_000);
    const refused = subscription.queryBandwidth();
    (await bench.socket.next('subscription-control')).ok();
    await expect(refused).rejects.toMatchObject({ code: 'refused' });
  });
});
