import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, type Look, RED, isNear } from '../harness/colours';
import { ARTIFACTS, Kaigi } from '../harness/kaigi';
import { freeUdpPort } from '../harness/live-receiver';
import { LiveServer } from '../harness/live-server';
import { LiveSource } from '../harness/live-source';
import { probe } from '../harness/media-file';
import { hears } from '../harness/room';
import { until } from '../harness/until';

const PASSWORD = 's3cr3t-of-the-camera';

interface Stream {
  id: string;
  type: string;
  media: Record<'audio' | 'video', { status: string; format: { codec: string }; parameters?: { resolution?: unknown } }>;
  info: { type: string; owner: string; attributes?: unknown };
}

let kaigi: Kaigi;
let browser: Chromium;
let server: LiveServer;
let viewer: Participant;
let room: string;

beforeAll(async () => {
  server = await LiveServer.start();
  const port = await freeUdpPort();
  const doors = { KAIGI_RTMP_LISTEN: '127.0.0.1:0', KAIGI_SRT_PORTS: `${port}-${port}` };
  kaigi = await Kaigi.start({ name: 'streaming-in', env: { KAIGI_PRIVATE_TARGETS: 'true', KAIGI_INGEST_HOSTS: '127.0.0.1', ...doors } });
  browser = await Chromium.launch('streaming-in');
  room = await kaigi.rest.createRoom('streaming-in', {});
  viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Aiko', 'presenter'));
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  await server?.stop();
});

const post = (body: object, of = room) => kaigi.rest.call('POST', `/v1/rooms/${of}/streaming-ins`, body);
const request = (url: string, attributes?: object) => ({ connection: { url }, media: { audio: 'auto', video: true }, ...(attributes && { attributes }) });

async function pull(url: string, attributes?: object): Promise<Stream> {
  const answer = await post(request(url, attributes));
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
  return JSON.parse(answer.text) as Stream;
}

async function listed(): Promise<{ id: string; state: string; connection: { url: string } }[]> {
  const answer = await kaigi.rest.call('GET', `/v1/rooms/${room}/streaming-ins`);
  return JSON.parse(answer.text) as { id: string; state: string; connection: { url: string } }[];
}

/** The viewer may learn of a stream later than who asked for it. */
async function subscribe(stream: string, patience = 20_000): Promise<string> {
  await until('the stream is in the room', async () => (await viewer.forwardStreams()).includes(stream), patience);
  return viewer.subscribe(stream);
}

async function shows(subscription: string, look: Look): Promise<void> {
  await until(`${JSON.stringify(look)} is seen`, async () => {
    const [found] = await viewer.colours(subscription, [[0.5, 0.5]]);
    if (!found || !isNear(found, look.colour)) throw new Error(JSON.stringify(found));
    return true;
  }, 45_000);
  await hears(viewer, subscription, [look], [RED, GREEN, BLUE]);
}

describe('a camera by RTSP', () => {
  it('is seen and heard as it is, and again when it was away', async () => {
    const camera = await LiveSource.camera('viewer', PASSWORD);
    try {
      await camera.run(RED);
      const stream = await pull(camera.url, { place: 'door' });
      expect(stream).toMatchObject({ type: 'forward', info: { type: 'streaming', owner: 'admin', attributes: { place: 'door' } } });
      expect(stream.id).toMatch(/^\d+$/);
      expect(stream.media.audio).toMatchObject({ status: 'active', format: { codec: 'opus' } });
      expect(stream.media.video).toMatchObject({ status: 'active', format: { codec: 'h264', profile: 'M' }, parameters: { resolution: { width: 320, height: 240 } } });
      const subscription = await subscribe(stream.id);
      await shows(subscription, RED);
      const [shown] = await listed();
      expect(shown).toMatchObject({ id: stream.id, state: 'active' });
      expect(shown?.connection.url).toMatch(/^rtsp:\/\/127\.0\.0\.1:\d+\/stream\/…$/);

      await camera.kill();
      await until('its absence is listed', async () => (await listed())[0]?.state === 'trouble', 20_000);
      await camera.run(BLUE);
      await shows(subscription, BLUE);
      await until('its return is listed', async () => (await listed())[0]?.state === 'active', 20_000);

      const { connection, media } = request(camera.url);
      const answer = await post({ connection: { ...connection, transportProtocol: 'udp', bufferSize: 262_144 }, media });
      expect(answer.status, answer.text).toBe(200);
      const byUdp = JSON.parse(answer.text) as Stream;
      const other = await subscribe(byUdp.id);
      await shows(other, BLUE);
      expect((await kaigi.rest.call('DELETE', `/v1/rooms/${room}/streaming-ins/${byUdp.id}`)).status).toBe(200);
      expect((await kaigi.rest.call('DELETE', `/v1/rooms/${room}/streaming-ins/${stream.id}`)).status).toBe(200);
      expect(await listed()).toEqual([]);
      await until('the stream is gone', async () => !(await viewer.forwardStreams()).includes(stream.id));
    } finally {
      await camera.kill();
    }
    expect(readFileSync(path.join(ARTIFACTS, 'streaming-in.log'), 'utf8')).not.toContain(PASSWORD);
  });
});

describe('what is pushed to a live server', () => {
  it('is pulled from there, put in order and its sound made Opus', async () => {
    const url = server.url('obs');
    const source = LiveSource.pushed(url);
    try {
      await source.run(GREEN);
      await until('the server has it', async () => (await probe(url)).streams.length === 2, 30_000);
      const stream = await pull(url);
      expect(stream.media.audio.format.codec).toBe('opus');
      expect(stream.media.video.format).toMatchObject({ codec: 'h264', profile: 'CB' });
      await shows(await subscribe(stream.id), GREEN);
      expect((await kaigi.rest.call('DELETE', `/v1/rooms/${room}/streams/${stream.id}`)).status).toBe(200);
    } finally {
      await source.kill();
    }
  });
});

describe('what an encoder pushes into the room', () => {
  it('is there while it pushes, and goes on when it comes back', async () => {
    const answer = await post({ connection: { listen: 'rtmp' }, media: { audio: 'auto', video: 'auto' } });
    expect(answer.status).toBe(200);
    const { id, connection, state } = JSON.parse(answer.text) as { id: string; state: string; connection: { url: string; key: string } };
    expect(state).toBe('starting');
    expect(connection.url).toMatch(/^rtmp:\/\/127\.0\.0\.1:\d+\/live$/);
    expect(await viewer.forwardStreams()).not.toContain(id);
    const source = LiveSource.pushed(`${connection.url}/${connection.key}`);
    try {
      await source.run(RED);
      const subscription = await subscribe(id, 40_000);
      await shows(subscription, RED);
      await source.kill();
      await until('its absence is listed', async () => (await listed()).find((one) => one.id === id)?.state === 'trouble', 20_000);
      await source.run(BLUE);
      await shows(subscription, BLUE);
      expect((await kaigi.rest.call('DELETE', `/v1/rooms/${room}/streaming-ins/${id}`)).status).toBe(200);
      await until('the stream is gone', async () => !(await viewer.forwardStreams()).includes(id));
    } finally {
      await source.kill();
    }
    expect(readFileSync(path.join(ARTIFACTS, 'streaming-in.log'), 'utf8')).not.toContain(connection.key);
  });
});

describe('what an encoder pushes by SRT', () => {
  it('is seen and heard, with the key as its passphrase', async () => {
    const answer = await post({ connection: { listen: 'srt' }, media: { audio: 'auto', video: 'auto' } });
    expect(answer.status, answer.text).toBe(200);
    const { id, connection } = JSON.parse(answer.text) as { id: string; connection: { url: string; key: string } };
    const source = LiveSource.pushed(`${connection.url}?passphrase=${connection.key}`, { between: 0 });
    try {
      await source.run(GREEN);
      await shows(await subscribe(id, 40_000), GREEN);
      expect((await kaigi.rest.call('DELETE', `/v1/rooms/${room}/streaming-ins/${id}`)).status).toBe(200);
    } finally {
      await source.kill();
    }
  });
});

describe('what can not be pulled', () => {
  it.each([
    ['of another kind', 'ftp://127.0.0.1/a', 'nothing can be pulled from such a URL'],
    ['a file of the machine', 'file:///etc/passwd', 'there is no such file'],
  ])('is refused: %s', async (_, url, reason) => {
    const answer = await post(request(url));
    expect(answer.status).toBe(500);
    expect(JSON.parse(answer.text)).toEqual({ error: { code: 1301, message: reason } });
  });

  const good = request('rtsp://127.0.0.1:9/x');

  it.each([{}, { ...good, connection: {} }, { ...good, connection: { url: 7 } }, { ...good, media: { audio: true } }, { ...good, media: { audio: 'x', video: true } }, { ...good, more: 1 }])(
    'nor is what is asked in another form: %j',
    async (body) => {
      const answer = await post(body);
      expect([answer.status, JSON.parse(answer.text)]).toEqual([500, { error: { code: 1301, message: 'Operation failed' } }]);
    },
  );

  it('nor by a room that is not there', async () => {
    expect((await post(request('rtsp://127.0.0.1/a'), 'f'.repeat(24))).status).toBe(404);
    expect(await listed()).toEqual([]);
  });
});
