import { execFile } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Kaigi } from './kaigi';
import { type Credentials, Rest } from './rest';

export const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
export const DEPLOY = path.join(PROJECT, 'deploy');

const run = promisify(execFile);

/** Runs a program in the project's directory; what it says. */
export async function say(program: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  return (await run(program, args, { cwd: PROJECT, env: { ...process.env, ...env }, maxBuffer: 16 << 20 })).stdout.trim();
}

/** An address of this machine that is not loopback: containers reach it, and it is announced for them. */
export function machineAddress(): string {
  const interfaces = networkInterfaces();
  const found = [...(interfaces.docker0 ?? []), ...Object.values(interfaces).flat()].find((each) => each?.family === 'IPv4' && !each.internal);
  if (!found) throw new Error('this machine has no address but loopback');
  return found.address;
}

/** The engine that tests/docker/run.sh has found or started. */
export const docker = (...args: string[]): Promise<string> => say('docker', args);

/** Kills the first process of a container as a fault would: `docker kill` counts as a wish that it be gone. */
export async function killFirst(container: string): Promise<void> {
  const pid = await docker('inspect', '--format', '{{.State.Pid}}', container);
  await docker('run', '--rm', '--pid', 'host', '--user', '0', '--entrypoint', 'kill', process.env.KAIGI_IMAGE ?? 'kaigi', '-9', pid);
}

/** The containers whose name begins so, and that run. */
export async function containers(name: string): Promise<string[]> {
  const said = await docker('ps', '--quiet', '--no-trunc', '--filter', `name=^${name}`, '--filter', 'status=running');
  return said.split('\n').filter(Boolean);
}

/** The sum of a metric of a process that has a container for itself. */
export async function metric(container: string, name: string): Promise<number> {
  const text = await docker('exec', container, 'curl', '--silent', '--max-time', '2', 'http://127.0.0.1:9090/metrics');
  const values = [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'gm'))].map(([, value]) => Number(value));
  return values.reduce((sum, value) => sum + value, 0);
}

/** What other helpers need of a Kaigi that is in containers already. */
export function kaigiAt(host: string, service: Credentials & { room: string }): Kaigi {
  const [url, managementUrl] = [`http://${host}:8080`, `http://${host}:3000`];
  return { url, managementUrl, service, rest: new Rest(managementUrl, service) } as Kaigi;
}

/** The first service, as an operator asks for it. */
export async function serviceIn(container: string): Promise<Credentials & { room: string }> {
  return JSON.parse(await docker('exec', container, 'kaigi', 'service', 'show', '--json')) as Credentials & { room: string };
}
