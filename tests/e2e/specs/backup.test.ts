import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { Kaigi, PROGRAM, newDataDir } from '../harness/kaigi';
import { freePorts } from '../harness/ports';
import { until } from '../harness/until';

const dirs: string[] = [];
afterEach(() => dirs.splice(0).forEach((dir) => rmSync(dir, { recursive: true, force: true })));

function fresh(): string {
  const dir = newDataDir();
  dirs.push(dir);
  return dir;
}

/** Starts `kaigi up` and ends it when it has said something; that. */
async function sayingOf(dir: string, what: RegExp): Promise<string> {
  const ports = await freePorts();
  const args = ['--data-dir', dir, '--bind', '127.0.0.1', '--http-port', `${ports.http}`, '--management-port', `${ports.management}`, '--media-port', `${ports.media}`];
  const launcher = spawn(PROGRAM, ['up', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const output of [launcher.stdout, launcher.stderr]) output.on('data', (chunk: Buffer) => (said += chunk.toString()));
  try {
    return (await until('it says so', () => what.exec(said)))[0];
  } finally {
    const ended = once(launcher, 'exit');
    launcher.kill('SIGTERM');
    await ended;
  }
}

it('what was copied while it did not run is a whole Kaigi again', async () => {
  const [original, copy] = [fresh(), fresh()];
  const before = await Kaigi.start({ name: 'backup-before', dataDir: original });
  const room = await before.rest.createRoom('kept', { inputLimit: 7 });
  await before.stop();

  cpSync(original, copy, { recursive: true });
  rmSync(original, { recursive: true });
  const after = await Kaigi.start({ name: 'backup-after', dataDir: copy });
  expect(after.service).toEqual(before.service);
  expect((await after.rest.rooms()).find(({ _id }) => _id === room)).toMatchObject({ name: 'kept', inputLimit: 7 });
  await after.stop();
});

it('without the key its credentials are lost, and it says so rather than start anew', async () => {
  const dir = fresh();
  await (await Kaigi.start({ name: 'backup-key', dataDir: dir })).stop();
  cpSync(path.join(dir, 'seal.key'), path.join(dir, 'elsewhere.key'));
  rmSync(path.join(dir, 'seal.key'));
  expect(await sayingOf(dir, /^.*credentials are sealed.*$/m)).toContain('bring it back, or give it by --seal-key-file');

  const given = await Kaigi.start({ name: 'backup-key-given', dataDir: dir, args: ['--seal-key-file', path.join(dir, 'elsewhere.key')] });
  expect((await given.rest.rooms()).map(({ name }) => name)).toEqual(['default']);
  await given.stop();
});
