// What the browser SDK makes up for, and what it saves, with a real server and a real browser.
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type * as Sdk from '../../../web/sdk/src/kaigi';
import { Chromium } from '../harness/browser';
import { Kaigi } from '../harness/kaigi';
import { until } from '../harness/until';

/** What the page under test holds on to. */
interface Stage {
  readonly sdk: typeof Sdk;
  client: Sdk.ConferenceClient;
  connections: RTCPeerConnection[];
  told: string[];
  publication: Sdk.Publication;
  subscription: Sdk.Subscription;
  video: HTMLVideoElement;
  messages: (string | number)[];
}

declare global {
  const stage: Stage;
}

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'sdk' });
  browser = await Chromium.launch('sdk');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

/** A page that has joined the default room, gets tokens for itself, and notes what it is told. */
async function join(who: string): Promise<Page> {
  const page = await browser.page(`${kaigi.url}/ready`, who);
  await page.setContent('<!doctype html><body><script type="module">import * as sdk from "/sdk/kaigi.js"; window.stage = { sdk };</script>');
  await page.waitForFunction(() => 'stage' in window);
  await page.evaluate(async (user) => {
    const { sdk } = stage;
    const tokenProvider = async (): Promise<string> => {
      const body = JSON.stringify({ user, role: 'presenter' });
      const response = await fetch('/sample/tokens', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
      return ((await response.json()) as { token: string }).token;
    };
    const connections: RTCPeerConnection[] = [];
    const createPeerConnection = (configuration: RTCConfiguration): RTCPeerConnection => {
      const connection = new RTCPeerConnection(configuration);
      connections.push(connection);
      return connection;
    };
    const client = new sdk.ConferenceClient({ tokenProvider, createPeerConnection });
    const told: string[] = [];
    for (const name of ['reconnecting', 'reconnected', 'disconnected', 'mediainterrupted', 'mediarecovered'] as const) {
      client.on(name, () => told.push(name));
    }
    const video = document.createElement('video');
    video.autoplay = video.muted = true;
    document.body.append(video);
    Object.assign(stage, { client, connections, told, video, messages: [] });
    await client.join(await tokenProvider());
  }, who);
  return page;
}

/** Publishes the browser's invented camera and microphone; the stream's id. */
function publish(page: Page): Promise<string> {
  return page.evaluate(async () => {
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 480 } });
    stage.publication = await stage.client.publish(new stage.sdk.LocalStream(media));
    for (const name of ['recovering', 'recovered', 'ended'] as const) stage.publication.on(name, () => stage.told.push(`publication ${name}`));
    return stage.publication.id;
  });
}

/** Subscribes and shows the mixed stream of the room. */
function watch(page: Page): Promise<void> {
  return page.evaluate(async () => {
    const mixed = [...stage.client.info!.streams.values()].find(({ type }) => type === 'mixed')!;
    stage.subscription = await stage.client.subscribe(mixed);
    for (const name of ['recovering', 'recovered', 'ended'] as const) stage.subscription.on(name, () => stage.told.push(`subscription ${name}`));
    stage.video.srcObject = stage.subscription.stream;
  });
}

const told = (page: Page): Promise<string[]> => page.evaluate(() => stage.told);

/** Waits until the picture has moved on by a few frames. */
async function moves(page: Page): Promise<void> {
  const frames = () => page.evaluate(() => stage.video.getVideoPlaybackQuality().totalVideoFrames);
  const before = await frames();
  await until('the picture moves', async () => (await frames()) > before + 15, 30_000);
}

function kill(name: string): void {
  const killed = kaigi.child(name);
  if (!killed) throw new Error(`${name} does not run`);
  process.kill(killed.pid, 'SIGKILL');
}

describe('a client that publishes and watches', () => {
  let page: Page;
  let stream: string;

  beforeEach(async () => {
    await until('it is ready', () => kaigi.isReady());
    page = await join('Aiko');
    stream = await publish(page);
    await watch(page);
    await moves(page);
  });
  afterEach(() => page?.context().close());

  it('goes on with the same objects when the access-node dies', async () => {
    kill('kaigi-access-node');
    await until('both are made anew', async () => {
      const events = await told(page);
      return events.includes('publication recovered') && events.includes('subscription recovered');
    }, 30_000);
    await moves(page);
    expect(await told(page)).not.toContain('publication ended');
    const now = await page.evaluate(() => stage.publication.id);
    expect(now).not.toBe(stream);
    const streams = await until('the old stream is gone', async () => {
      const ids = (await kaigi.rest.streams(kaigi.service.room)).map(({ id }) => id);
      return !ids.includes(stream) && ids;
    });
    expect(streams).toContain(now);
  });

  it('gets over the death of its portal', async () => {
    kill('kaigi-portal');
    await until('it is back', async () => (await told(page)).includes('reconnected'), 30_000);
    await until('all is made anew that had to be', () => page.evaluate(() => !stage.publication.recovering && !stage.subscription.recovering), 30_000);
    await moves(page);
    const events = await told(page);
    expect(events[0]).toBe('reconnecting');
    expect(events.filter((event) => event.endsWith('ended'))).toEqual([]);
    await page.evaluate(() => stage.client.send('I am back'));
  });

  it('restarts ICE on the connection that it has', async () => {
    const credentials = () =>
      page.evaluate(() => {
        const [connection] = stage.connections;
        return [connection?.currentLocalDescription, connection?.currentRemoteDescription].map((d) => /a=ice-ufrag:(\S+)/.exec(d?.sdp ?? '')?.[1]);
      });
    const before = await credentials();
    // The network between them is never gone here, so the connection is made to say so.
    await page.evaluate(() => {
      const connection = stage.connections[0]!;
      Object.defineProperty(connection, 'connectionState', { configurable: true, get: () => 'failed' });
      connection.onconnectionstatechange?.(new Event('connectionstatechange'));
    });
    const after = await until('both sides have other credentials', async () => {
      const now = await credentials();
      return now.every((ufrag, side) => ufrag !== before[side]) && now;
    });
    expect(after).toHaveLength(2);
    await page.evaluate(() => {
      const connection = stage.connections[0]!;
      delete (connection as { connectionState?: unknown }).connectionState;
      connection.onconnectionstatechange?.(new Event('connectionstatechange'));
    });
    await until('media is back', async () => (await told(page)).includes('mediarecovered'));
    await moves(page);
    expect(await page.evaluate(() => stage.connections.length)).toBe(1);
    expect(await told(page)).toEqual(['mediainterrupted', 'mediarecovered']);
  });

  it('is sent no video that is not seen, and no larger one than is shown', async () => {
    const smallest = await page.evaluate(() => {
      const { video, subscription } = stage;
      video.style.cssText = 'width: 64px; height: 36px';
      subscription.attach(video);
      const track = subscription.source.tracks.find(({ kind }) => kind === 'video');
      const own = track!.parameters!.resolution!;
      const alike = track!.parameterChoices.resolution.filter(({ width, height }) => Math.abs(width / height / (own.width / own.height) - 1) < 0.02);
      return Math.min(own.width, ...alike.map(({ width }) => width));
    });
    await until('the picture is as small as it gets', () => page.evaluate((width) => stage.video.videoWidth === width, smallest), 20_000);

    const received = () =>
      page.evaluate(async () => {
        const stats = [...(await stage.subscription.getStats()).values()] as (RTCStats & { kind?: string; packetsReceived?: number })[];
        return stats.find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video')?.packetsReceived;
      });
    await page.evaluate(() => void (stage.video.style.display = 'none'));
    let before: number | undefined;
    await until('nothing comes any more', async () => {
      const now = await received();
      const rests = now === before;
      before = now;
      return rests;
    }, 15_000, 500);
    await page.evaluate(() => void (stage.video.style.display = ''));
    await moves(page);
  });
});

describe('data', () => {
  it('arrives whole and in order, as texts and as bytes', async () => {
    const [sender, receiver] = [await join('Aiko'), await join('Botan')];
    const id = await sender.evaluate(async () => {
      stage.publication = await stage.client.publishData({ attributes: { topic: 'test' } });
      return stage.publication.id;
    });
    await until('the other knows of it', () => receiver.evaluate((stream) => stage.client.info?.streams.get(stream)?.hasData, id));
    await receiver.evaluate(async (stream) => {
      stage.subscription = await stage.client.subscribe(stream);
      stage.subscription.on('message', ({ data }) => stage.messages.push(typeof data === 'string' ? data.length : `${new Uint8Array(data)}`));
    }, id);
    await sender.evaluate(async () => {
      await stage.publication.send('hello');
      await stage.publication.send(new Uint8Array([1, 2, 3]));
      for (let size = 1; size <= 100; size++) await stage.publication.send('x'.repeat(size * 600));
    });
    await until('all has arrived', async () => (await receiver.evaluate(() => stage.messages.length)) === 102);
    const messages = await receiver.evaluate(() => stage.messages);
    expect(messages).toEqual([5, '1,2,3', ...Array.from({ length: 100 }, (_, index) => (index + 1) * 600)]);
    for (const page of [sender, receiver]) await page.context().close();
  });
});
