import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Emitter } from '../src/emitter.js';
import type { Publication, PublicationEvents } from '../src/publication.js';
import { LocalStream } from '../src/streams.js';
import type { Subscription, SubscriptionEvents } from '../src/subscription.js';
import { answerTo, Bench, FakeMediaStream, fakeMedia, fakeTrack, settle } from './fakes.js';

beforeAll(() => Object.assign(globalThis, { MediaStream: FakeMediaStream }));
beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }));
afterEach(() => vi.useRealTimers());

const camera = () => new LocalStream(fakeMedia('audio', 'video'));

/** What publications and subscriptions tell alike. */
type Common = Pick<PublicationEvents & SubscriptionEvents, 'recovering' | 'recovered' | 'error' | 'ended'>;

interface Scene {
  bench: Bench;
  publication: Publication;
  subscription: Subscription;
  told: string[];
}

/** A client that publishes (p1) and watches the mix (s2), over a connection that works. */
async function scene(): Promise<Scene> {
  const bench = await Bench.joined();
  const opening = Promise.all([bench.client.publish(camera()), bench.client.subscribe('room-common')]);
  await bench.serve('publish', 'p1', 'p1');
  await bench.serve('subscribe', 's2', 'p1');
  const [publication, subscription] = await opening;
  bench.connection.become('connected');
  const told: string[] = [];
  bench.client.on('mediainterrupted', () => told.push('interrupted'));
  bench.client.on('mediarecovered', () => told.push('media is back'));
  for (const [name, session] of [['publication', publication], ['subscription', subscription]] as const) {
    const object = session as unknown as Emitter<Common>;
    object.on('recovering', ({ error }) => told.push(`${name} recovering: ${error.message}`));
    object.on('recovered', ({ previousId }) => told.push(`${name} ${previousId} is ${session.id}`));
    object.on('error', ({ error }) => told.push(`${name} error: ${error.message}`));
    object.on('ended', () => told.push(`${name} ended`));
  }
  return { bench, publication, subscription, told };
}

describe('a media connection that is interrupted', () => {
  it('for a moment is left alone', async () => {
    const { bench, told } = await scene();
    bench.connection.become('disconnected');
    await vi.advanceTimersByTimeAsync(1_900);
    bench.connection.become('connected');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toEqual(['interrupted', 'media is back']);
    expect(bench.socket.unread).toEqual([]);
  });

  it.each([['disconnected', 2_001], ['failed', 1]] as const)('and is %s is restarted with an offer', async (state, after) => {
    const { bench, publication, told } = await scene();
    bench.connection.become(state);
    await vi.advanceTimersByTimeAsync(after);
    const soac = await bench.socket.next('soac');
    expect(soac.data).toMatchObject({ id: 'p1', signaling: { type: 'offer' } });
    expect(soac.data.signaling.sdp).toContain('a=ice-ufrag:1');
    soac.ok();
    bench.connection.gather('candidate:new');
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    expect((await bench.socket.next('soac')).data.signaling.type).toBe('candidate');
    bench.connection.become('connected');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toEqual(['interrupted', 'media is back']);
    expect(publication.id).toBe('p1');
    expect(bench.connections).toHaveLength(1);
  });

  it('does not take the answer of an earlier offer for that of its restart', async () => {
    const { bench } = await scene();
    bench.connection.become('failed');
    const soac = await bench.socket.next('soac');
    soac.ok();
    const stale = answerTo(soac.data.signaling.sdp).sdp.replace('ice-ufrag:1', 'ice-ufrag:0');
    bench.progress('p1', { status: 'soac', data: { type: 'answer', sdp: stale } });
    await settle();
    expect(bench.connection.signalingState).toBe('have-local-offer');
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    await settle();
    expect(bench.connection.signalingState).toBe('stable');
  });

  it('and heals by itself while its restart goes unanswered is kept', async () => {
    const { bench, told } = await scene();
    bench.connection.become('failed');
    (await bench.socket.next('soac')).ok();
    bench.connection.become('connected');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toEqual(['interrupted', 'media is back']);
    expect(bench.connection).toMatchObject({ closed: false, rollbacks: 1, signalingState: 'stable' });
  });

  it('restarts after the negotiation that is under way', async () => {
    const { bench } = await scene();
    const subscribing = bench.client.subscribe('theirs');
    const request = await bench.socket.next('subscribe');
    bench.connection.become('failed');
    await settle();
    expect(bench.socket.unread).toEqual([]);
    request.ok({ id: 's3', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    bench.progress('p1', { sessionId: 's3', status: 'ready' });
    await subscribing;
    expect((await bench.socket.next('soac')).data.signaling.sdp).toContain('a=ice-ufrag:1');
  });

  it('that two restarts do not help is replaced, with everything on it', async () => {
    const { bench, publication, subscription, told } = await scene();
    const { stream } = subscription;
    bench.connection.become('failed');
    for (let restart = 1; restart <= 2; restart++) {
      const soac = await bench.socket.next('soac');
      expect(soac.data.signaling.sdp).toContain(`a=ice-ufrag:${restart}`);
      soac.ok();
      bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
      await settle();
      await vi.advanceTimersByTimeAsync(8_001);
    }
    expect(bench.connections[0]?.closed).toBe(true);
    expect((await bench.serve('publish', 'p3', 'p3')).data.transport).toEqual({ type: 'webrtc' });
    expect((await bench.serve('subscribe', 's4', 'p3')).data.transport).toEqual({ type: 'webrtc', id: 'p3' });
    await settle();
    bench.connection.become('connected');
    expect(told).toEqual([
      'interrupted',
      'publication recovering: The media connection broke.',
      'subscription recovering: The media connection broke.',
      'publication p1 is p3',
      'subscription s2 is s4',
      'media is back',
    ]);
    expect(publication.ended).toBe(false);
    expect(subscription.stream).toBe(stream);
    expect(stream.getTracks()).toEqual(bench.connection.transceivers.slice(2).map(({ receiver }) => receiver.track));
  });

  it('whose restart the server refuses is replaced at once', async () => {
    const { bench } = await scene();
    bench.connection.become('failed');
    (await bench.socket.next('soac')).refuse('Transport p1 does NOT exist');
    await bench.serve('publish', 'p3', 'p3');
    expect(bench.connections).toHaveLength(2);
  });
});

describe('a node that is to end', () => {
  it('is left when everything is there anew at another one', async () => {
    const { bench, publication, subscription, told } = await scene();
    const [before] = bench.connections;
    const tracks = subscription.stream.getTracks();
    bench.progress('p1', { status: 'moving' });
    expect((await bench.serve('publish', 'p3', 'p3')).data.transport).toEqual({ type: 'webrtc' });
    await settle();
    expect([publication.id, subscription.stream.getTracks()]).toEqual(['p3', tracks]);
    const subscribe = await bench.socket.next('subscribe');
    const unpublish = await bench.socket.next('unpublish');
    expect([unpublish.data, subscribe.data.transport, before?.closed]).toEqual([{ id: 'p1' }, { type: 'webrtc', id: 'p3' }, false]);
    unpublish.ok();
    subscribe.ok({ id: 's4', transportId: 'p3' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('p3', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    bench.progress('p3', { sessionId: 's4', status: 'ready' });
    const unsubscribe = await bench.socket.next('unsubscribe');
    expect(unsubscribe.data).toEqual({ id: 's2' });
    expect(subscription.stream.getTracks()).not.toEqual(tracks);
    unsubscribe.ok();
    await settle();
    expect([publication.id, subscription.id, before?.closed, bench.connections.length]).toEqual(['p3', 's4', true, 2]);
    expect(told).toEqual(['publication p1 is p3', 'subscription s2 is s4']);
  });

  it('is stayed with by what no other takes, to its end', async () => {
    const { bench, publication, subscription, told } = await scene();
    bench.progress('p1', { status: 'moving' });
    (await bench.socket.next('publish')).refuse('No access-node is available');
    await bench.serve('subscribe', 's4', 's4');
    (await bench.socket.next('unsubscribe')).ok();
    await settle();
    expect([publication.id, subscription.id, bench.connections[0]?.closed]).toEqual(['p1', 's4', false]);
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    await bench.serve('publish', 'p5', 's4');
    await settle();
    expect([publication.id, subscription.id]).toEqual(['p5', 's4']);
    expect(told).toContain('publication recovering: Node lost');
    expect(told.filter((what) => what.startsWith('subscription'))).toEqual(['subscription s2 is s4']);
  });
});

describe('a node that is lost', () => {
  it.each([
    ['its transport', { status: 'error', data: 'Node lost' }],
    ['one of its sessions', { sessionId: 's2', status: 'error', data: 'Node lost' }],
    ['one of its sessions, in other words', { sessionId: 'p1', status: 'error', data: 'Access node exited unexpectedly' }],
  ])('takes everything with it, of which the server names %s, and everything is made anew elsewhere', async (_, message) => {
    const { bench, publication, subscription, told } = await scene();
    bench.progress('p1', message);
    expect(told.slice(0, 2)).toEqual(['interrupted', `publication recovering: ${message.data}`]);
    expect(publication.recovering && subscription.recovering).toBe(true);
    await expect(publication.mute('audio')).rejects.toMatchObject({ code: 'disconnected' });
    await bench.serve('publish', 'p3', 'p3');
    await bench.serve('subscribe', 's4', 'p3');
    await settle();
    expect([publication.id, subscription.id]).toEqual(['p3', 's4']);
  });

  it('is followed by further attempts if there is no other yet, with growing waits', async () => {
    const { bench, publication, subscription } = await scene();
    void subscription.stop();
    (await bench.socket.next('unsubscribe')).ok();
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    (await bench.socket.next('publish')).refuse('No access-node is available');
    await vi.advanceTimersByTimeAsync(400);
    expect(bench.socket.unread).toEqual([]);
    (await bench.socket.next('publish')).refuse('No access-node is available');
    await bench.serve('publish', 'p3', 'p3');
    await settle();
    expect(publication).toMatchObject({ id: 'p3', recovering: false });
  });

  it('ends what can not be made anew in the end, with the last reason', async () => {
    const { bench, told, subscription, publication } = await scene();
    void subscription.stop();
    (await bench.socket.next('unsubscribe')).ok();
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    for (let attempt = 1; attempt <= 8; attempt++) (await bench.socket.next('publish')).refuse('No access-node is available');
    await settle();
    expect(told.slice(-2)).toEqual(['publication error: No access-node is available', 'publication ended']);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(bench.socket.unread).toEqual([]);
    expect(publication.ended).toBe(true);
  });

  it('is not fought against what will not change', async () => {
    const { bench, told } = await scene();
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    (await bench.socket.next('publish')).refuse('unauthorized');
    await settle();
    expect(told).toContain('publication error: unauthorized');
  });

  it('does not bring back what is stopped meanwhile', async () => {
    const { bench, publication, subscription, told } = await scene();
    void subscription.stop();
    (await bench.socket.next('unsubscribe')).ok();
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    const request = await bench.socket.next('publish');
    await publication.stop();
    request.ok({ id: 'p3', transportId: 'p3' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('p3', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    bench.progress('p3', { sessionId: 'p3', status: 'ready' });
    expect((await bench.socket.next('unpublish')).data).toEqual({ id: 'p3' });
    expect(told.at(-1)).toBe('publication ended');
  });
});

describe('what is made anew', () => {
  it('sends the tracks that were sent last', async () => {
    const { bench, publication } = await scene();
    const other = fakeTrack('video');
    await publication.replaceTrack('video', other);
    await publication.replaceTrack('audio', null);
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    const request = await bench.serve('publish', 'p3', 'p3');
    expect(request.data.media.tracks.map(({ type }: { type: string }) => type)).toEqual(['audio', 'video']);
    expect(bench.connection.transceivers.slice(0, 2).map(({ sender }) => sender.track)).toEqual([null, other]);
  });

  it('is mixed as it was', async () => {
    const { bench, publication } = await scene();
    for (const operation of ['mix', 'unmix', 'mix'] as const) {
      const controlling = publication[operation]('common');
      (await bench.socket.next('stream-control')).ok();
      await controlling;
    }
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    await bench.serve('publish', 'p3', 'p3');
    const next = [await bench.socket.next('subscribe'), await bench.socket.next('stream-control')];
    expect(next[1]?.data).toEqual({ id: 'p3', operation: 'mix', data: 'common' });
  });

  it('receives what was asked for last', async () => {
    const { bench, subscription } = await scene();
    const updating = subscription.update({ from: 'theirs', video: { resolution: { width: 320, height: 240 }, framerate: 15 } });
    (await bench.socket.next('subscription-control')).ok();
    await updating;
    const muting = subscription.mute('audio');
    (await bench.socket.next('subscription-control')).ok();
    await muting;
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    await bench.serve('publish', 'p3', 'p3');
    const subscribe = await bench.serve('subscribe', 's4', 'p3');
    expect(subscribe.data.media.tracks).toMatchObject([
      { type: 'audio', from: 'theirs' },
      { type: 'video', from: 'theirs', parameters: { resolution: { width: 320, height: 240 }, framerate: 15 } },
    ]);
    expect((await bench.socket.next('subscription-control')).data).toEqual({ id: 's4', operation: 'pause', data: 'audio' });
  });
});

describe('a session that the server ends', () => {
  it.each(['Source stream loss', 'unauthorized', 'Receiver is too slow'])('because of "%s" stays ended', async (reason) => {
    const { bench, told } = await scene();
    bench.progress('p1', { sessionId: 's2', status: 'error', data: reason });
    await vi.advanceTimersByTimeAsync(120_000);
    expect(told).toEqual([`subscription error: ${reason}`, 'subscription ended']);
    expect(bench.socket.unread).toEqual([]);
  });
});

describe('leaving', () => {
  it('ends what is being made anew, without an error', async () => {
    const { bench, told } = await scene();
    bench.progress('p1', { status: 'error', data: 'Node lost' });
    told.length = 0;
    void bench.client.leave();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(told).toEqual(['publication ended', 'subscription ended']);
  });
});
