import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, type Look, RED, type Rgb, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { LiveServer } from '../harness/live-server';
import { LiveWatcher } from '../harness/live-watcher';
import { colours, levels, probe } from '../harness/media-file';
import { type Publisher, SMALL_VIEW, publisher } from '../harness/room';
import { hearsExactly } from '../harness/sound';
import { until } from '../harness/until';

/** How long it is watched before anything breaks, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 60);
const LOOKS = [RED, GREEN, BLUE];
/** What is asked for, of a view of 1280×720 and 24 frames a second. */
const ASKED = { resolution: { width: 640, height: 360 }, framerate: 15, bitrate: 'x0.8', keyFrameInterval: 2 };

let kaigi: Kaigi;
let browser: Chromium;
let server: LiveServer;
let room: string;
let viewer: Participant;
let publishers: Publisher[];

beforeAll(async () => {
  server = await LiveServer.start();
  kaigi = await Kaigi.start({ name: 'scenario-broadcast', env: { KAIGI_PRIVATE_TARGETS: 'true' } });
  browser = await Chromium.launch('scenario-broadcast');
  const video = { ...SMALL_VIEW.video, parameters: { resolution: { width: 1280, height: 720 }, framerate: 24, keyFrameInterval: 100 } };
  room = await kaigi.rest.createRoom('broadcast', { autoMix: true, views: [{ ...SMALL_VIEW, video }] });
  viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'viewer', 'viewer'));
  publishers = [];
  for (const [i, look] of LOOKS.entries()) publishers.push(await publisher(browser, kaigi, room, `person ${i}`, look));
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
  await server?.stop();
});

interface Egress {
  id: string;
  state: string;
  reason?: string;
}

async function ask<T>(method: string, place: string, body?: unknown): Promise<T> {
  const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
  expect(answer.status, answer.text).toBe(200);
  return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
}

/** Waits until the server has all of them in their regions, and heard together. */
async function shows(url: string): Promise<void> {
  await until('all are seen in their regions', async () => {
    const layout = (await viewer.layout(`${room}-common`)).filter(({ stream }) => stream !== undefined);
    const found: Rgb[] = await colours(url, layout.map(({ left, top, width, height }) => [left + width / 2, top + height / 2] as const));
    const looks = layout.map(({ stream }): Look | undefined => publishers.find((one) => one.stream === stream)?.look);
    const right = looks.length === publishers.length && looks.every((look, i) => look !== undefined && isNear(found[i] ?? [0, 0, 0], look.colour));
    if (!right) throw new Error(JSON.stringify({ layout, found }));
    return true;
  }, 60_000);
  await hearsExactly(url, (tones) => levels(url, tones), LOOKS, LOOKS);
}

it(`measures what troubles cost a broadcast of a mix of three, after ${SECONDS} s of it`, async () => {
  const from = `${room}-common`;
  const url = server.url('show');
  const { id } = await ask<Egress>('POST', 'streaming-outs', { url, media: { audio: { from }, video: { from, parameters: ASKED } } });
  const state = async (): Promise<Egress | undefined> => (await ask<Egress[]>('GET', 'streaming-outs')).find((one) => one.id === id);
  const isIn = (wanted: string): Promise<boolean> => until(`it is ${wanted}`, async () => (await state())?.state === wanted, 60_000);
  const kill = (name: string): boolean => process.kill(kaigi.children().find((one) => one.name === name)?.pid ?? 0, 'SIGKILL');
  await isIn('active');
  const watcher = new LiveWatcher(url);
  try {
    await shows(url);
    watcher.gap();
    // The length of a measurement, not a wait for something.
    await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
    const undisturbed = watcher.gap();
    const { streams } = await probe(url);
    const video = streams.find(({ codec_type }) => codec_type === 'video');
    expect(video).toMatchObject({ codec_name: 'h264', ...ASKED.resolution, avg_frame_rate: '15/1' });
    expect(streams.find(({ codec_type }) => codec_type === 'audio')).toMatchObject({ codec_name: 'aac', sample_rate: '48000', channels: 2 });
    const gaps: Record<string, number> = { 'nothing, for a minute': undisturbed };

    await server.kill();
    await isIn('trouble');
    await server.run();
    await isIn('active');
    await shows(url);
    gaps['the live server is killed and started again'] = watcher.gap();

    kill('kaigi-mixer-node');
    await shows(url);
    await isIn('active');
    gaps['the mixer-node is killed'] = watcher.gap();

    const [last] = publishers.slice(-1);
    if (!last) throw new Error('nobody');
    await last.page.close();
    publishers.pop();
    await until('the others have the picture', async () => (await viewer.layout(from)).filter(({ stream }) => stream !== undefined).length === 2);
    publishers.push(await publisher(browser, kaigi, room, 'person again', last.look));
    await shows(url);
    await isIn('active');
    gaps['a person goes and comes back'] = watcher.gap();
    console.table(Object.fromEntries(Object.entries(gaps).map(([what, ms]) => [what, { 'longest time without a picture at the server, s': (ms / 1000).toFixed(2) }])));
  } finally {
    watcher.stop();
  }
  await ask('DELETE', `streaming-outs/${id}`);
}, (SECONDS + 240) * 1000);
