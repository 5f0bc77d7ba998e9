// A child process of sockets.test.ts: some of the participants. It is told what to do, and tells when it has done it.
import { io } from 'socket.io-client-4';

/** Logins at a time. */
const AT_ONCE = 8;

/** Connections by the id of their room. */
const rooms = new Map();

function request(socket, name, data) {
  return new Promise((resolve, reject) => {
    socket.emit(name, data, (status, reply) => (status === 'ok' ? resolve(reply) : reject(new Error(`${name}: ${reply}`))));
  });
}

async function join(url, token) {
  const socket = io(url, { transports: ['websocket'], reconnection: false, forceNew: true });
  await new Promise((resolve, reject) => {
    socket.on('connect', resolve);
    socket.on('connect_error', reject);
  });
  const userAgent = { sdk: { type: 'JavaScript', version: '5.1' } };
  const { id, room } = await request(socket, 'login', { token, userAgent, protocol: '1.2' });
  rooms.set(room.id, [...(rooms.get(room.id) ?? []), { id, socket }]);
}

async function joinAll({ url, tokens }) {
  const left = [...tokens];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let token = left.pop(); token !== undefined; token = left.pop()) await join(url, token);
    }),
  );
  return [...rooms.values()].flat().length;
}

/** Texts from one to another in the same room, at an even pace; how long each took to be acknowledged, in ms. */
async function talk({ perSecond, seconds }) {
  const pairs = [...rooms.values()].flatMap((members) => members.map((from, i) => ({ from, to: members[(i + 1) % members.length] })));
  const latencies = [];
  const pending = [];
  const began = performance.now();
  for (let i = 0; i < perSecond * seconds; i++) {
    const wait = began + (i * 1000) / perSecond - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const { from, to } = pairs[i % pairs.length];
    const sent = performance.now();
    const text = { to: to.id, message: 'x'.repeat(100) };
    pending.push(request(from.socket, 'text', text).then(() => latencies.push(performance.now() - sent)));
  }
  await Promise.all(pending);
  return latencies;
}

const tasks = { join: joinAll, talk };

process.on('message', async ({ task, data }) => {
  try {
    process.send({ done: await tasks[task](data) });
  } catch (error) {
    process.send({ failed: String(error) });
  }
});
