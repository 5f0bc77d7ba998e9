import dgram from 'node:dgram';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Gateway, type GatewayPeer, local, params } from '../harness/gateway';
import { Kaigi } from '../harness/kaigi';
import { freePort } from '../harness/live-server';
import { until } from '../harness/until';
import { useOf } from '../harness/use';

/** How many streams go through the gateway, first into a conference and then out of it, too. */
const COUNT = Number(process.env.COUNT ?? 10);
/** For how long each is watched, in seconds. */
const SECONDS = Number(process.env.SECONDS ?? 20);
/** A stream: frames a second, packets of each, bytes of their payload. With RTP's header 1.44 Mbit/s. */
const [RATE, PACKETS, PAYLOAD] = [30, 5, 1188];
const MEASURED = ['kaigi-rtp-gateway', 'kaigi-access-node'];

let kaigi: Kaigi;
let gateway: Gateway;
let peer: GatewayPeer;
let room: string;
const socket = dgram.createSocket('udp4');
let received = 0;
const rows: Record<string, Record<string, number>> = {};

beforeAll(async () => {
  const port = await freePort();
  kaigi = await Kaigi.start({ name: 'scenario-gateway', args: ['--gateway-port', String(port)] });
  gateway = new Gateway(`http://127.0.0.1:${port}`);
  await until('the gateway answers', async () => (await gateway.call('GET', '/openapi.json')).status === 200);
  room = await kaigi.rest.createRoom('gateway', { views: [] });
  peer = await until('the gateway makes peers', () => gateway.peer(kaigi.service.id, 'garden', 'cameras'));
  socket.on('message', () => (received += 1));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
});
afterAll(async () => {
  console.table(rows);
  socket.close();
  await kaigi?.stop();
});

/** A device that sends frames of which nobody looks at the picture. */
function device(port: number, ssrc: number): NodeJS.Timeout {
  let [sequence, frame] = [0, 0];
  return setInterval(() => {
    frame += 1;
    for (let n = 0; n < PACKETS; n += 1) {
      const packet = Buffer.alloc(12 + PAYLOAD);
      packet.writeUInt8(0x80, 0);
      packet.writeUInt8((n === PACKETS - 1 ? 0x80 : 0) | 96, 1);
      packet.writeUInt16BE((sequence += 1) & 0xffff, 2);
      packet.writeUInt32BE(frame * (90_000 / RATE), 4);
      packet.writeUInt32BE(ssrc, 8);
      // VP8's descriptor at the beginning of a partition (RFC 7741 §4.2), and a key frame's header.
      if (n === 0) packet.set([0x10, 0x10, 0x02, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0], 12);
      socket.send(packet, port, '127.0.0.1');
    }
  }, 1000 / RATE);
}

/** Microseconds of processor time a second, of each stream, beside what there was `before`. */
async function measure(what: string, before: Record<string, number>): Promise<Record<string, number>> {
  // For what begins to be over; then the length of the measurement.
  await new Promise((resolve) => setTimeout(resolve, 5000));
  const processes = kaigi.children().filter(({ name }) => MEASURED.includes(name));
  const [use, arrived] = [processes.map(({ pid }) => useOf(pid)), received];
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
  const cores = Object.fromEntries(processes.map(({ name, pid }, i) => [name, (useOf(pid).cpu - use[i]!.cpu) / SECONDS]));
  const each = Object.entries(cores).map(([name, used]) => [`${name}, cores a stream`, Number(((used - (before[name] ?? 0)) / COUNT).toFixed(4))]);
  const resident = Math.round(useOf(processes.find(({ name }) => name === MEASURED[0])!.pid).resident);
  rows[what] = { ...Object.fromEntries(each), 'packets a second out': Math.round((received - arrived) / SECONDS), 'gateway, MiB': resident };
  return cores;
}

it(`measures what each of ${COUNT} streams of 1.44 Mbit/s costs the gateway`, async () => {
  const devices: NodeJS.Timeout[] = [];
  try {
    const idle = await measure('nothing', {});
    for (let n = 0; n < COUNT; n += 1) {
      const { id, port } = await gateway.mediaPort(true);
      const call = await peer.call(`room:${room}`, { video: true, videoReceiveEnabled: false, audio: false, video_params: params('VP8', id) });
      devices.push(device(port, 1000 + n));
      await gateway.isOpen(call);
    }
    const streams = await until('all streams are there', async () => {
      const all = await kaigi.rest.streams(room);
      return all.length === COUNT && all;
    });
    const sending = await measure('into a conference', idle);
    for (const { id } of streams) {
      const wish = { video: false, videoReceiveEnabled: true, audio: false, metadata: { stream: id } };
      await gateway.isOpen(await peer.call(`room:${room}`, wish, { video: local((socket.address() as AddressInfo).port) }));
    }
    await measure('out of it', sending);
    expect(rows['out of it']!['packets a second out']).toBeGreaterThan(0.9 * COUNT * RATE * PACKETS);
  } finally {
    devices.forEach(clearInterval);
    await peer.remove();
  }
}, 60_000 + 3 * 1000 * SECONDS);
