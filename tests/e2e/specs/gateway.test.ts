import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { Caller } from '../harness/caller';
import { BLUE, GREEN, RED, isNear } from '../harness/colours';
import { checkPage } from '../harness/examples';
import { Device, FurtherGateway, Gateway, type GatewayPeer, PictureReceiver, type Port, RtpSender, SoundReceiver, local, params } from '../harness/gateway';
import { Kaigi } from '../harness/kaigi';
import { freePort } from '../harness/live-server';
import { hearsExactly } from '../harness/sound';
import { until } from '../harness/until';

const ALL = [RED, GREEN, BLUE];
/** Datagrams of a device: so many every 10 ms, as often. */
const [A_TURN, TURNS] = [10, 200];

let kaigi: Kaigi;
let browser: Chromium;
let gateway: Gateway;
let camera: GatewayPeer;
let room: string;

const video = (port: Port, more: object = {}): object => ({ ...params('VP8', port.id), ...more });
const audio = (port: Port): object => params('OPUS', port.id);

beforeAll(async () => {
  const [port, turn] = [await freePort(), await freePort()];
  kaigi = await Kaigi.start({ name: 'gateway', args: ['--gateway-port', String(port), '--turn-port', String(turn)], env: { KAIGI_GATEWAY_EVENT_TIMEOUT: '10' } });
  browser = await Chromium.launch('gateway');
  gateway = new Gateway(`http://127.0.0.1:${port}`);
  await until('the gateway answers', async () => (await gateway.call('GET', '/openapi.json')).status === 200);
  room = await kaigi.rest.createRoom('gateway', { autoMix: true });
  camera = await until('the gateway makes peers', () => gateway.peer(kaigi.service.id, 'garden', 'camera'));
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('a device that sends RTP', () => {
  it('is a participant with a stream that a browser sees and hears; another gets the mixed one by RTP', async () => {
    const [picture, sound] = [await gateway.mediaPort(true), await gateway.mediaPort(false)];
    const sender = new RtpSender(GREEN, picture.port, sound.port);
    const [screen, speaker] = [await freePort(), await freePort()];
    const [watcher, listener] = [new PictureReceiver(screen), new SoundReceiver(speaker)];
    // Of its own, as it is looked at who is there.
    const room = await kaigi.rest.createRoom('device', { autoMix: true });
    let guest: Participant | undefined;
    let display: GatewayPeer | undefined;
    try {
      const constraints = { video: true, videoReceiveEnabled: false, audio: true, audioReceiveEnabled: false, video_params: video(picture), audio_params: audio(sound), metadata: { place: 'door' } };
      const call = await camera.call(`room:${room}`, constraints);
      await gateway.event(`/media/connections/${call}/events`, 'READY');
      expect(await gateway.status(call)).toMatchObject({ open: true, remote_id: `room:${room}`, metadata: { place: 'door' } });
      expect((await kaigi.rest.participants(room)).map(({ user }) => user)).toEqual(['camera']);

      guest = await browser.open(kaigi, 'guest');
      await guest.join(await kaigi.rest.token(room, 'guest', 'presenter'));
      const stream = await until('a stream is there', async () => (await guest?.forwardStreams())?.[0]);
      const subscription = await guest.subscribe(stream);
      await until('the guest sees it', async () => isNear((await guest?.colour(subscription)) ?? [0, 0, 0], GREEN.colour));
      await hearsExactly('the guest', (tones) => guest?.levels(subscription, tones) ?? Promise.resolve([]), [GREEN], ALL);

      display = await gateway.peer(kaigi.service.id, 'garden', 'monitor');
      const wish = { video: false, videoReceiveEnabled: true, audio: false, audioReceiveEnabled: true };
      const watched = await display.call(`room:${room}`, wish, { video: local(screen), audio: local(speaker) });
      await gateway.event(`/media/connections/${watched}/events`, 'STREAM');
      await watcher.sees(GREEN);
      await hearsExactly('the device', (tones) => Promise.resolve(listener.levels(tones)), [GREEN], ALL);
      expect(await gateway.call('POST', `/media/connections/${watched}/pli`, local(screen))).toEqual({ status: 201, json: {} });
      await until('what is received is counted', async () => {
        const counted = (await gateway.status(watched)) as { statistics: { video: { received: number } } };
        return counted.statistics.video.received > 10;
      });

      await display.remove();
      display = undefined;
      await until('its call is gone with the peer', async () => (await gateway.call('GET', `/media/connections/${watched}/status`)).status === 404);
      expect((await gateway.call('DELETE', `/media/${picture.id}`)).status).toBe(403);
      await gateway.hangUp(call);
      await until('only the guest is in the room', async () => (await kaigi.rest.participants(room)).length === 1);
      await until('its port is closed', async () => (await gateway.call('DELETE', `/media/${picture.id}`)).status === 404);
    } finally {
      await Promise.all([sender, watcher, listener].map((one) => one.stop()));
      await display?.remove();
      await guest?.close();
    }
  });

  it.each([
    ['H264', 'PCMU'],
    ['VP9', 'PCMA'],
  ] as const)('is seen and heard by %s and %s too, and another device gets the mixed stream by them', async (picture, sound) => {
    const [from, to] = [[await gateway.mediaPort(true), await gateway.mediaPort(false)], [await freePort(), await freePort()]] as const;
    const sender = new RtpSender(RED, from[0].port, from[1].port, [picture, sound]);
    const [watcher, listener] = [new PictureReceiver(to[0], picture), new SoundReceiver(to[1], sound)];
    const room = await kaigi.rest.createRoom(picture, { autoMix: true });
    const calls: string[] = [];
    let guest: Participant | undefined;
    try {
      const sent = { video: true, videoReceiveEnabled: false, audio: true, audioReceiveEnabled: false, video_params: params(picture, from[0].id), audio_params: params(sound, from[1].id) };
      calls.push(await camera.call(`room:${room}`, sent));
      const wish = { video: false, videoReceiveEnabled: true, audio: false, audioReceiveEnabled: true, video_params: params(picture, ''), audio_params: params(sound, '') };
      calls.push(await camera.call(`room:${room}`, wish, { video: local(to[0]), audio: local(to[1]) }));
      guest = await browser.open(kaigi, 'guest');
      await guest.join(await kaigi.rest.token(room, 'guest', 'presenter'));
      const stream = await until('a stream is there', async () => (await guest?.forwardStreams())?.[0]);
      const subscription = await guest.subscribe(stream);
      await until('the guest sees it', async () => isNear((await guest?.colour(subscription)) ?? [0, 0, 0], RED.colour));
      await hearsExactly('the guest', (tones) => guest?.levels(subscription, tones) ?? Promise.resolve([]), [RED], ALL);
      await watcher.sees(RED);
      await hearsExactly('the device', (tones) => Promise.resolve(listener.levels(tones)), [RED], ALL);
    } finally {
      await guest?.close();
      await Promise.all([sender, watcher, listener].map((one) => one.stop()));
      for (const call of calls) await gateway.hangUp(call);
    }
  });

  it('gets one stream of a conference, if it names it, and its call ends with that', async () => {
    const screen = await freePort();
    const watcher = new PictureReceiver(screen);
    const guest = await browser.open(kaigi, 'guest');
    try {
      await guest.join(await kaigi.rest.token(room, 'guest', 'presenter'));
      const stream = await guest.publish(RED);
      const wish = { video: false, videoReceiveEnabled: true, audio: false, metadata: { stream, role: 'viewer' } };
      const watched = await camera.call(`room:${room}`, wish, { video: local(screen) });
      await watcher.sees(RED);
      await guest.unpublish();
      await gateway.event(`/media/connections/${watched}/events`, 'CLOSE');
    } finally {
      await guest.close();
      await watcher.stop();
    }
  });
});

describe('a device and a page', () => {
  it('see each other when the page has called', async () => {
    const [picture, screen] = [await gateway.mediaPort(true), await freePort()];
    const sound = await gateway.mediaPort(false);
    const [sender, watcher] = [new RtpSender(BLUE, picture.port, sound.port), new PictureReceiver(screen)];
    let page: Caller | undefined;
    try {
      page = await Caller.open(browser, kaigi, 'garden', 'aiko');
      const { call_params: params } = (await camera.event('CALL')) as unknown as { call_params: { media_connection_id: string } };
      const call = params.media_connection_id;
      const constraints = { video: true, audio: true, video_params: video(picture), audio_params: audio(sound) };
      const answer = await gateway.done('POST', `/media/connections/${call}/answer`, { constraints, redirect_params: { video: local(screen) } });
      expect(answer).toEqual({ command_type: 'MEDIA_CONNECTION_ANSWER', params: { video_id: picture.id, audio_id: sound.id } });
      await gateway.isOpen(call);
      const caller = page;
      const first = await until('the page shows it', async () => (await caller.frames('camera')) || undefined);
      await until('its picture moves', async () => (await caller.frames('camera')) >= first + 10);
      await until('the device gets the page’s picture', async () => {
        const counted = (await gateway.status(call)) as { statistics: { video: { received: number } } };
        return counted.statistics.video.received > 10;
      });

      // A page that is opened anew has nothing of the call before.
      await page.close();
      page = await Caller.open(browser, kaigi, 'garden', 'aiko');
      await camera.event('CALL');
      await gateway.event(`/media/connections/${call}/events`, 'CLOSE');
    } finally {
      await Promise.all([sender.stop(), watcher.stop(), page?.close()]);
    }
  });

  it('see each other when the device has called', async () => {
    const [picture, sound, screen] = [await gateway.mediaPort(true), await gateway.mediaPort(false), await freePort()];
    const [sender, watcher] = [new RtpSender(GREEN, picture.port, sound.port), new PictureReceiver(screen)];
    const page = await Caller.open(browser, kaigi, 'yard', 'chiyo');
    let bell: GatewayPeer | undefined;
    try {
      await page.state(/^Connected$/);
      bell = await gateway.peer(kaigi.service.id, 'yard', 'bell');
      const constraints = { video: true, audio: true, video_params: video(picture), audio_params: audio(sound) };
      const call = await bell.call('chiyo', constraints, { video: local(screen) });
      await gateway.isOpen(call);
      const first = await until('the page shows it', async () => (await page.frames('bell')) || undefined);
      await until('its picture moves', async () => (await page.frames('bell')) >= first + 10);
      await until('the device gets the page’s picture', async () => {
        const counted = (await gateway.status(call)) as { statistics: { video: { received: number } } };
        return counted.statistics.video.received > 10;
      });
      await bell.remove();
      bell = undefined;
      await page.hasNoTileOf('bell');
    } finally {
      await Promise.all([sender.stop(), watcher.stop(), bell?.remove(), page.close()]);
    }
  });
});

describe('a device and a page whose network lets nothing through but TURN', () => {
  it.each(['the page', 'the device'])('see each other when %s has called', async (caller) => {
    const [picture, sound, screen] = [await gateway.mediaPort(true), await gateway.mediaPort(false), await freePort()];
    const [sender, watcher] = [new RtpSender(BLUE, picture.port, sound.port), new PictureReceiver(screen)];
    const [domain, open] = [caller === 'the page' ? 'cellar' : 'attic', { network: { relay: ['turn:', 'udp'] as [string, string] } }];
    const [constraints, redirects] = [{ video: true, audio: true, video_params: video(picture), audio_params: audio(sound) }, { video: local(screen) }];
    let peer: GatewayPeer | undefined;
    let page: Caller | undefined;
    let call: string;
    try {
      if (caller === 'the page') {
        peer = await gateway.peer(kaigi.service.id, domain, 'mole');
        page = await Caller.open(browser, kaigi, domain, 'daichi', open);
        const { call_params: params } = (await peer.event('CALL')) as unknown as { call_params: { media_connection_id: string } };
        call = params.media_connection_id;
        await gateway.done('POST', `/media/connections/${call}/answer`, { constraints, redirect_params: redirects });
      } else {
        page = await Caller.open(browser, kaigi, domain, 'emi', open);
        await page.state(/^Connected$/);
        peer = await gateway.peer(kaigi.service.id, domain, 'mole');
        call = await peer.call('emi', constraints, redirects);
      }
      await gateway.isOpen(call);
      const shown = page;
      const first = await until('the page shows it', async () => (await shown.frames('mole')) || undefined);
      await until('its picture moves', async () => (await shown.frames('mole')) >= first + 10);
      await until('the device gets the page’s picture', async () => {
        const counted = (await gateway.status(call)) as { statistics: { video: { received: number } } };
        return counted.statistics.video.received > 10;
      });
      expect(await shown.ways()).toEqual(['relay']);
    } finally {
      await Promise.all([sender.stop(), watcher.stop(), peer?.remove(), page?.close()]);
    }
  });
});

/** An RTP packet, of VP8. */
function packet(sequence: number, ssrc: number, payload: string): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(0x80, 0);
  header.writeUInt8(0x80 | 96, 1);
  header.writeUInt16BE(sequence, 2);
  header.writeUInt32BE(sequence * 3000, 4);
  header.writeUInt32BE(ssrc, 8);
  return Buffer.concat([header, Buffer.from(payload)]);
}

describe('the page of the documentation', () => {
  it('says what happens', () => checkPage('gateway.md', kaigi, { KAIGI_GATEWAY_URL: gateway.url }));
});

describe('two devices', () => {
  let display: GatewayPeer;
  const sender = 0x0a0b0c0d;

  beforeAll(async () => {
    display = await until('the name is free', () => gateway.peer(kaigi.service.id, 'garden', 'display'));
  });

  it('call each other, and ask each other for key frames', async () => {
    const [from, feedback, to] = [await Device.open(), await Device.open(), await Device.open()];
    try {
      const [picture, rtcp, unused] = [await gateway.mediaPort(true), await gateway.rtcpPort(), await gateway.mediaPort(true)];
      const constraints = { video: true, videoReceiveEnabled: false, audio: false, video_params: video(picture), metadata: { door: 1 } };
      const call = await camera.call('display', constraints, { video_rtcp: local(feedback.port) });
      const { call_params: params } = (await display.event('CALL')) as unknown as { call_params: { media_connection_id: string } };
      const taken = params.media_connection_id;
      expect(await gateway.status(taken)).toMatchObject({ open: false, remote_id: 'camera', metadata: { door: 1 } });
      const wish = { video: false, videoReceiveEnabled: true, audio: false, video_params: video(unused, { payload_type: 100, rtcp_id: rtcp.id }) };
      await gateway.done('POST', `/media/connections/${taken}/answer`, { constraints: wish, redirect_params: { video: local(to.port) } });
      expect((await gateway.call('POST', `/media/connections/${taken}/answer`, { constraints: wish })).status).toBe(403);
      await Promise.all([gateway.isOpen(call), gateway.isOpen(taken)]);

      let sequence = 0;
      await until('packets come through', () => {
        from.send(packet((sequence += 1), sender, `picture ${sequence}`), picture.port);
        return to.received.length > 5;
      });
      const [first, second] = to.received.slice(-2) as [Buffer, Buffer];
      expect([first.readUInt8(1) & 0x7f, first.subarray(12).toString()]).toEqual([100, expect.stringMatching(/^picture \d+$/)]);
      expect(second.readUInt16BE(2)).toBe(first.readUInt16BE(2) + 1);
      expect(second.readUInt32BE(8)).toBe(first.readUInt32BE(8));

      // PLI (RFC 4585 §6.3.1) to the gateway of the one is PLI at the device of the other.
      const loss = Buffer.alloc(12);
      loss.writeUInt32BE(0x81ce0002, 0);
      await until('the sender is asked for a key frame', () => {
        to.send(loss, rtcp.port);
        from.send(packet((sequence += 1), sender, 'more'), picture.port);
        return feedback.received.some((message) => message.readUInt8(1) === 206 && message.readUInt32BE(8) === sender);
      });
      await gateway.hangUp(call);
      await gateway.event(`/media/connections/${taken}/events`, 'CLOSE');
    } finally {
      for (const device of [from, feedback, to]) device.close();
    }
  });

  it('send each other datagrams, of which it is told how many went through', async () => {
    const [one, other] = [await Device.open(), await Device.open()];
    try {
      const [near, far] = [await gateway.dataPort(), await gateway.dataPort()];
      const options = { metadata: 'sensor 7', serialization: 'NONE', dcInit: { ordered: false, maxRetransmits: 0 } };
      const body = { peer_id: camera.id, token: camera.token, options, target_id: 'display', params: { data_id: near.id }, redirect_params: local(one.port) };
      const { params } = (await gateway.done('POST', '/data/connections', body)) as { params: { data_connection_id: string; data_port: number } };
      expect(params.data_port).toBe(near.port);
      const { data_params: offered } = (await display.event('CONNECTION')) as unknown as { data_params: { data_connection_id: string } };
      const taken = offered.data_connection_id;
      const put = { feed_params: { data_id: far.id }, redirect_params: local(other.port) };
      expect(await gateway.done('PUT', `/data/connections/${taken}`, put)).toEqual({ command_type: 'DATA_CONNECTION_PUT', data_id: far.id });
      await gateway.event(`/data/connections/${params.data_connection_id}/events`, 'OPEN');
      await gateway.isOpen(taken);
      expect(await gateway.status(taken)).toMatchObject({ remote_id: 'camera', reliable: false, type: 'DATA', metadata: { text: 'sensor 7' } });

      await until('a datagram goes through', () => {
        one.send('hello', near.port);
        return other.received.length > 0;
      });
      await until('one comes back', () => {
        other.send(Buffer.from([0, 255, 1]), far.port);
        return one.received.length > 0;
      });
      expect([other.received[0]?.toString(), [...(one.received[0] ?? [])]]).toEqual(['hello', [0, 255, 1]]);
      const counted = (await gateway.status(params.data_connection_id)) as { statistics: { sent: number; sent_bytes: number; received: number } };
      const { sent, sent_bytes: bytes, received } = counted.statistics;
      expect([bytes, sent > 0, received > 0]).toEqual([5 * sent, true, true]);

      // As a sensor that has much to say, and the other side says back what it hears.
      const before = { there: other.received.length, back: one.received.length };
      other.answers(far.port);
      const began = performance.now();
      for (let turn = 0; turn < TURNS; turn += 1) {
        for (let n = 0; n < A_TURN; n += 1) one.send(Buffer.alloc(200, n), near.port);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      const took = (performance.now() - began) / 1000;
      let back = 0;
      await until('no more come', async () => {
        const now = one.received.length;
        await new Promise((resolve) => setTimeout(resolve, 200));
        back = one.received.length;
        return back === now;
      });
      const [all, there] = [TURNS * A_TURN, other.received.length - before.there];
      back -= before.back;
      console.log(`${all} datagrams of 200 bytes, ${Math.round(all / took)} a second: ${all - there} lost there, ${there - back} on the way back`);
      const end = (await gateway.status(params.data_connection_id)) as { statistics: { sent: number; sending_lost: number; received: number } };
      expect(end.statistics.sent + end.statistics.sending_lost - sent).toBeGreaterThanOrEqual(there);
      expect(end.statistics.received - received).toBeGreaterThanOrEqual(back);
      expect(there).toBeGreaterThan(0.5 * all);
      expect(back).toBeGreaterThan(0.5 * there);
      await gateway.hangUp(params.data_connection_id);
      await gateway.event(`/data/connections/${taken}/events`, 'CLOSE');
    } finally {
      one.close();
      other.close();
    }
  });
});

describe('devices at two gateways', () => {
  it('call each other, and send each other datagrams, until one of them is to end', async () => {
    const other = await FurtherGateway.start(kaigi);
    const [from, to] = [await Device.open(), await Device.open()];
    try {
      const there = await other.peer(kaigi.service.id, 'garden', 'shed');
      const [picture, back] = [await gateway.mediaPort(true), await other.mediaPort(true)];
      const [near, far] = [await freePort(), await freePort()];
      const [watchers, senders] = [[new PictureReceiver(near), new PictureReceiver(far)], [new RtpSender(GREEN, picture.port, await freePort()), new RtpSender(BLUE, back.port, await freePort())]];
      try {
        const call = await camera.call('shed', { video: true, audio: false, video_params: video(picture) }, { video: local(near) });
        const { call_params: params } = (await there.event('CALL')) as unknown as { call_params: { media_connection_id: string } };
        const taken = params.media_connection_id;
        await other.done('POST', `/media/connections/${taken}/answer`, { constraints: { video: true, audio: false, video_params: video(back) }, redirect_params: { video: local(far) } });
        await Promise.all([gateway.isOpen(call), other.isOpen(taken)]);
        await Promise.all([watchers[0]!.sees(BLUE), watchers[1]!.sees(GREEN)]);
        await other.hangUp(taken);
        await gateway.event(`/media/connections/${call}/events`, 'CLOSE');
      } finally {
        await Promise.all([...watchers, ...senders].map((one) => one.stop()));
      }

      const [one, two] = [await gateway.dataPort(), await other.dataPort()];
      const body = { peer_id: camera.id, token: camera.token, target_id: 'shed', params: { data_id: one.id }, redirect_params: local(from.port) };
      const { params } = (await gateway.done('POST', '/data/connections', body)) as { params: { data_connection_id: string } };
      const { data_params: offered } = (await there.event('CONNECTION')) as unknown as { data_params: { data_connection_id: string } };
      await other.done('PUT', `/data/connections/${offered.data_connection_id}`, { feed_params: { data_id: two.id }, redirect_params: local(to.port) });
      await Promise.all([gateway.isOpen(params.data_connection_id), other.isOpen(offered.data_connection_id)]);
      await until('datagrams go both ways', () => {
        from.send('there', one.port);
        to.send('back', two.port);
        return to.received.some((message) => message.toString() === 'there') && from.received.some((message) => message.toString() === 'back');
      });

      // It is to end: what there is goes on, and nothing new begins.
      other.drain();
      await until('it takes no more peers', async () => (await other.call('POST', '/peers', { key: kaigi.service.id, domain: 'garden', peer_id: 'late' })).status === 408);
      const refused = await camera.call('shed', { video: true, audio: false, video_params: video(await gateway.mediaPort(true)) });
      await gateway.event(`/media/connections/${refused}/events`, 'ERROR');
      const before = to.received.length;
      await until('datagrams still go through', () => {
        from.send('still', one.port);
        return to.received.length > before;
      });
      expect(other.exitCode).toBeNull();
      await gateway.hangUp(params.data_connection_id);
      await until('it has ended', () => other.exitCode !== null);
      expect(other.exitCode).toBe(0);
    } finally {
      from.close();
      to.close();
      await other.stop();
    }
  });
});
