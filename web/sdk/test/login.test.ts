import { beforeAll, describe, expect, it, vi } from 'vitest';
import { serverUrl } from '../src/token.js';
import { Bench, FakeMediaStream, LOGIN, streamInfo, TOKEN } from './fakes.js';

beforeAll(() => Object.assign(globalThis, { MediaStream: FakeMediaStream }));

const token = (fields: object) => btoa(JSON.stringify(fields));

describe('a token', () => {
  it('says where the server is', () => {
    expect(serverUrl(token({ host: 'a.example:8080', secure: true }))).toBe('https://a.example:8080');
    expect(serverUrl(token({ host: '127.0.0.1:8080', secure: false }))).toBe('http://127.0.0.1:8080');
    expect(serverUrl(token({ host: 'http://a.example', secure: true }))).toBe('http://a.example');
  });

  it.each([['not base64 §'], [btoa('no json')], [token({})], [token({ host: 'a b' })], [btoa('null')]])(
    'that makes no sense is an error: %s',
    (bad) => expect(() => serverUrl(bad)).toThrow(expect.objectContaining({ code: 'invalid-token' })),
  );
});

describe('joining', () => {
  it('logs in with the token in protocol 1.2 and tells who and what is there', async () => {
    const bench = new Bench();
    const joining = bench.client.join(TOKEN);
    const login = await bench.socket.next('login');
    expect(bench.sockets[0]?.url).toBe('https://conference.example:8080');
    expect(login.data).toMatchObject({ token: TOKEN, protocol: '1.2' });
    expect(login.data.userAgent.sdk).toEqual({ type: expect.any(String), version: expect.any(String) });

    login.ok(LOGIN);
    const info = await joining;
    expect(info.self).toMatchObject({ id: 'me', user: 'Aki', role: 'presenter' });
    expect([...info.participants.keys()]).toEqual(['me', 'other']);
    expect([...info.streams.values()].map(({ id, type }) => [id, type])).toEqual([
      ['room-common', 'mixed'],
      ['theirs', 'forward'],
    ]);
    expect(info.permission.publish).toEqual({ audio: true, video: true });
  });

  it.each([
    ['that the server names', {}, 'turn:relay.example'],
    ['of the page, if it names some', { rtcConfiguration: { iceServers: [{ urls: 'stun:own.example' }] } }, 'stun:own.example'],
  ])('connects by the ICE servers %s', async (_, options, expected) => {
    const bench = new Bench(undefined, options);
    const joining = bench.client.join(TOKEN);
    const named = [{ urls: 'turn:relay.example', username: '1700000000:a', credential: 'x' }, { username: 'without a place' }];
    (await bench.socket.next('login')).ok({ ...LOGIN, iceServers: named });
    const [stream] = (await joining).streams.values();
    void bench.client.subscribe(stream!, { audio: true }).catch(() => undefined);
    await vi.waitFor(() => expect(bench.connections[0]?.configuration.iceServers?.map(({ urls }) => urls)).toEqual([expected]));
  });

  it('knows the streams of the login before a notification that follows at once', async () => {
    const bench = new Bench();
    const changes: string[] = [];
    bench.client.on('streamupdated', ({ stream, change }) => changes.push(`${stream.id} ${change}`));
    const joining = bench.client.join(TOKEN);
    const login = await bench.socket.next('login');
    login.ok(LOGIN);
    bench.socket.notify('stream', { id: 'theirs', status: 'update', data: { field: 'audio.status', value: 'inactive' } });
    await joining;
    expect(changes).toEqual(['theirs status']);
  });

  it('reports what the server has against the token, and may be tried again', async () => {
    const bench = new Bench();
    const joining = bench.client.join(TOKEN);
    (await bench.socket.next('login')).refuse('Expired');
    await expect(joining).rejects.toMatchObject({ code: 'login-refused', message: 'Expired' });
    expect(bench.socket.connected).toBe(false);

    const again = bench.client.join(TOKEN);
    (await bench.socket.next('login')).ok(LOGIN);
    await expect(again).resolves.toMatchObject({ roomId: 'room' });
  });

  it('reports a server that is not there', async () => {
    const bench = new Bench();
    const joining = bench.client.join(TOKEN);
    bench.socket.accepts = false;
    await expect(joining).rejects.toMatchObject({ code: 'connect-failed' });
  });

  it('reports a login answer that has no participant', async () => {
    const bench = new Bench();
    const joining = bench.client.join(TOKEN);
    (await bench.socket.next('login')).ok({ room: {} });
    await expect(joining).rejects.toMatchObject({ code: 'login-refused' });
  });

  it('twice at once is refused here', async () => {
    const bench = await Bench.joined();
    await expect(bench.client.join(TOKEN)).rejects.toMatchObject({ code: 'invalid-state' });
  });
});

describe('in the conference', () => {
  it('people and streams come, change and go', async () => {
    const { client, socket } = await Bench.joined();
    const seen: string[] = [];
    client.on('participantjoined', ({ participant }) => seen.push(`+${participant.user}`));
    client.on('participantleft', ({ participant }) => seen.push(`-${participant.user}`));
    client.on('streamadded', ({ stream }) => seen.push(`+${stream.id}`));
    client.on('streamremoved', ({ stream }) => seen.push(`-${stream.id} ${stream.ended}`));
    client.on('layoutchange', ({ stream, layout }) => seen.push(`${stream.id} shows ${layout[0]?.stream}`));
    client.on('activeaudioinputchange', ({ activeInput }) => seen.push(`${activeInput} is loudest`));

    socket.notify('participant', { action: 'join', data: { id: 'c', user: 'Chi', role: 'viewer' } });
    socket.notify('stream', { id: 's', status: 'add', data: streamInfo('s', 'c') });
    socket.notify('stream', { id: 'room-common', status: 'update', data: { field: 'video.layout', value: [{ stream: 's', region: {} }] } });
    socket.notify('stream', { id: 'room-common', status: 'update', data: { field: 'activeInput', value: 's' } });
    socket.notify('stream', { id: 's', status: 'remove' });
    socket.notify('participant', { action: 'leave', data: 'c' });
    expect(seen).toEqual(['+Chi', '+s', 'room-common shows s', 's is loudest', '-s true', '-Chi']);
  });

  it('selecting streams tell who is heard in them, and who leads', async () => {
    const { client, socket } = await Bench.joined();
    const seen: unknown[] = [];
    client.on('activeaudioinputchange', ({ stream, activeInput, volume }) => seen.push([stream.id, activeInput, volume]));
    const format = { codec: 'unknown' };
    const info = { owner: 'unknown', type: 'selecting', inViews: [], activeInput: 'unknown' };
    const data = { id: 'active-audio-0', type: 'forward', media: { tracks: [{ type: 'audio', status: 'active', format }] }, data: false, info };
    socket.notify('stream', { id: 'active-audio-0', status: 'add', data });
    const stream = client.info?.streams.get('active-audio-0');
    expect(stream).toMatchObject({ isSelecting: true, activeInput: 'unknown', volume: undefined });
    expect(client.info?.streams.get('theirs')?.isSelecting).toBe(false);

    const tell = (value: unknown): void => socket.notify('stream', { id: 'active-audio-0', status: 'update', data: { field: 'activeInput', value } });
    for (const volume of ['major', 'minor', 'loud']) tell({ id: 'theirs', volume });
    expect(seen).toEqual([
      ['active-audio-0', 'theirs', 'major'],
      ['active-audio-0', 'theirs', 'minor'],
      ['active-audio-0', 'theirs', undefined],
    ]);
    expect(stream?.activeInput).toBe('theirs');
  });

  it('malformed notifications are ignored', async () => {
    const { client, socket } = await Bench.joined();
    for (const name of ['participant', 'stream', 'progress', 'text']) {
      for (const data of [undefined, null, 7, 'x', [], {}, { id: 'theirs' }, { id: 'theirs', status: 'update', data: null }]) {
        socket.notify(name, data);
      }
    }
    expect(client.info?.streams.size).toBe(2);
  });

  it('texts arrive with their sender', async () => {
    const { client, socket } = await Bench.joined();
    const texts: unknown[] = [];
    client.on('messagereceived', ({ from, to, message }) => texts.push([from?.user, to, message]));
    socket.notify('text', { from: 'other', to: 'all', message: 'hello' });
    expect(texts).toEqual([['Ben', 'all', 'hello']]);

    const sending = client.send('hi', 'other');
    const text = await socket.next('text');
    expect(text.data).toEqual({ to: 'other', message: 'hi' });
    text.ok();
    await sending;
  });
});

describe('the end', () => {
  it('by leaving is told to the server and to nobody else', async () => {
    const { client, socket } = await Bench.joined();
    client.on('disconnected', () => expect.unreachable());
    const leaving = client.leave();
    (await socket.next('logout')).ok();
    await leaving;
    socket.notify('disconnect', 'io client disconnect');
    expect(socket.connected).toBe(false);
    expect(client.info).toBeUndefined();
    await expect(client.send('x')).rejects.toMatchObject({ code: 'invalid-state' });
  });

  it.each([
    ['drop', 'dropped'],
    ['disconnect', 'connection-lost'],
  ])('by %s is told to the application, once', async (event, reason) => {
    const { client, socket } = await Bench.joined();
    const reasons: string[] = [];
    client.on('disconnected', (event) => reasons.push(event.reason));
    socket.notify(event);
    socket.notify('disconnect');
    expect(reasons).toEqual([reason]);
    expect(client.info).toBeUndefined();
  });

  it('fails what is under way', async () => {
    const { client, socket } = await Bench.joined();
    const sending = client.send('hello?');
    await socket.next('text');
    socket.notify('disconnect', 'transport close');
    await expect(sending).rejects.toMatchObject({ code: 'disconnected' });
  });
});
