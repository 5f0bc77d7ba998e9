import { beforeAll, describe, expect, it, vi } from 'vitest';
import { LocalStream } from '../src/streams.js';
import { answerTo, Bench, FakeMediaStream, fakeMedia, fakeTrack, settle } from './fakes.js';

beforeAll(() => Object.assign(globalThis, { MediaStream: FakeMediaStream }));

const camera = () => new LocalStream(fakeMedia('audio', 'video'), { attributes: { name: 'Aki' } });

describe('publishing', () => {
  it('asks with the mids of its transceivers, offers, and resolves when the server is ready', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    const publish = await bench.socket.next('publish');
    expect(publish.data).toEqual({
      media: { tracks: [{ type: 'audio', mid: '0', source: 'mic' }, { type: 'video', mid: '1', source: 'camera' }] },
      attributes: { name: 'Aki' },
      transport: { type: 'webrtc' },
    });
    publish.ok({ id: 'p1', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    expect(soac.data).toMatchObject({ id: 'p1', signaling: { type: 'offer' } });
    soac.ok();
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    bench.progress('p1', { status: 'ready' });
    let resolved = false;
    void publishing.then(() => (resolved = true));
    await settle();
    expect(resolved).toBe(false);
    bench.progress('p1', { sessionId: 'p1', status: 'ready' });
    expect(await publishing).toMatchObject({ id: 'p1', ended: false });
  });

  it('takes ready before the answer as well', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('p1', { sessionId: 'p1', status: 'ready' });
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    expect(await publishing).toMatchObject({ id: 'p1' });
  });

  it('names the transport that the first session made in every later request', async () => {
    const bench = await Bench.joined();
    const first = bench.client.publish(camera());
    const second = bench.client.subscribe('theirs');
    const publish = await bench.serve('publish', 'p1', 'p1');
    const subscribe = await bench.serve('subscribe', 's2', 'p1');
    await Promise.all([first, second]);
    expect(publish.data.transport).toEqual({ type: 'webrtc' });
    expect(subscribe.data.transport).toEqual({ type: 'webrtc', id: 'p1' });
    expect(bench.connections).toHaveLength(1);
  });

  it('negotiates one operation at a time', async () => {
    const bench = await Bench.joined();
    void bench.client.publish(camera());
    void bench.client.subscribe('theirs');
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    await settle();
    expect(bench.socket.unread).toEqual([]);
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    await bench.socket.next('subscribe');
  });

  it('with no tracks is an error that sends nothing', async () => {
    const bench = await Bench.joined();
    await expect(bench.client.publish(new LocalStream(fakeMedia()))).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(bench.socket.names()).toEqual(['login']);
  });

  it('ends by stop: the server is told, the m-lines turn inactive', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const events: string[] = [];
    publication.on('ended', () => events.push('ended'));
    publication.on('error', () => events.push('error'));
    const stopping = publication.stop();
    const unpublish = await bench.socket.next('unpublish');
    expect(unpublish.data).toEqual({ id: 'p1' });
    unpublish.refuse('gone already');
    await stopping;
    expect(events).toEqual(['ended']);
    expect(bench.connection.transceivers.map(({ direction }) => direction)).toEqual(['inactive', 'inactive']);
    await expect(publication.mute('av')).rejects.toMatchObject({ code: 'invalid-state' });
  });

  it('is muted by the server, which tells everyone', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const events: string[] = [];
    publication.on('mute', ({ kind }) => events.push(`mute ${kind}`));
    publication.on('unmute', ({ kind }) => events.push(`unmute ${kind}`));
    const muting = publication.mute('audio');
    const control = await bench.socket.next('stream-control');
    expect(control.data).toEqual({ id: 'p1', operation: 'pause', data: 'audio' });
    control.ok();
    await muting;
    bench.socket.notify('stream', { id: 'p1', status: 'update', data: { field: 'audio.status', value: 'inactive' } });
    bench.socket.notify('stream', { id: 'p1', status: 'update', data: { field: 'audio.status', value: 'active' } });
    expect(events).toEqual(['mute audio', 'unmute audio']);
  });

  it('has a place in the picture of a view, and moves', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const asking = publication.region('common');
    const get = await bench.socket.next('stream-control');
    expect(get.data).toEqual({ id: 'p1', operation: 'get-region', data: 'common' });
    get.ok({ region: '2' });
    expect(await asking).toBe('2');
    const moving = publication.setRegion('common', '1');
    const set = await bench.socket.next('stream-control');
    expect(set.data).toEqual({ id: 'p1', operation: 'set-region', data: { view: 'common', region: '1' } });
    set.refuse('Invalid region_id.');
    await expect(moving).rejects.toMatchObject({ code: 'refused' });
  });

  it('can change its tracks silently', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(new LocalStream(fakeMedia('video')));
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const other = fakeTrack('video');
    await publication.replaceTrack('video', other);
    expect(bench.connection.transceivers[0]?.sender.track).toBe(other);
    await expect(publication.replaceTrack('audio', null)).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});

describe('subscribing', () => {
  it('asks for what the stream has and gives a stream of the received tracks', async () => {
    const bench = await Bench.joined();
    const subscribing = bench.client.subscribe('theirs', { video: { resolution: { width: 320, height: 240 }, bitrateMultiplier: 0.6 } });
    const request = await bench.serve('subscribe', 's1', 's1');
    expect(request.data.media.tracks).toEqual([
      { type: 'audio', mid: '0', from: 'theirs' },
      { type: 'video', mid: '1', from: 'theirs', parameters: { resolution: { width: 320, height: 240 }, bitrate: 'x0.6' } },
    ]);
    const subscription = await subscribing;
    expect(subscription.stream.getTracks()).toEqual(bench.connection.transceivers.map(({ receiver }) => receiver.track));
  });

  it('leaves out what the server did not accept', async () => {
    const bench = await Bench.joined();
    const subscribing = bench.client.subscribe('theirs');
    (await bench.socket.next('subscribe')).ok({ id: 's1', transportId: 's1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('s1', { status: 'soac', data: answerTo(soac.data.signaling.sdp, ['0']) });
    bench.progress('s1', { sessionId: 's1', status: 'ready' });
    const subscription = await subscribing;
    expect(subscription.stream.getTracks().map(({ kind }) => kind)).toEqual(['video']);
  });

  it('fails if the server accepted nothing, and undoes the request', async () => {
    const bench = await Bench.joined();
    const subscribing = bench.client.subscribe('theirs');
    (await bench.socket.next('subscribe')).ok({ id: 's1', transportId: 's1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('s1', { status: 'soac', data: answerTo(soac.data.signaling.sdp, ['0', '1']) });
    (await bench.socket.next('unsubscribe')).ok();
    await expect(subscribing).rejects.toMatchObject({ code: 'negotiation-failed' });
  });

  it('to a kind that the stream lacks is an error that sends nothing', async () => {
    const bench = await Bench.joined();
    bench.socket.notify('stream', { id: 'radio', status: 'add', data: { id: 'radio', type: 'forward', media: { tracks: [{ type: 'audio' }] } } });
    await expect(bench.client.subscribe('radio', { video: true })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(bench.client.subscribe('nothing')).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(bench.socket.names()).toEqual(['login']);
  });

  it('mutes for itself', async () => {
    const bench = await Bench.joined();
    const subscribing = bench.client.subscribe('theirs');
    await bench.serve('subscribe', 's1', 's1');
    const subscription = await subscribing;
    const events: string[] = [];
    subscription.on('mute', ({ kind }) => events.push(kind));
    const muting = subscription.mute('video');
    const control = await bench.socket.next('subscription-control');
    expect(control.data).toEqual({ id: 's1', operation: 'pause', data: 'video' });
    control.ok();
    await muting;
    expect(events).toEqual(['video']);
  });
});

describe('ICE candidates', () => {
  it('of this side wait for the answer, and are sent once', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    const publish = await bench.socket.next('publish');
    bench.connection.gather('candidate:1');
    publish.ok({ id: 'p1', transportId: 'p1' });
    const offer = await bench.socket.next('soac');
    bench.connection.gather('candidate:2');
    bench.connection.gather('');
    bench.connection.gather(null);
    offer.ok();
    await settle();
    expect(bench.socket.unread).toEqual([]);

    bench.progress('p1', { status: 'soac', data: answerTo(offer.data.signaling.sdp) });
    const sent = [await bench.socket.next('soac'), await bench.socket.next('soac')];
    expect(sent.map(({ data }) => data)).toEqual([
      { id: 'p1', signaling: { type: 'candidate', candidate: { candidate: 'candidate:1', sdpMid: '0', sdpMLineIndex: 0 } } },
      { id: 'p1', signaling: { type: 'candidate', candidate: { candidate: 'candidate:2', sdpMid: '0', sdpMLineIndex: 0 } } },
    ]);
    bench.progress('p1', { sessionId: 'p1', status: 'ready' });
    await publishing;

    const subscribing = bench.client.subscribe('theirs');
    await bench.serve('subscribe', 's2', 'p1');
    await subscribing;
    expect(bench.socket.unread).toEqual([]);
  });

  it('of the server wait for the answer, with or without the attribute form', async () => {
    const bench = await Bench.joined();
    void bench.client.publish(camera());
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const offer = await bench.socket.next('soac');
    offer.ok();
    const candidate = (text: string) => ({ type: 'candidate', candidate: { candidate: text, sdpMid: '0', sdpMLineIndex: 0 } });
    bench.progress('p1', { status: 'soac', data: candidate('a=candidate:7') });
    await settle();
    expect(bench.connection.remoteCandidates).toEqual([]);
    bench.progress('p1', { status: 'soac', data: answerTo(offer.data.signaling.sdp) });
    await settle();
    bench.progress('p1', { status: 'soac', data: candidate('candidate:8') });
    expect(bench.connection.remoteCandidates.map(({ candidate }) => candidate)).toEqual(['candidate:7', 'candidate:8']);
  });
});

describe('an operation that fails', () => {
  it('by refusal of the very first leaves nothing but inactive m-lines', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    const subscribing = bench.client.subscribe('theirs');
    (await bench.socket.next('publish')).refuse('unauthorized');
    await expect(publishing).rejects.toMatchObject({ code: 'refused', message: 'unauthorized' });

    const request = await bench.serve('subscribe', 's1', 's1');
    expect(request.data.transport).toEqual({ type: 'webrtc' });
    expect((await subscribing).stream.getTracks()).toHaveLength(2);
    expect(bench.connection.transceivers.map(({ direction }) => direction)).toEqual(['inactive', 'inactive', 'recvonly', 'recvonly']);
    expect(bench.socket.names()).toEqual(['login', 'publish', 'subscribe', 'soac']);
  });

  it('by refusal of a later one leaves the others alone', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    await publishing;
    const refused = bench.client.subscribe('theirs');
    (await bench.socket.next('subscribe')).refuse('Stream does NOT exist');
    await expect(refused).rejects.toMatchObject({ code: 'refused' });
    const again = bench.client.subscribe('room-common');
    const request = await bench.serve('subscribe', 's2', 'p1');
    expect(request.data.transport.id).toBe('p1');
    expect((await again).stream.getTracks()).toHaveLength(2);
    expect((await publishing).ended).toBe(false);
  });

  it('by refusal does the same in a browser that can not roll back', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.socket.next('publish').then((request) => {
      bench.connection.canRollBack = false;
      request.refuse('unauthorized');
    });
    await expect(publishing).rejects.toMatchObject({ code: 'refused' });
    const subscribing = bench.client.subscribe('theirs');
    const request = await bench.serve('subscribe', 's1', 's1');
    expect(request.data.media.tracks.map(({ mid }: { mid: string }) => mid)).toEqual(['2', '3']);
    expect((await subscribing).stream.getTracks()).toHaveLength(2);
    expect(bench.connection.transceivers.map(({ direction }) => direction)).toEqual(['inactive', 'inactive', 'recvonly', 'recvonly']);
  });

  it('by refusal does not hold up candidates of the transport', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    await publishing;
    const refused = bench.client.subscribe('theirs');
    const request = await bench.socket.next('subscribe');
    bench.connection.gather('candidate:late');
    request.refuse('Stream does NOT exist');
    await expect(refused).rejects.toMatchObject({ code: 'refused' });
    expect((await bench.socket.next('soac')).data.signaling.candidate.candidate).toBe('candidate:late');
  });

  it('by a missing answer is undone, and its late answer is not taken for the next', async () => {
    const bench = await Bench.joined({ answer: 30, ready: 10_000 });
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    await publishing;
    const late = bench.client.subscribe('theirs');
    (await bench.socket.next('subscribe')).ok({ id: 's2', transportId: 'p1' });
    const unanswered = await bench.socket.next('soac');
    unanswered.ok();
    const undo = await bench.socket.next('unsubscribe');
    expect(undo.data).toEqual({ id: 's2' });
    undo.ok();
    await expect(late).rejects.toMatchObject({ code: 'timeout' });

    const next = bench.client.subscribe('room-common');
    (await bench.socket.next('subscribe')).ok({ id: 's3', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    expect(soac.data.signaling.sdp.match(/m=/g)).toHaveLength(6);
    soac.ok();
    bench.progress('p1', { status: 'soac', data: answerTo(unanswered.data.signaling.sdp) });
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    bench.progress('p1', { sessionId: 's3', status: 'ready' });
    expect((await next).id).toBe('s3');
  });

  it('by a missing first answer is followed by one that asks for a new transport', async () => {
    const bench = await Bench.joined({ answer: 10, ready: 10_000 });
    const publishing = bench.client.publish(camera());
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const lost = await bench.socket.next('soac');
    lost.ok();
    (await bench.socket.next('unpublish')).ok();
    await expect(publishing).rejects.toMatchObject({ code: 'timeout' });
    const again = bench.client.publish(camera());
    bench.progress('p1', { status: 'soac', data: answerTo(lost.data.signaling.sdp) });
    const request = await bench.serve('publish', 'p2', 'p2');
    expect(request.data.transport).toEqual({ type: 'webrtc' });
    expect((await again).id).toBe('p2');
  });

  it('by an acknowledgement that comes too late is undone', async () => {
    const bench = await Bench.joined();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const publishing = bench.client.publish(camera());
    publishing.catch(() => {});
    await vi.waitUntil(() => bench.socket.names().includes('publish'));
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(publishing).rejects.toMatchObject({ code: 'timeout' });
    vi.useRealTimers();
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    expect((await bench.socket.next('unpublish')).data).toEqual({ id: 'p1' });
  });

  it('by never becoming ready is undone', async () => {
    const bench = await Bench.joined({ answer: 10_000, ready: 10 });
    const publishing = bench.client.publish(camera());
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    (await bench.socket.next('unpublish')).ok();
    await expect(publishing).rejects.toMatchObject({ code: 'timeout' });
  });

  it('by a session error before it is ready tells the reason', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('p1', { sessionId: 'p1', status: 'error', data: 'Video format unacceptable' });
    bench.progress('p1', { status: 'soac', data: answerTo(soac.data.signaling.sdp) });
    await expect(publishing).rejects.toMatchObject({ code: 'session-failed', message: 'Video format unacceptable' });
    expect(bench.socket.unread).toEqual([]);
  });
});

describe('the server', () => {
  it('may end one session, which leaves the others alone', async () => {
    const bench = await Bench.joined();
    const opening = Promise.all([bench.client.publish(camera()), bench.client.subscribe('theirs')]);
    await bench.serve('publish', 'p1', 'p1');
    await bench.serve('subscribe', 's2', 'p1');
    const [publication, subscription] = await opening;
    const events: string[] = [];
    subscription.on('error', ({ error }) => events.push(error.message));
    subscription.on('ended', () => events.push('ended'));
    publication.on('ended', () => expect.unreachable());
    bench.progress('p1', { sessionId: 's2', status: 'error', data: 'Source stream loss' });
    expect(events).toEqual(['Source stream loss', 'ended']);
    expect(publication.ended).toBe(false);
  });

  it('may forget the transport, which shows at the next operation; that goes on with a new one, with everything else', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const subscribing = bench.client.subscribe('theirs');
    (await bench.socket.next('subscribe')).ok({ id: 's2', transportId: 'p1' });
    (await bench.socket.next('soac')).refuse('Transport p1 does NOT exist');
    (await bench.socket.next('unsubscribe')).ok();

    const republish = await bench.serve('publish', 'p3', 'p3');
    expect(republish.data.transport).toEqual({ type: 'webrtc' });
    await bench.serve('subscribe', 's4', 'p3');
    expect((await subscribing).id).toBe('s4');
    expect(publication).toMatchObject({ id: 'p3', ended: false });
    expect(bench.connections).toHaveLength(2);
  });

  it.each([
    ['says that the transport is gone', (bench: Bench) => bench.progress('p1', { status: 'error', data: 'Node lost' })],
    ['becomes unreachable for media', (bench: Bench) => bench.connection.break()],
  ])('that %s ends everything on it, if recovery is off; the next operation makes a new one', async (_, lose) => {
    const bench = await Bench.joined(undefined, { recovery: false });
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const events: string[] = [];
    publication.on('error', ({ error }) => events.push(error.code));
    publication.on('ended', () => events.push('ended'));
    lose(bench);
    expect(events).toEqual(['transport-failed', 'ended']);
    expect(bench.connection.closed).toBe(true);

    const again = bench.client.publish(camera());
    const request = await bench.serve('publish', 'p2', 'p2');
    expect(request.data.transport).toEqual({ type: 'webrtc' });
    await again;
    expect(bench.connections).toHaveLength(2);
  });

  it('may drop the client: everything ends, and what is under way fails', async () => {
    const bench = await Bench.joined();
    const publishing = bench.client.publish(camera());
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const subscribing = bench.client.subscribe('theirs');
    await bench.socket.next('subscribe');
    const events: string[] = [];
    publication.on('ended', () => events.push('ended'));
    bench.client.on('disconnected', ({ reason }) => events.push(reason));
    bench.socket.notify('drop');
    await expect(subscribing).rejects.toMatchObject({ code: 'disconnected' });
    expect(events).toEqual(['ended', 'dropped']);
    expect(bench.connection.closed).toBe(true);
  });
});

describe('layers', () => {
  it('that nobody wants are not sent until somebody does, but for those that the application keeps back', async () => {
    const bench = await Bench.joined();
    const encodings = [{ rid: 'q' }, { rid: 'h', active: false }, { rid: 'f' }];
    const publishing = bench.client.publish(camera(), { video: { encodings } });
    await bench.serve('publish', 'p1', 'p1');
    await publishing;
    const video = bench.connection.transceivers[1]!;
    video.encodings = encodings.map(({ rid, active = true }) => ({ rid, active }));
    const tell = async (id: string, wanted: Record<string, unknown>) => {
      bench.socket.notify('layers', { id, layers: Object.entries(wanted).map(([rid, wanted]) => ({ rid, wanted })) });
      await settle();
      return video.encodings.filter(({ active }) => active).map(({ rid }) => rid).join('');
    };
    expect(await tell('p1', { q: true, h: false, f: false })).toBe('q');
    expect(await tell('other', { q: false })).toBe('q');
    expect(await tell('p1', { q: 'no', x: false })).toBe('q');
    bench.socket.notify('layers', { id: 'p1', layers: 7 });
    bench.socket.notify('layers', null);
    expect(await tell('p1', { q: true, h: true, f: true })).toBe('qf');
  });
});
