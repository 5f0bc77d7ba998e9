import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../../harness/browser';
import { GREEN, RED } from '../../harness/colours';
import { commands, runCall, start } from '../../harness/guides';
import { Kaigi } from '../../harness/kaigi';
import { LiveServer, freePort } from '../../harness/live-server';
import { LiveSource } from '../../harness/live-source';
import { probe } from '../../harness/media-file';
import { publisher } from '../../harness/room';
import { until } from '../../harness/until';

/** Commands that `docs/streaming.md` gives its readers, run as they stand there but for the servers that they name. */
const ALL = commands('streaming.md');
const posts = (what: string) => ALL.filter(({ text }) => text.startsWith('call POST') && text.includes(`/${what}"`));

/** Who stores broadcasts at Kaigi itself has this. */
const KEY = 'abcdefghijklmnopqrstuvwxyz';

let kaigi: Kaigi;
let origin: string;
let browser: Chromium;
let server: LiveServer;
let camera: LiveSource;
let room: string;

beforeAll(async () => {
  server = await LiveServer.start();
  origin = `127.0.0.1:${await freePort()}`;
  const doors = { KAIGI_RTMP_LISTEN: '127.0.0.1:0', KAIGI_HLS_LISTEN: origin, KAIGI_HLS_KEY: KEY };
  kaigi = await Kaigi.start({ name: 'guides', env: { KAIGI_PRIVATE_TARGETS: 'true', ...doors } });
  browser = await Chromium.launch('guides');
  camera = await LiveSource.camera('user', 'password');
  await camera.run(GREEN);
  room = kaigi.service.room;
  await publisher(browser, kaigi, room, 'Aiko', RED);
});
afterAll(async () => {
  await browser?.close();
  await camera?.kill();
  await kaigi?.stop();
  await server?.stop();
});

interface Running {
  id: string;
  state: string;
  connection?: { url: string; key: string };
}

/** Runs a command; the servers that it names are those of this test. */
async function call(text: string, variables: Record<string, string> = {}): Promise<Running> {
  const here = text
    .replace('rtmp://live.example/app/KEY', server.url('guide'))
    .replace('rtmps://a.rtmps.youtube.com/live2/', server.url(''))
    .replace('rtmp://127.0.0.1/live/test', server.url('test'))
    .replace('127.0.0.1:8090', origin)
    .replace(/rtsp:\/\/user:password@[^"]*/, camera.url);
  const printed = await runCall(kaigi, here, { ROOM: room, MIXED: `${room}-common`, KEY: 'key', ...variables });
  return (printed === '' ? {} : JSON.parse(printed)) as Running;
}

async function isActive(kind: string, id: string): Promise<void> {
  await until(`${kind} ${id} is active`, async () => {
    const list = JSON.parse((await kaigi.rest.call('GET', `/v1/rooms/${room}/${kind}`)).text) as Running[];
    const found = list.find((one) => one.id === id);
    if (found?.state !== 'active') throw new Error(JSON.stringify(found));
    return true;
  }, 40_000);
}

/** As the page says that it is ended. */
async function end(kind: string, id: string): Promise<void> {
  const [command] = ALL.filter(({ text }) => text.startsWith('call DELETE'));
  await call((command?.text ?? '').replace('recordings', kind), { ID: id });
}

describe('recordings', () => {
  it.each(posts('recordings'))('$section: $text', async ({ text }) => {
    const { id } = await call(text);
    await isActive('recordings', id);
    await end('recordings', id);
  });
});

describe('broadcasts', () => {
  it.each(posts('streaming-outs'))('$section: $text', async ({ text, section }) => {
    const { id } = await call(text, section.startsWith('Kept') ? { KEY } : {});
    await isActive('streaming-outs', id);
    if (section.startsWith('Kept')) expect((await probe(`http://${origin}/live/show.m3u8`)).streams).toHaveLength(2);
    if (section.startsWith('To YouTube')) {
      expect((await probe(server.url('key'))).streams.find(({ codec_type }) => codec_type === 'video')).toMatchObject({ width: 1280, height: 720 });
    }
    await end('streaming-outs', id);
  });
});

describe('streams in', () => {
  it.each(posts('streaming-ins'))('$section: $text', async ({ text, section }) => {
    const { id, connection } = await call(text);
    if (connection?.key) {
      const [push] = ALL.filter((one) => one.section === section && one.text.startsWith('ffmpeg'));
      execFileSync('ffmpeg', ['-v', 'error', '-f', 'lavfi', '-i', 'testsrc=s=320x240:r=25:d=20', '-f', 'lavfi', '-i', 'sine=d=20', '-pix_fmt', 'yuv420p', path.join(kaigi.dataDir, 'talk.mp4')]);
      const encoder = start(kaigi, (push?.text ?? '').replace('rtmp://localhost:1935/live', connection.url), { KEY: connection.key }, kaigi.dataDir);
      try {
        await isActive('streaming-ins', id);
      } finally {
        encoder.kill('SIGKILL');
      }
    } else {
      await isActive('streaming-ins', id);
    }
    await end('streaming-ins', id);
  });

  it('are all of the page that ask for something', () => {
    const asked = ALL.filter(({ text }) => text.startsWith('call POST')).length;
    expect(asked).toBe(posts('recordings').length + posts('streaming-outs').length + posts('streaming-ins').length);
    expect(asked).toBeGreaterThan(6);
  });
});
