import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, type Look, RED, type Rgb, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { LiveServer } from '../harness/live-server';
import { colours, levels, probe, times } from '../harness/media-file';
import { LiveReceiver } from '../harness/live-receiver';
import { type Publisher, hears as isHeard, mixingRoom, publisher, showsLayout } from '../harness/room';
import { Player } from '../harness/player';
import { hearsExactly } from '../harness/sound';
import { until } from '../harness/until';

/** What is shown where there is no picture. */
const SLATE: Rgb = [32, 32, 32];
/** In the middle of the first two quarters, which two people have. */
const QUARTERS = [[0.25, 0.25], [0.75, 0.25]] as const;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

let kaigi: Kaigi;
let browser: Chromium;
let server: LiveServer;
let room: string;
let mixed: string;
let publishers: [Publisher, Publisher];

beforeAll(async () => {
  server = await LiveServer.start();
  kaigi = await Kaigi.start({ name: 'streaming', env: { KAIGI_PRIVATE_TARGETS: 'true', KAIGI_BROADCAST_HOSTS: '127.0.0.1' } });
  browser = await Chromium.launch('streaming');
  room = await mixingRoom(kaigi, 'streaming');
  mixed = `${room}-common`;
  publishers = [await publisher(browser, kaigi, room, 'Aiko', RED), await publisher(browser, kaigi, room, 'Botan', BLUE)];
  const viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Chiyo', 'viewer'));
  const subscription = await viewer.subscribe(await viewer.mixedStream());
  await showsLayout(viewer, mixed, subscription, publishers);
  await isHeard(viewer, subscription, [RED, BLUE], [RED, BLUE]);
  await viewer.close();
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  await server?.stop();
});

interface Egress {
  id: string;
  url?: string;
  state: string;
  reason?: string;
  media: Record<'audio' | 'video', { from: string; status: string; format: { codec: string } } | undefined>;
  storage?: { host: string; file: string };
}

async function ask<T>(method: string, place: string, body?: unknown): Promise<T> {
  const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
  return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
}

const record = (media: object): Promise<Egress> => ask('POST', 'recordings', { media });
const push = (key: string, from: string): Promise<Egress> =>
  ask('POST', 'streaming-outs', { protocol: 'rtmp', url: server.url(key), media: { audio: { from }, video: { from } } });
const stop = (kind: string, { id }: Egress): Promise<void> => ask('DELETE', `${kind}/${id}`);

async function isIn(kind: string, { id }: Egress, state: string): Promise<Egress> {
  let found: Egress | undefined;
  await until(`it is ${state}`, async () => {
    found = (await ask<Egress[]>('GET', kind)).find((one) => one.id === id);
    if (found?.state !== state) throw new Error(JSON.stringify(found));
    return true;
  }, 30_000);
  if (!found) throw new Error('not listed');
  return found;
}

/** Waits until those are seen side by side. */
function shows(url: string, looks: Look[], at?: number): Promise<boolean> {
  return until(`${url} shows ${looks.length}`, async () => {
    const found: Rgb[] = await colours(url, looks.length === 1 ? [[0.5, 0.5]] : QUARTERS, at);
    const right = looks.every((look, i) => isNear(found[i] ?? [0, 0, 0], look.colour));
    if (!right) throw new Error(JSON.stringify(found));
    return true;
  }, 45_000);
}

const hears = (url: string, looks: Look[], at?: number): Promise<boolean> =>
  hearsExactly(url, (tones) => levels(url, tones, at), looks, [RED, BLUE]);

/** What a test that failed has left. */
afterEach(async () => {
  for (const kind of ['recordings', 'streaming-outs']) {
    for (const one of await ask<Egress[]>('GET', kind)) await stop(kind, one);
  }
});

describe('a recording', () => {
  it('has the pictures and the sound of the mix, and is complete when it is stopped', async () => {
    const recording = await record({ audio: { from: mixed }, video: { from: mixed } });
    expect(recording.media.video?.format.codec).toBe('vp8');
    await isIn('recordings', recording, 'active');
    await sleep(5_000);
    await stop('recordings', recording);
    expect(await ask('GET', 'recordings')).toEqual([]);
    const file = recording.storage?.file ?? '';
    expect(path.dirname(file)).toBe(path.join(kaigi.dataDir, 'recordings'));
    const { duration, streams } = await probe(file);
    expect(streams.map(({ codec_name }) => codec_name).sort()).toEqual(['opus', 'vp8']);
    expect(streams.find(({ codec_type }) => codec_type === 'video')).toMatchObject({ width: 640, height: 480 });
    expect(duration).toBeGreaterThan(4);
    expect(duration).toBeLessThan(12);
    await shows(file, [RED, BLUE], 3);
    await hears(file, [RED, BLUE], 3);
    const [audio, video] = [await times(file, 'a'), await times(file, 'v')];
    // 50 frames of sound and 15 pictures a second, without a gap.
    expect(audio.length / ((audio.at(-1) ?? 0) - (audio[0] ?? 0))).toBeGreaterThan(47);
    expect(Math.max(...audio.slice(1).map((time, i) => time - (audio[i] ?? 0)))).toBeLessThan(0.06);
    expect(video.length / (duration ?? 0)).toBeGreaterThan(11);
  });

  it('in MP4 has H.264 and Opus, and knows how long it is', async () => {
    const media = { audio: { from: mixed }, video: { from: mixed } };
    const recording = await ask<Egress>('POST', 'recordings', { container: 'mp4', media });
    expect(recording.media.video?.format.codec).toBe('h264');
    await isIn('recordings', recording, 'active');
    await sleep(4_000);
    await stop('recordings', recording);
    const file = recording.storage?.file ?? '';
    expect(path.extname(file)).toBe('.mp4');
    const { duration, streams } = await probe(file);
    expect(streams.map(({ codec_name }) => codec_name).sort()).toEqual(['h264', 'opus']);
    expect(duration).toBeGreaterThan(3);
    expect(duration).toBeLessThan(15);
    await shows(file, [RED, BLUE], 1);
    await hears(file, [RED, BLUE], 1);
  });

  it('of each stream apart has one manifest that tells when each began', async () => {
    const recording = await ask<Egress & { streams: { stream: string }[] }>('POST', 'recordings', { each: { audio: true, video: true } });
    await isIn('recordings', recording, 'active');
    await sleep(3_000);
    await stop('recordings', recording);
    interface Manifest {
      begun: number;
      recordings: { stream: string; user: string; segments: { file: string; at: number; begin: number; end: number }[] }[];
    }
    const file = recording.storage?.file ?? '';
    const manifest = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
    expect(manifest.recordings.map(({ user }) => user).sort()).toEqual(['Aiko', 'Botan']);
    for (const { page, stream, look } of publishers) {
      const [segment] = manifest.recordings.find((one) => one.stream === stream)?.segments ?? [];
      if (!segment) throw new Error(`${page.who} is not recorded`);
      expect(segment.begin).toBeCloseTo((segment.at - manifest.begun) / 1000, 3);
      expect(segment.end - segment.begin).toBeGreaterThan(1.5);
      const own = path.join(path.dirname(file), segment.file);
      await shows(own, [look], 1);
      await hears(own, [look], 1);
    }
  });

  it('ends with a clear error when its disk is full, and nothing else does', async ({ skip }) => {
    skip(process.getuid?.() !== 0, 'only root makes file systems');
    const folder = path.join(kaigi.dataDir, 'recordings');
    mkdirSync(folder, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'kaigi-full', folder]);
    try {
      const broadcast = await push('beside', mixed);
      const [aiko] = publishers;
      const recording = await ask<Egress>('POST', 'recordings', { name: 'full', media: { audio: { from: aiko.stream }, video: { from: aiko.stream } } });
      expect((await isIn('recordings', recording, 'failed')).reason).toMatch(/no space left/i);
      const file = recording.storage?.file ?? '';
      expect(path.basename(file)).toBe(`full-${recording.id}.mkv`);
      await shows(file, [RED], 0.5);
      await isIn('streaming-outs', broadcast, 'active');
      await stop('recordings', recording);
      await stop('streaming-outs', broadcast);
    } finally {
      execFileSync('umount', ['--lazy', folder]);
    }
  });

  it('of one person is what that person sends, without being encoded again', async () => {
    const [aiko] = publishers;
    const recording = await record({ audio: { from: aiko.stream }, video: { from: aiko.stream } });
    await isIn('recordings', recording, 'active');
    await sleep(3_000);
    await stop('recordings', recording);
    const file = recording.storage?.file ?? '';
    await shows(file, [RED], 1);
    await hears(file, [RED], 1);
    expect((await probe(file)).streams.find(({ codec_type }) => codec_type === 'video')).toMatchObject({ width: 320, height: 240 });
  });

  it('can be played up to the end when the process that writes it is killed, and goes on in another file', async () => {
    const recording = await record({ audio: { from: mixed }, video: { from: mixed } });
    await isIn('recordings', recording, 'active');
    await sleep(4_000);
    process.kill(kaigi.children().find(({ name }) => name === 'kaigi-streaming-node')?.pid ?? 0, 'SIGKILL');
    const file = recording.storage?.file ?? '';
    const pictures = await times(file, 'v');
    expect(pictures.at(-1)).toBeGreaterThan(1.9);
    await shows(file, [RED, BLUE], 1);
    const second = file.replace(/\.mkv$/, '-2.mkv');
    await until('it goes on', () => Promise.resolve(existsSync(second)), 30_000);
    await isIn('recordings', recording, 'active');
    await sleep(2_000);
    await stop('recordings', recording);
    await shows(second, [RED, BLUE], 1);
    const manifest = JSON.parse(readFileSync(file.replace(/\.mkv$/, '.json'), 'utf8')) as { segments: { file: string }[] };
    expect(manifest.segments.map((segment) => segment.file)).toEqual([path.basename(file), path.basename(second)]);
  });

  it.each([
    ['of a stream that is not there', { audio: { from: 'nobody' }, video: false }, 'Requested audio stream'],
    ['in a size that is not offered', { audio: false, video: { from: 'mixed', parameters: { resolution: { width: 641, height: 480 } } } }, 'Resolution is not acceptable'],
  ])('is refused: %s', async (_, media, why) => {
    const named = JSON.parse(JSON.stringify(media).replace('"mixed"', JSON.stringify(mixed))) as object;
    await expect(record(named)).rejects.toThrow(why);
    expect(await ask('GET', 'recordings')).toEqual([]);
  });
});

describe('a broadcast', () => {
  it('is H.264 and AAC at the live server, with the pictures and the sound of the mix', async () => {
    const broadcast = await push('mix', mixed);
    expect(broadcast.url).toBe(`rtmp://127.0.0.1:${server.port}/live/…`);
    await isIn('streaming-outs', broadcast, 'active');
    const { streams } = await probe(server.url('mix'));
    expect(streams.map(({ codec_name }) => codec_name).sort()).toEqual(['aac', 'h264']);
    expect(streams.find(({ codec_type }) => codec_type === 'video')).toMatchObject({ width: 640, height: 480 });
    await shows(server.url('mix'), [RED, BLUE]);
    await hears(server.url('mix'), [RED, BLUE]);
    await stop('streaming-outs', broadcast);
    expect(await ask('GET', 'streaming-outs')).toEqual([]);
  });

  it('goes on by itself when the live server was away', async () => {
    const broadcast = await push('again', mixed);
    await isIn('streaming-outs', broadcast, 'active');
    await server.kill();
    await isIn('streaming-outs', broadcast, 'trouble');
    await server.run();
    await isIn('streaming-outs', broadcast, 'active');
    await shows(server.url('again'), [RED, BLUE]);
    await hears(server.url('again'), [RED, BLUE]);
    await stop('streaming-outs', broadcast);
  });

  it.each([
    ['SRT', (): Promise<LiveReceiver> => LiveReceiver.srt()],
    ['RTSP', (): Promise<LiveReceiver> => LiveReceiver.rtsp()],
  ])('goes by %s, too, and goes on when that server was away', async (_, start) => {
    const receiver = await start();
    try {
      const media = { audio: { from: mixed }, video: { from: mixed } };
      const broadcast = await ask<Egress>('POST', 'streaming-outs', { url: receiver.url, media });
      expect(broadcast.url).not.toContain('key');
      await isIn('streaming-outs', broadcast, 'active');
      await receiver.received();
      const { streams } = await probe(receiver.file);
      expect(streams.map(({ codec_name }) => codec_name).sort()).toEqual(['aac', 'h264']);
      await shows(receiver.file, [RED, BLUE]);
      await hears(receiver.file, [RED, BLUE], 1);
      await receiver.kill();
      await isIn('streaming-outs', broadcast, 'trouble');
      await receiver.run();
      await isIn('streaming-outs', broadcast, 'active');
      await receiver.received();
      await shows(receiver.file, [RED, BLUE]);
      await stop('streaming-outs', broadcast);
    } finally {
      await receiver.stop();
    }
  });

  it('shows a slate while its picture is away, in the same connection, and the sound goes on', async () => {
    const receiver = await LiveReceiver.srt();
    try {
      const media = { audio: { from: mixed }, video: { from: mixed } };
      const broadcast = await ask<Egress>('POST', 'streaming-outs', { url: receiver.url, media });
      const flows = (status: string): Promise<Egress> =>
        ask('PATCH', `streaming-outs/${broadcast.id}`, [{ op: 'replace', path: '/media/video/status', value: status }]);
      await isIn('streaming-outs', broadcast, 'active');
      await receiver.received();
      await flows('inactive');
      expect((await isIn('streaming-outs', broadcast, 'trouble')).reason).toContain('slate');
      await sleep(4_000);
      await flows('active');
      await isIn('streaming-outs', broadcast, 'active');
      await sleep(4_000);
      await stop('streaming-outs', broadcast);
      const pictures = await times(receiver.file, 'v');
      const begin = pictures[0] ?? 0;
      const length = (pictures.at(-1) ?? 0) - begin;
      expect(Math.max(...pictures.slice(1).map((time, i) => time - (pictures[i] ?? 0)))).toBeLessThan(3.5);
      const seen: string[] = [];
      for (let at = 0; at < length - 0.5; at += 0.5) {
        const [left, right] = await colours(receiver.file, QUARTERS, at);
        if (!left || !right) continue;
        const what = isNear(left, RED.colour) && isNear(right, BLUE.colour) ? 'mix' : isNear(left, SLATE) && isNear(right, SLATE) ? 'slate' : 'other';
        if (seen.at(-1) !== what) seen.push(what);
      }
      expect(seen).toEqual(['mix', 'slate', 'mix']);
      await hears(receiver.file, [RED, BLUE], length - 2);
    } finally {
      await receiver.stop();
    }
  });

  it('is kept as segments and a playlist (HLS), from which the oldest go, and whose end is said', async () => {
    const media = { audio: { from: mixed }, video: { from: mixed } };
    const url = server.fileUrl('room/live.m3u8?token=secret');
    const parameters = { method: 'PUT', hlsTime: 1, hlsListSize: 3 };
    const broadcast = await ask<Egress>('POST', 'streaming-outs', { protocol: 'hls', url, parameters, media });
    expect(broadcast.url).not.toContain('secret');
    await isIn('streaming-outs', broadcast, 'active');
    const { streams } = await probe(url);
    expect(streams.map(({ codec_name }) => codec_name).sort()).toEqual(['aac', 'h264']);
    await shows(url, [RED, BLUE]);
    await hears(url, [RED, BLUE]);
    const player = await Player.open(browser, server, 'hls', url);
    await player.shows([RED, BLUE], QUARTERS);
    await player.hears([RED, BLUE], [RED, BLUE]);
    const playlist = async (): Promise<string> => (await fetch(url)).text();
    const listed = (text: string): string[] => text.split('\n').filter((line) => line.endsWith('.ts'));
    await until('the oldest have gone', async () => /MEDIA-SEQUENCE:(?:[4-9]|\d\d)/.test(await playlist()), 20_000);
    const text = await playlist();
    expect(listed(text)).toHaveLength(3);
    expect(text).not.toContain('ENDLIST');
    expect(server.files().filter((name) => name.endsWith('.ts')).length).toBeLessThanOrEqual(8);
    // Each can be decoded alone.
    for (const name of listed(text)) {
      const segment = server.fileUrl(`room/${name}`);
      expect((await probe(segment)).streams).toHaveLength(2);
      await shows(segment, [RED, BLUE]);
    }
    await server.kill();
    await isIn('streaming-outs', broadcast, 'trouble');
    await server.run();
    await isIn('streaming-outs', broadcast, 'active');
    expect(await playlist()).toContain('#EXT-X-DISCONTINUITY');
    await player.shows([RED, BLUE], QUARTERS);
    await player.close();
    await stop('streaming-outs', broadcast);
    expect(await playlist()).toContain('#EXT-X-ENDLIST');
  });

  it('is kept as DASH, which dash.js plays, and goes on in another period when the server was away', async () => {
    const media = { audio: { from: mixed }, video: { from: mixed } };
    const url = server.fileUrl('dash/live.mpd?token=secret');
    const parameters = { method: 'PUT', dashSegDuration: 1, dashWindowSize: 4 };
    const broadcast = await ask<Egress>('POST', 'streaming-outs', { protocol: 'dash', url, parameters, media });
    expect(broadcast.url).not.toContain('secret');
    await isIn('streaming-outs', broadcast, 'active');
    const { streams } = await probe(url);
    expect(streams.map(({ codec_name }) => codec_name).sort()).toEqual(['aac', 'h264']);
    expect(streams.find(({ codec_type }) => codec_type === 'video')).toMatchObject({ width: 640, height: 480 });
    await shows(url, [RED, BLUE]);
    await hears(url, [RED, BLUE]);
    const player = await Player.open(browser, server, 'dash', url);
    await player.shows([RED, BLUE], QUARTERS);
    await player.hears([RED, BLUE], [RED, BLUE]);
    const manifest = async (): Promise<string> => (await fetch(url)).text();
    const segments = (): number => server.files().filter((name) => name.startsWith('dash/') && name.endsWith('.m4s')).length;
    await until('the oldest have gone', async () => !(await manifest()).includes('<S t="0"'), 20_000);
    // Twice as many of each kind as are listed are kept, and those under way.
    expect(segments()).toBeLessThanOrEqual(20);
    await server.kill();
    await isIn('streaming-outs', broadcast, 'trouble');
    await server.run();
    await isIn('streaming-outs', broadcast, 'active');
    expect((await manifest()).match(/<Period /g)).toHaveLength(2);
    await player.shows([RED, BLUE], QUARTERS);
    await player.close();
    await stop('streaming-outs', broadcast);
    expect(await manifest()).toMatch(/mediaPresentationDuration="PT[\d.]+S"/);
  });

  it('is kept as HLS in parts, which hls.js plays with low latency', async () => {
    const media = { audio: { from: mixed }, video: { from: mixed } };
    const url = server.fileUrl('parts/live.m3u8');
    const parameters = { hlsTime: 2, hlsListSize: 4, hlsPartTime: 0.5 };
    const broadcast = await ask<Egress>('POST', 'streaming-outs', { protocol: 'hls', url, parameters, media });
    await isIn('streaming-outs', broadcast, 'active');
    const player = await Player.open(browser, server, 'hls', url, { lowLatency: true });
    await player.shows([RED, BLUE], QUARTERS);
    await player.hears([RED, BLUE], [RED, BLUE]);
    await until('parts are fetched', async () => (await player.see(QUARTERS)).parts > 4);
    // Without parts it would be three segments behind.
    await until('it is played near the newest', async () => (await player.see(QUARTERS)).behind < 4, 30_000);
    expect((await probe(url)).streams.map(({ codec_name }) => codec_name).sort()).toEqual(['aac', 'h264']);
    await shows(url, [RED, BLUE]);
    await player.close();
    await stop('streaming-outs', broadcast);
  });

  it('can be pointed at another stream while it runs', async () => {
    const broadcast = await push('moved', mixed);
    await isIn('streaming-outs', broadcast, 'active');
    const [, botan] = publishers;
    await ask('PATCH', `streaming-outs/${broadcast.id}`, [
      { op: 'replace', path: '/media/video/from', value: botan.stream },
      { op: 'replace', path: '/media/audio/from', value: botan.stream },
    ]);
    await shows(server.url('moved'), [BLUE]);
    await hears(server.url('moved'), [BLUE]);
    await stop('streaming-outs', broadcast);
  });

  it.each(['rtmp://127.0.0.1', 'rtmp://host with blanks/a/b'])('is refused to %s', async (url) => {
    const media = { audio: { from: mixed }, video: false };
    await expect(ask('POST', 'streaming-outs', { protocol: 'rtmp', url, media })).rejects.toThrow('the URL is none of the protocol');
    expect(await ask('GET', 'streaming-outs')).toEqual([]);
  });
});
