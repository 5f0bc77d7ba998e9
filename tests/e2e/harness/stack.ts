import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DEPLOY, containers, docker, kaigiAt, machineAddress, serviceIn } from './docker';
import { type Kaigi } from './kaigi';
import { until } from './until';

/** Of all services, in ms. */
export const START = 180_000;
const NAME = 'kaigi-test';
/** What deploy/stack.yaml has. */
export const SERVICES: Record<string, number> = { redis: 1, 'cluster-manager': 2, 'conference-agent': 2, 'access-node': 2, 'mixer-node': 2, 'streaming-node': 2, portal: 2 };
const PURPOSES = { access: 2, mixer: 2, conference: 2, streaming: 2, portal: 2 };

/** A Swarm of this machine, on which deploy/stack.yaml runs. */
export const stack = {
  /** With further files of deploy/, and secrets beside those that it needs. Returns when the leading cluster-manager knows all processes. */
  async deploy(files: string[] = [], more: Record<string, string> = {}): Promise<void> {
    const address = machineAddress();
    await docker('swarm', 'init', '--advertise-addr', address, '--listen-addr', `${address}:2377`);
    await docker('node', 'update', '--label-add', 'kaigi.store=true', await docker('info', '--format', '{{.Swarm.NodeID}}'));
    const password = randomBytes(24).toString('hex');
    const secrets = {
      'kaigi-cluster-secret': randomBytes(32).toString('hex'),
      'kaigi-seal-key': randomBytes(32).toString('base64'),
      'kaigi-redis-conf': `requirepass ${password}`,
      'kaigi-redis-url': `redis://:${password}@redis:6379`,
      ...more,
    };
    const dir = mkdtempSync(path.join(tmpdir(), 'kaigi-secrets-'));
    for (const [name, value] of Object.entries(secrets)) {
      writeFileSync(path.join(dir, name), `${value}\n`, { mode: 0o600 });
      await docker('secret', 'create', name, path.join(dir, name));
    }
    rmSync(dir, { recursive: true });
    const flags = ['stack.yaml', ...files].flatMap((file) => ['-c', `${DEPLOY}/${file}`]);
    await docker('stack', 'deploy', '--resolve-image', 'never', ...flags, NAME);
    for (const [service, replicas] of Object.entries(SERVICES)) {
      await until(`${replicas} of ${service}`, async () => (await stack.of(service)).length === replicas, START, 500);
    }
    for (const [purpose, count] of Object.entries(PURPOSES)) {
      await until(`${count} ${purpose} workers`, async () => (await stack.workers(purpose)) === count, START, 500);
    }
  },

  async remove(): Promise<void> {
    await docker('stack', 'rm', NAME).catch(() => '');
    const volumes = ['redis', 'cluster-manager', 'recordings'].map((name) => `${NAME}_${name}`);
    await until('nothing is left', () => docker('volume', 'rm', '--force', ...volumes), 60_000, 500).catch(console.error);
    await docker('swarm', 'leave', '--force').catch(() => '');
  },

  /** The containers of a service that run. */
  of: (service: string): Promise<string[]> => containers(`${NAME}_${service}\\.`),

  async scale(service: string, replicas: number): Promise<void> {
    await docker('service', 'scale', '--detach', `${NAME}_${service}=${replicas}`);
    await until(`${replicas} of ${service}`, async () => (await stack.of(service)).length === replicas, START, 500);
  },

  /** How many of a kind the cluster-manager knows that leads. */
  async workers(purpose: string): Promise<number> {
    const metric = new RegExp(`^kaigi_cluster_workers\\{purpose="${purpose}"\\} (\\d+)$`, 'm');
    const counts = (await stack.metrics('cluster-manager')).map(({ text }) => Number(metric.exec(text)?.[1] ?? 0));
    return Math.max(0, ...counts);
  },

  /** What each container of a service tells of itself. */
  async metrics(service: string): Promise<{ container: string; text: string }[]> {
    const all = (await stack.of(service)).map(async (container) => {
      const text = await docker('exec', container, 'curl', '--silent', '--max-time', '2', 'http://127.0.0.1:9090/metrics').catch(() => '');
      return { container, text };
    });
    return Promise.all(all);
  },

  /** By its first portal. */
  async kaigi(): Promise<Kaigi> {
    const [manager, portal] = [(await stack.of('cluster-manager'))[0]!, (await stack.of('portal'))[0]!];
    return kaigiAt(await addressOf(portal), await serviceIn(manager));
  },
};

/** A container's address on the bridge to this machine. */
async function addressOf(container: string): Promise<string> {
  const networks = JSON.parse(await docker('network', 'inspect', 'docker_gwbridge')) as { Containers: Record<string, { IPv4Address: string }> }[];
  const address = networks[0]?.Containers[container]?.IPv4Address.split('/')[0];
  if (!address) throw new Error(`${container} is not on the bridge`);
  return address;
}

/** The three files of a directory that `kaigi certificates` has made, as docs/deployment.md has them become secrets. */
export function certificateSecrets(dir: string): Record<string, string> {
  const files = { 'kaigi-cluster-ca': 'ca.crt', 'kaigi-cluster-crt': 'tls.crt', 'kaigi-cluster-key': 'tls.key' };
  return Object.fromEntries(Object.entries(files).map(([secret, file]) => [secret, readFileSync(path.join(dir, file), 'utf8').trim()]));
}
