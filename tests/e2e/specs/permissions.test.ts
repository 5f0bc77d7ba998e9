import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import type { RawPage } from '../harness/raw';
import { SMALL_VIEW } from '../harness/room';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let sender: RawPage;
let receiver: RawPage;
/** Of the sender; and the receiver's subscription of it. */
let stream: string;
let subscription: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'permissions' });
  browser = await Chromium.launch('permissions');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});
beforeEach(async () => {
  room = await kaigi.rest.createRoom('permissions', { autoMix: true, views: [SMALL_VIEW] });
  [sender, receiver] = await Promise.all([browser.raw(kaigi, 'sender'), browser.raw(kaigi, 'receiver')]);
  await sender.join(kaigi, room);
  await receiver.join(kaigi, room);
  stream = await sender.call('publish', { look: RED });
  subscription = await receiver.call('subscribe', { audio: { from: stream }, video: { from: stream } });
  await receiver.sees(subscription, RED);
  await receiver.hears(subscription, [RED], [RED]);
});
afterEach(async () => {
  await Promise.all([sender.close(), receiver.close()]);
});

/** How often the receiver was told that state of a kind of the stream. */
async function told(kind: string, value: string): Promise<number> {
  const all = await receiver.call('told');
  return all.filter(({ event, data }) => {
    const { id, data: change } = data as { id: string; data?: { field?: string; value?: string } };
    return event === 'stream' && id === stream && change?.field === `${kind}.status` && change.value === value;
  }).length;
}

const control = (page: RawPage, request: string, id: string, operation: string, data: string) => page.call('request', request, { id, operation, data });

describe('a permission to publish', () => {
  it('that is withdrawn for sound stops it for everybody at once, and gives it back when it is granted again', async () => {
    const mixed = await receiver.call('subscribe', { audio: { from: `${room}-common` } });
    await receiver.hears(mixed, [RED], [RED]);
    await kaigi.rest.permit(room, sender.id, { 'publish/audio': false });
    await receiver.hears(subscription, [], [RED]);
    await receiver.hears(mixed, [], [RED]);
    expect(await told('audio', 'inactive')).toBe(1);
    await receiver.moves(subscription);
    expect((await kaigi.rest.stream(room, stream)).media.audio?.status).toBe('inactive');
    await expect(control(sender, 'stream-control', stream, 'play', 'audio')).rejects.toThrow('unauthorized');
    await expect(sender.call('publish', { look: BLUE, video: false })).rejects.toThrow('unauthorized');

    await kaigi.rest.permit(room, sender.id, { 'publish/audio': true });
    await receiver.hears(subscription, [RED], [RED]);
    await receiver.hears(mixed, [RED], [RED]);
    expect(await told('audio', 'active')).toBe(1);
  });

  it('that is withdrawn for pictures stops them for everybody at once, and gives them back', async () => {
    await kaigi.rest.permit(room, sender.id, { 'publish/video': false });
    await receiver.stands(subscription);
    await until('it is told', async () => (await told('video', 'inactive')) === 1);
    await receiver.hears(subscription, [RED], [RED]);
    await expect(control(sender, 'stream-control', stream, 'play', 'video')).rejects.toThrow('unauthorized');

    await kaigi.rest.permit(room, sender.id, { 'publish/video': true });
    await receiver.moves(subscription);
    await receiver.sees(subscription, RED);
    expect(await told('video', 'active')).toBe(1);
  });

  it('that is granted again leaves paused what the owner has paused', async () => {
    await control(sender, 'stream-control', stream, 'pause', 'audio');
    await receiver.hears(subscription, [], [RED]);
    await kaigi.rest.permit(room, sender.id, { 'publish/audio': false });
    await kaigi.rest.permit(room, sender.id, { 'publish/audio': true });
    expect((await kaigi.rest.stream(room, stream)).media.audio?.status).toBe('inactive');
    await receiver.hears(subscription, [], [RED]);
    await control(sender, 'stream-control', stream, 'play', 'audio');
    await receiver.hears(subscription, [RED], [RED]);
  });

  it('of which nothing is left ends the publication, and its subscriptions', async () => {
    await kaigi.rest.permit(room, sender.id, { publish: false });
    await sender.isTold('progress', { sessionId: stream, status: 'error', data: 'unauthorized' });
    await receiver.isTold('progress', { sessionId: subscription, status: 'error', data: 'Source stream loss' });
    await receiver.isTold('stream', { id: stream, status: 'remove' });
    await expect(sender.call('publish', { look: BLUE })).rejects.toThrow('unauthorized');
    expect(await kaigi.rest.streams(room)).toHaveLength(1);

    await kaigi.rest.permit(room, sender.id, { publish: true });
    const again = await sender.call('publish', { look: BLUE });
    const second = await receiver.call('subscribe', { audio: { from: again }, video: { from: again } });
    await receiver.sees(second, BLUE);
  });
});

describe('a permission to subscribe', () => {
  it('that is withdrawn for one kind stops it for this one at once, and gives it back', async () => {
    const witness = await sender.call('subscribe', { audio: { from: stream }, video: { from: stream } });
    await kaigi.rest.permit(room, receiver.id, { 'subscribe/video': false });
    await receiver.stands(subscription);
    await receiver.hears(subscription, [RED], [RED]);
    await expect(control(receiver, 'subscription-control', subscription, 'play', 'video')).rejects.toThrow('unauthorized');
    await expect(receiver.call('subscribe', { video: { from: stream } })).rejects.toThrow('unauthorized');
    // For others nothing has changed.
    await sender.moves(witness);
    expect((await kaigi.rest.stream(room, stream)).media.video?.status).toBe('active');

    await kaigi.rest.permit(room, receiver.id, { 'subscribe/video': true, 'subscribe/audio': false });
    await receiver.moves(subscription);
    await receiver.sees(subscription, RED);
    await receiver.hears(subscription, [], [RED]);
    await kaigi.rest.permit(room, receiver.id, { 'subscribe/audio': true });
    await receiver.hears(subscription, [RED], [RED]);
  });

  it('of which nothing is left ends the subscription', async () => {
    await kaigi.rest.permit(room, receiver.id, { subscribe: false });
    await receiver.isTold('progress', { sessionId: subscription, status: 'error', data: 'unauthorized' });
    await expect(receiver.call('subscribe', { audio: { from: stream }, video: { from: stream } })).rejects.toThrow('unauthorized');
    expect(await kaigi.rest.participants(room)).toHaveLength(2);

    await kaigi.rest.permit(room, receiver.id, { subscribe: true });
    const again = await receiver.call('subscribe', { audio: { from: stream }, video: { from: stream } });
    await receiver.sees(again, RED);
  });
});
