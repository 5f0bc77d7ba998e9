import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ConferenceClient } from '../src/client.js';
import { LocalStream } from '../src/streams.js';
import { Bench, FakeMediaStream, fakeMedia, LOGIN, MIX, settle, streamInfo, ticket, TOKEN } from './fakes.js';

beforeAll(() => Object.assign(globalThis, { MediaStream: FakeMediaStream }));
beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }));
afterEach(() => vi.useRealTimers());

/** What the application is told of the connection, as it happens. */
function story(client: ConferenceClient): string[] {
  const told: string[] = [];
  client.on('reconnecting', ({ attempt }) => told.push(`reconnecting ${attempt}`));
  client.on('reconnected', ({ sameParticipant }) => told.push(sameParticipant ? 'reconnected' : 'joined anew'));
  client.on('disconnected', ({ reason }) => told.push(`disconnected: ${reason}`));
  return told;
}

describe('a connection that is lost', () => {
  it('is replaced with the newest ticket and the number of the last notification', async () => {
    const bench = await Bench.resumable();
    const told = story(bench.client);
    bench.socket.notify('participant', { action: 'join', data: { id: 'c', user: 'Chi', role: 'viewer' } }, 41);
    bench.socket.notify('disconnect', 'transport close');
    expect(bench.client.state).toBe('reconnecting');
    const relogin = await (await bench.reconnects(2)).next('relogin');
    expect(relogin.data).toEqual({ ticket: ticket('t2'), seq: 41 });
    relogin.ok(ticket('t3'));
    await settle();
    expect(told).toEqual(['reconnecting 1', 'reconnected']);
    expect(bench.client.state).toBe('joined');
    expect(bench.client.info?.participants.has('c')).toBe(true);
  });

  it('and breaks again at once is replaced again', async () => {
    const bench = await Bench.resumable();
    const told = story(bench.client);
    bench.socket.notify('disconnect', 'transport close');
    const second = await bench.reconnects(2);
    (await second.next('relogin')).ok(ticket('t3'));
    second.notify('disconnect', 'transport close');
    (await (await bench.reconnects(3)).next('relogin')).ok(ticket('t4'));
    await settle();
    expect(told).toEqual(['reconnecting 1', 'reconnecting 1', 'reconnected']);
  });

  it('is tried again and again, with growing waits, until the server is there', async () => {
    const bench = await Bench.resumable();
    const told = story(bench.client);
    bench.reachable = () => false;
    bench.socket.notify('disconnect', 'transport close');
    await vi.advanceTimersByTimeAsync(1_600);
    expect(bench.sockets.length).toBeGreaterThanOrEqual(2);
    await vi.advanceTimersByTimeAsync(60_000);
    const tried = bench.sockets.length;
    expect(tried).toBeGreaterThan(6);
    expect(tried).toBeLessThan(30);
    bench.reachable = () => true;
    (await (await bench.reconnects(tried + 1)).next('relogin')).ok(ticket('t3'));
    await settle();
    expect(told.at(-1)).toBe('reconnected');
  });

  it('is given up in time, and then everything ends', async () => {
    const bench = await Bench.resumable({ recovery: { reconnectMs: 5_000 } });
    const told = story(bench.client);
    bench.reachable = () => false;
    bench.socket.notify('disconnect', 'transport close');
    await vi.advanceTimersByTimeAsync(5_001);
    expect(told.at(-1)).toBe('disconnected: connection-lost');
    expect(bench.client.info).toBeUndefined();
    expect(bench.page.watched).toBe(0);
    const tried = bench.sockets.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(bench.sockets).toHaveLength(tried);
  });

  it('is looked for at the other hosts too', async () => {
    const bench = await Bench.resumable({ hosts: ['second.example:8080', 'http://third.example'] });
    bench.reachable = (url) => url.includes('third');
    bench.socket.notify('disconnect', 'transport close');
    (await (await bench.reconnects(4)).next('relogin')).ok(ticket('t3'));
    expect(bench.sockets.map(({ url }) => url)).toEqual([
      'https://conference.example:8080',
      'https://conference.example:8080',
      'https://second.example:8080',
      'http://third.example',
    ]);
  });

  it('is not replaced when the client leaves meanwhile', async () => {
    const bench = await Bench.resumable();
    const told = story(bench.client);
    bench.socket.notify('disconnect', 'transport close');
    await bench.client.leave();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toEqual(['reconnecting 1']);
    expect(bench.sockets).toHaveLength(1);
    expect(bench.client.state).toBe('idle');
  });

  it('is not replaced when the server has dropped the client', async () => {
    const bench = await Bench.resumable({ tokenProvider: async () => TOKEN });
    const told = story(bench.client);
    bench.socket.notify('drop');
    bench.socket.notify('disconnect');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toEqual(['disconnected: dropped']);
    expect(bench.sockets).toHaveLength(1);
  });
});

describe('joining', () => {
  it('goes to another host if the token’s can not be reached', async () => {
    const bench = new Bench(undefined, { hosts: ['second.example'] });
    bench.reachable = (url) => url.includes('second');
    const joining = bench.client.join(TOKEN);
    (await (await bench.reconnects(2)).next('login')).ok(LOGIN);
    await expect(joining).resolves.toMatchObject({ roomId: 'room' });
  });

  it('says which of the hosts makes no sense', async () => {
    const bench = new Bench(undefined, { hosts: ['a b'] });
    await expect(bench.client.join(TOKEN)).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});

describe('without recovery', () => {
  it('the server is told that nobody comes back, and a lost connection is the end', async () => {
    const bench = new Bench(undefined, { recovery: false });
    const told = story(bench.client);
    const joining = bench.client.join(TOKEN);
    const login = await bench.socket.next('login');
    expect(login.data.reconnection).toBe(false);
    login.ok(LOGIN);
    await joining;
    bench.socket.notify('disconnect', 'transport close');
    expect(told).toEqual(['disconnected: connection-lost']);
  });
});

describe('notifications', () => {
  it('that come twice are told once; those without a number always', async () => {
    const bench = await Bench.resumable();
    const texts: string[] = [];
    bench.client.on('messagereceived', ({ message }) => texts.push(message));
    const say = (message: string, seq?: number) => bench.socket.notify('text', { from: 'other', to: 'all', message }, seq);
    say('one', 1);
    say('two', 2);
    bench.socket.notify('disconnect', 'transport close');
    const relogin = await (await bench.reconnects(2)).next('relogin');
    expect(relogin.data.seq).toBe(2);
    relogin.ok(ticket('t3'));
    say('two', 2);
    say('three', 3);
    say('unnumbered', 0);
    say('unnumbered');
    expect(texts).toEqual(['one', 'two', 'three', 'unnumbered', 'unnumbered']);
  });
});

describe('requests', () => {
  it('wait for the connection and are sent once, in order', async () => {
    const bench = await Bench.resumable();
    bench.socket.notify('disconnect', 'transport close');
    const first = bench.client.send('first');
    const second = bench.client.send('second', 'other');
    const socket = await bench.reconnects(2);
    const relogin = await socket.next('relogin');
    expect(socket.unread).toEqual([]);
    relogin.ok(ticket('t3'));
    for (const message of ['first', 'second']) {
      const text = await socket.next('text');
      expect(text.data.message).toBe(message);
      text.ok();
    }
    await Promise.all([first, second]);
  });

  it('do not wait for ever', async () => {
    const bench = await Bench.resumable();
    bench.reachable = () => false;
    bench.socket.notify('disconnect', 'transport close');
    const sending = bench.client.send('hello?');
    const failed = expect(sending).rejects.toMatchObject({ code: 'timeout' });
    await vi.advanceTimersByTimeAsync(30_001);
    await failed;
  });

  it('do not wait in any number', async () => {
    const bench = await Bench.resumable();
    bench.reachable = () => false;
    bench.socket.notify('disconnect', 'transport close');
    const waiting = Array.from({ length: 128 }, () => bench.client.send('x'));
    await expect(bench.client.send('one too many')).rejects.toMatchObject({ code: 'overloaded' });
    await bench.client.leave();
    const outcomes = await Promise.allSettled(waiting);
    expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true);
  });

  it('that may have been done are not done twice: texts fail, mutes are repeated', async () => {
    const bench = await Bench.resumable();
    const publishing = bench.client.publish(new LocalStream(fakeMedia('audio')));
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const sending = bench.client.send('hello?');
    const muting = publication.mute('audio');
    await bench.socket.next('text');
    await bench.socket.next('stream-control');
    const failed = expect(sending).rejects.toMatchObject({ code: 'disconnected' });
    bench.socket.notify('disconnect', 'transport close');
    await failed;
    const socket = await bench.reconnects(2);
    (await socket.next('relogin')).ok(ticket('t3'));
    const again = await socket.next('stream-control');
    expect(again.data).toEqual({ id: 'p1', operation: 'pause', data: 'audio' });
    again.ok();
    await muting;
  });
});

describe('a publish during which the connection breaks', () => {
  it('before it is acknowledged is asked for again', async () => {
    const bench = await Bench.resumable();
    const publishing = bench.client.publish(new LocalStream(fakeMedia('audio')));
    await bench.socket.next('publish');
    bench.socket.notify('disconnect', 'transport close');
    (await (await bench.reconnects(2)).next('relogin')).ok(ticket('t3'));
    await bench.serve('publish', 'p2', 'p2');
    expect((await publishing).id).toBe('p2');
  });

  it('after the offer waits for the answer, which comes later', async () => {
    const bench = await Bench.resumable();
    const publishing = bench.client.publish(new LocalStream(fakeMedia('audio')));
    (await bench.socket.next('publish')).ok({ id: 'p1', transportId: 'p1' });
    const offer = await bench.socket.next('soac');
    offer.ok();
    bench.reachable = () => false;
    bench.socket.notify('disconnect', 'transport close');
    await vi.advanceTimersByTimeAsync(25_000);
    bench.reachable = () => true;
    (await (await bench.reconnects(bench.sockets.length + 1)).next('relogin')).ok(ticket('t3'));
    bench.progress('p1', { status: 'soac', data: { type: 'answer', sdp: offer.data.signaling.sdp.replaceAll('sendonly', 'recvonly') } });
    bench.progress('p1', { sessionId: 'p1', status: 'ready' });
    expect((await publishing).id).toBe('p1');
  });
});

describe('tickets', () => {
  it('are replaced before they expire', async () => {
    const bench = await Bench.resumable();
    await vi.advanceTimersByTimeAsync(539_000);
    expect(bench.socket.unread).toEqual([]);
    await vi.advanceTimersByTimeAsync(2_000);
    (await bench.socket.next('refreshReconnectionTicket')).ok(ticket('t3'));
    await settle();
    bench.socket.notify('disconnect', 'transport close');
    expect((await (await bench.reconnects(2)).next('relogin')).data.ticket).toBe(ticket('t3'));
  });

  it('that may have been used up make way for the spare one', async () => {
    const bench = await Bench.resumable();
    bench.socket.notify('disconnect', 'transport close');
    const second = await bench.reconnects(2);
    expect((await second.next('relogin')).data.ticket).toBe(ticket('t2'));
    second.notify('disconnect', 'transport close');
    const third = await bench.reconnects(3);
    const relogin = await third.next('relogin');
    expect(relogin.data.ticket).toBe(ticket('t1'));
    relogin.refuse('Ticket is expired');
    const last = await (await bench.reconnects(4)).next('relogin');
    expect(last.data.ticket).toBe(ticket('t2'));
  });

  it('that are refused end the conference, without a way to a new token', async () => {
    const bench = await Bench.resumable();
    const told = story(bench.client);
    bench.socket.notify('disconnect', 'transport close');
    (await (await bench.reconnects(2)).next('relogin')).refuse('Client does NOT exist');
    await settle();
    expect(told).toEqual(['reconnecting 1', 'disconnected: refused']);
  });
});

describe('with a token provider', () => {
  const anew = { ...LOGIN, id: 'me2', room: { ...LOGIN.room, participants: [{ id: 'me2', user: 'Aki', role: 'presenter' }, { id: 'c', user: 'Chi', role: 'viewer' }], streams: [MIX, streamInfo('new', 'c')] } };

  it('a client that is not taken back joins anew, and tells what is different', async () => {
    const bench = await Bench.resumable({ tokenProvider: async () => TOKEN });
    const told = story(bench.client);
    const { client } = bench;
    const info = client.info!;
    const mix = info.streams.get('room-common');
    client.on('streamadded', ({ stream }) => told.push(`+${stream.id}`));
    client.on('streamremoved', ({ stream }) => told.push(`-${stream.id}`));
    client.on('participantjoined', ({ participant }) => told.push(`+${participant.user}`));
    client.on('participantleft', ({ participant }) => told.push(`-${participant.id}`));
    bench.socket.notify('text', { from: 'other', to: 'all', message: 'x' }, 7);
    bench.socket.notify('disconnect', 'transport close');
    (await (await bench.reconnects(2)).next('relogin')).refuse('Client does NOT exist');
    const login = await (await bench.reconnects(3)).next('login');
    expect(login.data.token).toBe(TOKEN);
    login.ok({ ...anew, reconnectionTicket: ticket('n1') });
    (await bench.socket.next('refreshReconnectionTicket')).ok(ticket('n2'));
    await settle();
    expect(told).toEqual(['reconnecting 1', 'reconnecting 2', '-theirs', '-me', '-other', '+Chi', '+new', 'joined anew']);
    expect(client.info).toBe(info);
    expect(info.self.id).toBe('me2');
    expect(info.streams.get('room-common')).toBe(mix);

    // The numbers begin anew with the place.
    bench.socket.notify('disconnect', 'transport close');
    expect((await (await bench.reconnects(4)).next('relogin')).data).toEqual({ ticket: ticket('n2'), seq: 0 });
  });

  it('a client without tickets joins anew', async () => {
    const bench = await Bench.joined(undefined, { tokenProvider: async () => TOKEN });
    bench.socket.notify('disconnect', 'transport close');
    (await (await bench.reconnects(2)).next('login')).ok(anew);
    await settle();
    expect(bench.client.info?.self.id).toBe('me2');
  });

  it('publications and subscriptions go on in the new place, as the same objects', async () => {
    const bench = await Bench.resumable({ tokenProvider: async () => TOKEN });
    const media = fakeMedia('audio', 'video');
    const publishing = bench.client.publish(new LocalStream(media, { attributes: { name: 'Aki' } }));
    await bench.serve('publish', 'p1', 'p1');
    const publication = await publishing;
    const [watching, listening] = [bench.client.subscribe('room-common'), bench.client.subscribe('theirs')];
    await bench.serve('subscribe', 's2', 'p1');
    await bench.serve('subscribe', 's3', 'p1');
    const [watched, gone] = await Promise.all([watching, listening]);
    const { stream } = watched;
    const before = stream.getTracks();
    const muting = publication.mute('audio');
    (await bench.socket.next('stream-control')).ok();
    await muting;
    const told: string[] = [];
    publication.on('recovering', () => told.push('publication recovering'));
    publication.on('recovered', ({ previousId }) => told.push(`${previousId} is ${publication.id}`));
    watched.on('recovered', ({ previousId }) => told.push(`${previousId} is ${watched.id}`));
    gone.on('error', ({ error }) => told.push(error.message));
    gone.on('ended', () => told.push('theirs ended'));

    bench.socket.notify('disconnect', 'transport close');
    (await (await bench.reconnects(2)).next('relogin')).refuse('Ticket is expired');
    (await (await bench.reconnects(3)).next('relogin')).refuse('Ticket is expired');
    (await (await bench.reconnects(4)).next('login')).ok(anew);
    const publish = await bench.serve('publish', 'q1', 'q1');
    expect(publish.data).toMatchObject({ attributes: { name: 'Aki' }, transport: { type: 'webrtc' } });
    const subscribe = await bench.socket.next('subscribe');
    const pause = await bench.socket.next('stream-control');
    expect(pause.data).toEqual({ id: 'q1', operation: 'pause', data: 'audio' });
    pause.ok();
    subscribe.ok({ id: 'q2', transportId: 'q1' });
    const soac = await bench.socket.next('soac');
    soac.ok();
    bench.progress('q1', { status: 'soac', data: { type: 'answer', sdp: soac.data.signaling.sdp.replaceAll('recvonly', 'sendonly') } });
    bench.progress('q1', { sessionId: 'q2', status: 'ready' });
    await settle();
    expect(told).toEqual(['publication recovering', 'Source stream loss', 'theirs ended', 'p1 is q1', 's2 is q2']);
    expect(bench.connections).toHaveLength(2);
    expect(bench.connection.transceivers.slice(0, 2).map(({ sender }) => sender.track)).toEqual(media.getTracks());
    expect(watched.stream).toBe(stream);
    expect(stream.getTracks()).toHaveLength(2);
    expect(stream.getTracks()[0]).not.toBe(before[0]);
  });

  it('the conference ends if its tokens are refused too', async () => {
    const bench = await Bench.joined(undefined, { tokenProvider: async () => TOKEN });
    const told = story(bench.client);
    bench.socket.notify('disconnect', 'transport close');
    for (let socket = 2; socket <= 5; socket++) (await (await bench.reconnects(socket)).next('login')).refuse('Expired');
    await settle();
    expect(told.at(-1)).toBe('disconnected: refused');
  });

  it('one that fails is asked again', async () => {
    let calls = 0;
    const bench = await Bench.joined(undefined, {
      tokenProvider: async () => {
        if (calls++ === 0) throw new Error('503');
        return TOKEN;
      },
    });
    bench.socket.notify('disconnect', 'transport close');
    (await (await bench.reconnects(2)).next('login')).ok(anew);
    await settle();
    expect(bench.client.state).toBe('joined');
  });
});

describe('the network', () => {
  it('that is there again ends the wait', async () => {
    const bench = await Bench.resumable();
    bench.page.onLine = false;
    bench.socket.notify('disconnect', 'transport close');
    await vi.advanceTimersByTimeAsync(4_000);
    expect(bench.sockets).toHaveLength(1);
    bench.page.onLine = true;
    bench.page.tell('online');
    await settle();
    expect(bench.sockets).toHaveLength(2);
  });

  it.each(['offline', 'online'] as const)('that goes %s has the connection prove itself, which is replaced if it can not', async (event) => {
    const bench = await Bench.resumable();
    const told = story(bench.client);
    bench.page.tell(event);
    (await bench.socket.next('refreshReconnectionTicket')).ok(ticket('t3'));
    await vi.advanceTimersByTimeAsync(5_000);
    expect(told).toEqual([]);

    bench.page.tell(event);
    await bench.socket.next('refreshReconnectionTicket');
    await vi.advanceTimersByTimeAsync(3_001);
    expect(told).toEqual(['reconnecting 1']);
    expect(bench.sockets[0]?.socket.connected).toBe(false);
  });
});

describe('a text', () => {
  it('of more than 2,048 characters is refused here', async () => {
    const bench = await Bench.joined();
    await expect(bench.client.send('x'.repeat(2_049))).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(bench.socket.names()).toEqual(['login']);
    const sending = bench.client.send('x'.repeat(2_048));
    (await bench.socket.next('text')).ok();
    await sending;
  });
});
