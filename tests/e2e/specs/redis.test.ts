import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kaigi } from '../harness/kaigi';
import { freePorts } from '../harness/ports';
import { Signaling } from '../harness/signaling';
import { until } from '../harness/until';

const dir = mkdtempSync(path.join(tmpdir(), 'kaigi-redis-'));
let port: number;
let redis: ChildProcess;
let kaigi: Kaigi;

/** A redis-server that keeps all it acknowledged. */
async function startRedis(): Promise<void> {
  const settings = ['--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
  redis = spawn('redis-server', ['--port', String(port), ...settings], { stdio: 'ignore' });
  await until('redis-server', async () => {
    const socket = createConnection(port, '127.0.0.1');
    return once(socket, 'connect').then(() => !!socket.destroy(), () => false);
  });
}

async function killRedis(): Promise<void> {
  const gone = once(redis, 'exit');
  redis.kill('SIGKILL');
  await gone;
}

beforeAll(async () => {
  port = (await freePorts()).http;
  await startRedis();
  kaigi = await Kaigi.start({ name: 'redis', args: ['--redis', `redis://127.0.0.1:${port}/`] });
});
afterAll(async () => {
  await kaigi?.stop();
  await killRedis();
  rmSync(dir, { recursive: true, force: true });
});

it('goes on while Redis is away, says so to those who need it, and has lost nothing afterwards', async () => {
  const room = await kaigi.rest.createRoom('kept');
  const [aiko, ben] = [await Signaling.connect(kaigi.url), await Signaling.connect(kaigi.url)];
  await aiko.login(await kaigi.rest.token(room, 'Aiko'));
  await ben.login(await kaigi.rest.token(room, 'Ben'));

  await killRedis();
  await aiko.granted('text', { to: 'all', message: 'still here?' });
  await ben.told('text', { message: 'still here?' });
  await expect(kaigi.rest.token(room, 'Chiyo')).rejects.toThrow(/Redis/);

  await startRedis();
  const token = await until('a token after Redis is back', () => kaigi.rest.token(room, 'Chiyo').catch(() => false as const));
  const chiyo = await Signaling.connect(kaigi.url);
  const { room: joined } = await chiyo.login(token);
  expect(joined.participants.map(({ user }) => user)).toEqual(['Aiko', 'Ben', 'Chiyo']);
  for (const client of [aiko, ben, chiyo]) client.close();
});
