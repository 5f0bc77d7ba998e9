import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, RED, isNear } from '../harness/colours';
import { checkPage } from '../harness/examples';
import { request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import { LibDataChannelClient } from '../harness/libdatachannel';
import { hearsExactly } from '../harness/sound';
import { until } from '../harness/until';
import type { WhipPage } from '../harness/whip';
import { WhipClient } from '../harness/whip-client';

const ALL = [RED, GREEN, BLUE];

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let camera: WhipPage;
let player: WhipPage;
let guest: Participant;

const whip = (): string => `${kaigi.url}/whip/${room}`;
const whep = (stream: string): string => `${kaigi.url}/whep/${room}/${stream}`;
const token = (user: string, role = 'presenter'): Promise<string> => kaigi.rest.token(room, user, role);

/** The only stream that somebody publishes. */
const published = (): Promise<string> =>
  until('a stream is there', async () => {
    const streams = (await kaigi.rest.streams(room)).filter((stream) => stream.type === 'forward');
    return streams.length === 1 && streams[0]?.id;
  });
const isEmpty = (): Promise<boolean> =>
  until('nobody publishes', async () => (await kaigi.rest.streams(room)).every((stream) => stream.type !== 'forward'));

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'whip' });
  browser = await Chromium.launch('whip');
  room = await kaigi.rest.createRoom('whip', { autoMix: true });
  [camera, player] = await Promise.all([browser.whip(kaigi, 'camera'), browser.whip(kaigi, 'player')]);
  guest = await browser.open(kaigi, 'guest');
  await guest.join(await token('guest'));
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('a browser that publishes by WHIP', () => {
  let session: string;
  let stream: string;

  it('is a participant with a stream, which others subscribe and play by WHEP', async () => {
    session = await camera.call('publish', whip(), await token('camera'), RED);
    stream = await published();
    expect((await kaigi.rest.participants(room)).map(({ user }) => user)).toContain('camera');

    const subscription = await until('the guest knows of it', async () => (await guest.forwardStreams()).includes(stream)).then(() => guest.subscribe(stream));
    await until('the guest sees it', async () => isNear(await guest.colour(subscription), RED.colour));
    await hearsExactly('guest', (tones) => guest.levels(subscription, tones), [RED], ALL);

    const played = await player.call('play', whep(stream), await token('player', 'viewer'));
    await player.receives(played, RED, ALL);
    expect(await player.call('end', played)).toBe(200);
  });

  it('is in the mix, which is played by WHEP as any other stream', async () => {
    const played = await player.call('play', whep(`${room}-common`), await token('player', 'viewer'));
    await player.receives(played, RED, ALL);
    expect(await player.call('end', played)).toBe(200);
  });

  it('tells of its candidates, and restarts ICE while its media go on', async () => {
    expect(await camera.call('trickle', session)).toBe(204);
    const before = await camera.call('ice', session);
    await camera.call('restart', session);
    const after = await until('the new pair carries the media', async () => {
      const ice = await camera.call('ice', session);
      return ice.local !== before.local && ice.remote !== before.remote && ice.state === 'connected' && ice;
    });
    expect(after.remote).toBeTruthy();
    const played = await player.call('play', whep(stream), await token('player', 'viewer'));
    await player.receives(played, RED, ALL);
  });

  it('ends its players with itself', async () => {
    const played = await player.call('play', whep(stream), await token('player', 'viewer'));
    await player.receives(played, RED, ALL);
    expect(await camera.call('end', session)).toBe(200);
    await player.isGone(played);
    await isEmpty();
    await until('nobody but the guest is in the room', async () => (await kaigi.rest.participants(room)).length === 1);
  });

  it('is put out as any participant is', async () => {
    const other = await camera.call('publish', whip(), await token('camera'), BLUE);
    await published();
    const found = (await kaigi.rest.participants(room)).find(({ user }) => user === 'camera');
    await kaigi.rest.dropParticipant(room, found?.id ?? '');
    await camera.isGone(other);
    await isEmpty();
  });

  it('leaves when its connection closes', async () => {
    const other = await camera.call('publish', whip(), await token('camera'), BLUE);
    await published();
    await camera.call('vanish', other);
    await camera.isGone(other);
    await isEmpty();
  });
});

describe('GStreamer', () => {
  it('publishes by WHIP, and ends its session', async () => {
    const client = await WhipClient.start(whip(), await token('GStreamer'), GREEN);
    const played = await player.call('play', whep(await published()), await token('player', 'viewer'));
    await player.receives(played, GREEN, ALL);
    expect(await client.end()).toEqual([expect.stringContaining(`${whip()}/`), '200']);
    await player.isGone(played);
    await isEmpty();
  });
});

describe('libdatachannel, by which OBS does', () => {
  it('publishes H.264 and Opus by WHIP, and ends its session', async () => {
    const client = await LibDataChannelClient.start(whip(), await token('OBS'), BLUE);
    try {
      const played = await player.call('play', whep(await published()), await token('player', 'viewer'));
      await player.receives(played, BLUE, ALL);
      expect(await client.end()).toBe(200);
      await player.isGone(played);
    } finally {
      client.free();
    }
    await isEmpty();
  });
});

describe('the page of the documentation', () => {
  it('says what happens', () => checkPage('whip.md', kaigi));
});

describe('a token of a service with the grant join', () => {
  it('publishes a picture in layers, again and again, and manages nothing', async () => {
    const { id, key } = kaigi.service;
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const grants = { rooms: [room], join: { user: 'device', role: 'presenter' } };
    const unsigned = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: id, exp: Math.floor(Date.now() / 1000) + 300, grants })}`;
    const lasting = `${unsigned}.${createHmac('sha256', key).update(unsigned).digest('base64url')}`;
    const managed = await request(`${kaigi.managementUrl}/v1/rooms`, { headers: { authorization: `Bearer ${lasting}` } });
    expect(managed.status).toBe(403);

    for (const look of [GREEN, BLUE]) {
      const layers = [{ rid: 'q', scaleResolutionDownBy: 4 }, { rid: 'h', scaleResolutionDownBy: 2 }, { rid: 'f' }];
      const session = await camera.call('publish', whip(), lasting, look, layers);
      const stream = await published();
      const played = await player.call('play', whep(stream), lasting);
      await player.receives(played, look, ALL);
      await until('its layers are counted', async () => {
        const counted = await kaigi.rest.call('GET', `/v1/rooms/${room}/streams/${stream}/stats`);
        const { tracks } = JSON.parse(counted.text) as { tracks: { rid?: string }[] };
        const rids = tracks.flatMap(({ rid }) => rid ?? []).sort();
        if (rids.join() !== 'f,h,q') throw new Error(counted.text);
        return true;
      });
      expect(await camera.call('end', session)).toBe(200);
      await player.isGone(played);
      await isEmpty();
    }
  });
});
