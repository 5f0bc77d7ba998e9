import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, RED, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { type Publisher, SMALL_VIEW, publisher, showsLayout } from '../harness/room';
import { until } from '../harness/until';

const OWN = `
[[algorithm]]
id = "mirror"
pipeline = "appsrc name=input ! videoconvert ! kaigirotate flip=horizontal ! videoconvert ! appsink name=output"

[[algorithm]]
id = "crash"
pipeline = "appsrc name=input ! identity error-after=3 ! appsink name=output"
`;

interface Analytics {
  id: string;
  analytics: { algorithm: string; stream: string; parameters?: object };
  media: { video: { from: string; status: string; format: { codec: string } } };
  state: string;
  reason?: string;
}

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let publishers: [Publisher, Publisher, Publisher];
let viewer: Participant;
let mixed: string;

beforeAll(async () => {
  const algorithms = path.join(mkdtempSync(path.join(tmpdir(), 'kaigi-analytics-')), 'algorithms.toml');
  writeFileSync(algorithms, OWN);
  kaigi = await Kaigi.start({ name: 'analytics', env: { KAIGI_ALGORITHMS: algorithms } });
  browser = await Chromium.launch('analytics');
  room = await kaigi.rest.createRoom('analytics', { autoMix: true, views: [SMALL_VIEW] });
  publishers = [
    await publisher(browser, kaigi, room, 'Aiko', RED),
    await publisher(browser, kaigi, room, 'Botan', GREEN),
    await publisher(browser, kaigi, room, 'Chiyo', BLUE),
  ];
  viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Dai', 'viewer'));
  mixed = await viewer.mixedStream();
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

const call = (method: string, what: string, body?: unknown) => kaigi.rest.call(method, `/v1/rooms/${room}/${what}`, body);

async function begin(algorithm: string, from: string, more: object = {}): Promise<Analytics> {
  const answer = await call('POST', 'analytics', { algorithm, ...more, media: { audio: false, video: { from } } });
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
  return JSON.parse(answer.text) as Analytics;
}
async function listed(): Promise<Analytics[]> {
  return JSON.parse((await call('GET', 'analytics')).text) as Analytics[];
}
const video = (stream: string) => subscribeVideo(viewer, stream);
async function subscribeVideo(page: Participant, stream: string): Promise<string> {
  await until('the stream is known', async () => (await page.forwardStreams()).includes(stream));
  return page.subscribe(stream, { audio: false, video: true });
}

/** The picture is lines where the tiles of the mix meet, and nothing else. */
function showsEdges(subscription: string): Promise<boolean> {
  return until('the picture is lines on black', async () => {
    const picture = await viewer.picture(subscription);
    const dark = picture.darkShare(64);
    const vertical = picture.brightAlongVertical(0.5, 0.05, 0.4, 96);
    if (dark < 0.9 || vertical < 0.9) throw new Error(`dark ${dark}, line ${vertical}`);
    return true;
  }, 30_000);
}

describe('analytics', () => {
  let edges: Analytics;
  let subscription: string;

  it('of a mix are a stream that everybody sees, and whoever takes it sees edges', async () => {
    const plain = await viewer.subscribe(mixed);
    await showsLayout(viewer, mixed, plain, publishers);
    await viewer.unsubscribe(plain);

    edges = await begin('edgedetect', mixed, { parameters: { lowThreshold: 60, highThreshold: 120 } });
    expect(edges).toMatchObject({ state: 'active', analytics: { algorithm: 'edgedetect' }, media: { video: { from: mixed, status: 'active', format: { codec: 'vp8' } } } });
    const stream = edges.analytics.stream;
    const found = (await kaigi.rest.streams(room)).find(({ id }) => id === stream);
    expect(found).toMatchObject({ type: 'forward', info: { type: 'analytics', owner: 'admin', inViews: [] } });
    expect(found!.media.audio).toBeUndefined();
    subscription = await video(stream);
    await showsEdges(subscription);
    expect(await listed()).toEqual([edges]);
  });

  it('go on when the mixer dies', async () => {
    const killed = kaigi.child('kaigi-mixer-node')!;
    process.kill(killed.pid, 'SIGKILL');
    await until('another one runs', () => {
      const again = kaigi.child('kaigi-mixer-node');
      return again && again.pid !== killed.pid;
    });
    const before = await viewer.frames(subscription);
    await until('pictures come again', async () => (await viewer.frames(subscription)) > before + 5, 45_000);
    await showsEdges(subscription);
  });

  it('end by DELETE, and the stream with them', async () => {
    expect((await call('DELETE', `analytics/${edges.id}`)).status).toBe(200);
    await until('the stream is gone', async () => !(await viewer.forwardStreams()).includes(edges.analytics.stream));
    expect(await listed()).toEqual([]);
  });

  it('end with the stream that they are of', async () => {
    const [first] = publishers;
    const turned = await begin('rotate', first.stream, { parameters: { angle: 90 } });
    const shown = await video(turned.analytics.stream);
    await until('it is seen', async () => isNear(await viewer.colour(shown), RED.colour), 30_000);
    const { width, height } = await viewer.picture(shown);
    expect(height).toBeGreaterThan(width);
    await first.page.unpublish();
    await until('the stream is gone', async () => !(await viewer.forwardStreams()).includes(turned.analytics.stream));
    expect(await listed()).toEqual([]);
  });

  it('are refused with what is wrong', async () => {
    const [, second] = publishers;
    const media = { audio: false, video: { from: second.stream } };
    for (const [body, status, text] of [
      [{ algorithm: 'faces', media }, 500, 'is not made here'],
      [{ algorithm: 'rotate', parameters: { angle: 400 }, media }, 400, 'not within 0..=359'],
      [{ algorithm: 'rotate', pipeline: 'fakesrc ! fakesink', media }, 400, 'Bad request'],
      [{ algorithm: 'rotate', media: { audio: false, video: { from: 'nobody' } } }, 500, 'NOT satisfy'],
    ] as const) {
      const answer = await call('POST', 'analytics', body);
      expect([answer.status, answer.text]).toEqual([status, expect.stringContaining(text)]);
    }
    expect(await listed()).toEqual([]);
  });
});

describe('pipelines of the operator', () => {
  const children = (): string[] => {
    const mixer = kaigi.child('kaigi-mixer-node')!.pid;
    return execFileSync('ps', ['-o', 'pid=', '--ppid', String(mixer)], { encoding: 'utf8' }).split('\n').filter((line) => line.trim() !== '');
  };

  it('are listed beside the filters', async () => {
    const algorithms = JSON.parse((await call('GET', 'algorithms')).text) as { id: string; type: string }[];
    expect(algorithms.map(({ id, type }) => [id, type])).toEqual([
      ['edgedetect', 'filter'],
      ['cartoon', 'filter'],
      ['rotate', 'filter'],
      ['crash', 'pipeline'],
      ['mirror', 'pipeline'],
    ]);
  });

  it('work in a process of their own, which ends with the analytics', async () => {
    const [, second] = publishers;
    const own = await begin('mirror', second.stream);
    const shown = await video(own.analytics.stream);
    await until('it is seen', async () => isNear(await viewer.colour(shown), GREEN.colour), 30_000);
    await until('there is one process', () => children().length === 1);
    await call('DELETE', `analytics/${own.id}`);
    await until('there is none', () => {
      try {
        return children().length === 0;
      } catch {
        return true;
      }
    });
  });

  it('that crash are told, and harm nothing else', async () => {
    const [, second, third] = publishers;
    const mixer = kaigi.child('kaigi-mixer-node')!.pid;
    const own = await begin('crash', second.stream);
    await video(own.analytics.stream);
    await until('it is told', async () => (await listed()).some(({ id, state, reason }) => id === own.id && state === 'trouble' && reason !== undefined), 30_000);
    const other = await begin('cartoon', third.stream);
    const shown = await video(other.analytics.stream);
    const before = await until('pictures come', async () => (await viewer.frames(shown)) || undefined, 30_000);
    await until('and go on', async () => (await viewer.frames(shown)) > before + 10);
    expect(kaigi.child('kaigi-mixer-node')!.pid).toBe(mixer);
    await call('DELETE', `analytics/${own.id}`);
    await call('DELETE', `analytics/${other.id}`);
  });
});
