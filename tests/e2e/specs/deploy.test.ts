import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { request } from '../harness/http';
import { ARTIFACTS, Kaigi, PROGRAM } from '../harness/kaigi';
import { until } from '../harness/until';

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
const DEPLOY = path.join(PROJECT, 'deploy');
const PYTHON = path.join(PROJECT, '.cache/kubernetes/bin/python');
const PROMTOOL = path.join(PROJECT, '.cache/prometheus/usr/bin/promtool');
const PROCESSES = ['cluster-manager', 'conference-agent', 'access-node', 'mixer-node', 'streaming-node', 'portal'];
/** Run where they are wanted: components and files of their own switch them on. */
const OPTIONAL = ['turn-server', 'rtp-gateway'];

interface Variable {
  name: string;
}
interface Container {
  args?: string[];
  env?: Variable[];
}
/** As much of a Kubernetes object as is looked at here. */
interface Manifest {
  kind: string;
  metadata: { name: string };
  spec?: {
    template?: { spec: { containers: Container[]; hostNetwork?: boolean } };
    scaleTargetRef?: { name: string };
    metrics?: { pods: { metric: { name: string } } }[];
    selector?: { matchLabels?: Record<string, string> };
  };
}
interface Service {
  command?: string[];
  environment?: Record<string, unknown>;
}
interface Rendered {
  yaml: Record<string, { services?: Record<string, Service> }[]>;
  rendered: Record<string, Manifest[]>;
  errors: string[];
}

const render = (deploy: string): Rendered =>
  JSON.parse(execFileSync(PYTHON, [path.join(PROJECT, 'tests/e2e/kubernetes/render.py'), deploy], { encoding: 'utf8', maxBuffer: 16 << 20 })) as Rendered;

const program = (process: string): string => path.join(path.dirname(PROGRAM), `kaigi-${process}`);

/** The environment variables and flags that a program says it knows. */
function known(file: string, ...args: string[]): Set<string> {
  const help = execFileSync(file, [...args, '--help'], { encoding: 'utf8' });
  return new Set([...help.matchAll(/\[env: (\w+)|(?<=\s)(--[a-z][a-z-]*)/g)].map(([, variable, flag]) => variable ?? flag!));
}

const ofProcess = new Map<string, Set<string>>();
const ofUp = known(PROGRAM, 'up');
let deploy: Rendered;

beforeAll(() => {
  expect(existsSync(PYTHON), 'scripts/setup.sh --test brings it').toBe(true);
  deploy = render(DEPLOY);
  const run = known(PROGRAM, 'run');
  for (const name of [...PROCESSES, ...OPTIONAL]) ofProcess.set(name, new Set([...known(program(name)), ...run]));
});

describe('Kubernetes', () => {
  it('knows every object, in the last three versions', () => {
    expect(deploy.errors).toEqual([]);
    expect(Object.keys(deploy.rendered)).toEqual(['kubernetes/base', 'kubernetes/overlays/doors', 'kubernetes/overlays/example']);
  });

  it('is not asked for what it does not know', () => {
    const copy = mkdtempSync(path.join(tmpdir(), 'kaigi-deploy-'));
    try {
      cpSync(DEPLOY, copy, { recursive: true });
      const file = path.join(copy, 'kubernetes/base/mixer-node.yaml');
      writeFileSync(file, readFileSync(file, 'utf8').replace('livenessProbe', 'livelinessProbe'));
      expect(render(copy).errors.join()).toMatch(/Deployment\/mixer-node, Kubernetes 1\.\d+: .*livelinessProbe/);
    } finally {
      rmSync(copy, { recursive: true });
    }
  });

  it.each(['kubernetes/base', 'kubernetes/overlays/example'])('%s runs every process, watched and kept from all being stopped together', (name) => {
    const objects = deploy.rendered[name]!;
    const workloads = objects.filter(({ spec }) => spec?.template);
    const run = new Map(workloads.flatMap(({ metadata, spec }) => spec!.template!.spec.containers.map(({ args }) => [args?.[1], metadata.name])));
    expect(PROCESSES.map((each) => run.get(each))).toEqual(PROCESSES);
    const budgets = objects.filter(({ kind }) => kind === 'PodDisruptionBudget').map(({ spec }) => spec?.selector?.matchLabels?.['app.kubernetes.io/name']);
    // Of one alone a budget would keep its machine from ever being emptied.
    const alone = name === 'kubernetes/base' ? ['cluster-manager'] : [];
    expect(budgets.sort()).toEqual(PROCESSES.filter((each) => !alone.includes(each)).sort());
    for (const { spec } of objects.filter(({ kind }) => kind === 'HorizontalPodAutoscaler')) {
      expect(workloads.map(({ metadata }) => metadata.name)).toContain(spec?.scaleTargetRef?.name);
    }
  });
});

describe('the TURN server and the RTP gateway', () => {
  it('are switched on by components, watched as the others, and end in their own time', () => {
    const objects = deploy.rendered['kubernetes/overlays/doors']!;
    for (const name of OPTIONAL) {
      const workload = objects.find(({ metadata, spec }) => metadata.name === name && spec?.template)!;
      expect(workload.spec!.template!.spec.containers[0]).toMatchObject({ args: ['run', name], image: 'example/kaigi:0.1.0' });
      expect(workload).toMatchObject({ metadata: { labels: { 'app.kubernetes.io/part-of': 'kaigi' } }, spec: { template: { spec: { containers: [{ ports: expect.arrayContaining([expect.objectContaining({ name: 'health' })]), readinessProbe: { httpGet: { path: '/ready', port: 'health' } }, livenessProbe: { httpGet: { path: '/health', port: 'health' } } }] } } } });
      expect(objects.find(({ kind, spec }) => kind === 'PodDisruptionBudget' && spec?.selector?.matchLabels?.['app.kubernetes.io/name'] === name)).toBeDefined();
      const env = workload.spec!.template!.spec.containers[0]!.env as { name: string; value?: string }[];
      const drain = Number(env.find((variable) => variable.name === 'KAIGI_DRAIN_TIMEOUT')!.value);
      expect((workload.spec!.template!.spec as { terminationGracePeriodSeconds?: number }).terminationGracePeriodSeconds).toBeGreaterThan(drain);
      expect(objects.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === 'coturn')).toBeUndefined();
      // Where it is not switched on nothing is left of it.
      for (const without of ['kubernetes/base', 'kubernetes/overlays/example']) expect(deploy.rendered[without]!.map(({ metadata }) => metadata.name)).not.toContain(name);
    }
  });
});

describe('what processes are given', () => {
  it('is known to them, in every manifest', () => {
    let seen = 0;
    const check = (where: string, process: string | undefined, names: string[]): void => {
      const allowed = process === undefined ? ofUp : ofProcess.get(process);
      expect(allowed, `${where}: no process ${process}`).toBeDefined();
      for (const name of names.filter((each) => each.startsWith('KAIGI_'))) {
        seen++;
        expect([...allowed!], where).toContain(name);
      }
    };
    for (const [name, objects] of Object.entries(deploy.rendered)) {
      const containers = objects.flatMap(({ spec }) => spec?.template?.spec.containers ?? []);
      for (const { args, env } of containers.filter(({ args }) => args?.[0] === 'run')) check(name, args![1], env!.map((variable) => variable.name));
    }
    const commands = new Map<string, string[] | undefined>();
    for (const name of ['compose.yaml', 'compose.turn.yaml', 'compose.gateway.yaml', 'stack.yaml', 'stack.ports.yaml', 'stack.tls.yaml', 'stack.turn.yaml', 'stack.gateway.yaml']) {
      for (const [service, { command, environment }] of Object.entries(deploy.yaml[name]![0]!.services!)) {
        if (command) commands.set(service, command);
        const [verb, process] = commands.get(service) ?? [];
        if (service === 'kaigi' || verb === 'run') check(`${name}: ${service}`, process, Object.keys(environment ?? {}));
      }
    }
    expect(seen).toBeGreaterThan(50);
  });

  it('is known to them, in the example file', () => {
    let process: string | undefined;
    for (const line of readFileSync(path.join(DEPLOY, 'kaigi.example.toml'), 'utf8').split('\n')) {
      process = /^\[([a-z-]+)\]$/.exec(line)?.[1] ?? process;
      if (process === undefined) continue;
      const names = line.match(/--[a-z][a-z-]*(?=")|KAIGI_\w+/g) ?? [];
      for (const name of names) expect([...ofProcess.get(process)!], `[${process}] ${line}`).toContain(name);
    }
    expect(process).toBe(OPTIONAL.at(-1));
  });

  it.each(['deployment', 'turn'])('is known to one of them, in the guide: %s', (page) => {
    const guide = readFileSync(path.join(PROJECT, `docs/${page}.md`), 'utf8');
    const all = new Set([...ofUp, ...[...ofProcess.values()].flatMap((each) => [...each])]);
    // Of the manifests themselves.
    const manifests = ['compose.yaml', 'stack.yaml', 'stack.turn.yaml'].map((name) => readFileSync(path.join(DEPLOY, name), 'utf8')).join();
    for (const [, name] of manifests.matchAll(/\$\{(KAIGI_\w+)/g)) all.add(name!);
    // Of a page's examples, which run against any Kaigi.
    all.add('KAIGI_URL');
    for (const [name] of guide.matchAll(/KAIGI_\w+/g)) expect([...all]).toContain(name);
  });
});

describe('what is watched', () => {
  const monitoring = path.join(DEPLOY, 'monitoring');
  /** Names of metrics, without what a histogram adds to them. */
  const named = (text: string): string[] => [...new Set([...text.matchAll(/\bkaigi_[a-z_]+/g)].map(([name]) => name.replace(/_(sum|count|bucket)$/, '')))];

  it('is counted by the processes', () => {
    const sources = readdirSync(PROJECT, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && existsSync(path.join(PROJECT, entry.name, 'Cargo.toml')))
      .flatMap(({ name }) => readdirSync(path.join(PROJECT, name, 'src'), { recursive: true, encoding: 'utf8' }).map((file) => path.join(PROJECT, name, 'src', file)))
      .filter((file) => file.endsWith('.rs'));
    const counted = new Set(sources.flatMap((file) => [...readFileSync(file, 'utf8').matchAll(/"(kaigi_[a-z_]+)"/g)].map(([, name]) => name!)));
    for (const file of readdirSync(monitoring)) {
      for (const name of named(readFileSync(path.join(monitoring, file), 'utf8'))) expect([...counted], file).toContain(name);
    }
    const scaled = Object.values(deploy.rendered).flat().flatMap(({ spec }) => spec?.metrics?.map(({ pods }) => pods.metric.name) ?? []);
    expect(new Set(scaled)).toEqual(new Set(['kaigi_process_cpu_load', 'kaigi_access_worker_cpu_load', 'kaigi_mixer_encoders', 'kaigi_portal_connections']));
    const adapter = readFileSync(path.join(monitoring, 'prometheus-adapter.yaml'), 'utf8');
    for (const name of scaled) expect(named(adapter)).toContain(name);
  });

  it.runIf(existsSync(PROMTOOL))('is told of by rules that Prometheus takes, and that say so when it is time', () => {
    const said = execFileSync(PROMTOOL, ['test', 'rules', 'alerts.test.yaml'], { cwd: monitoring, encoding: 'utf8' });
    expect(said).toContain('SUCCESS');
    expect(execFileSync(PROMTOOL, ['check', 'config', 'prometheus.swarm.yaml'], { cwd: monitoring, encoding: 'utf8' })).toContain('SUCCESS');
  });

  it('has a place on the dashboard', () => {
    const { panels } = JSON.parse(readFileSync(path.join(monitoring, 'dashboard.json'), 'utf8')) as { panels: { id: number; targets: { expr: string }[] }[] };
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const { targets } of panels) expect(targets.flatMap(({ expr }) => named(expr))).not.toEqual([]);
  });
});

describe('each process', () => {
  let kaigi: Kaigi;
  beforeAll(async () => void (kaigi = await Kaigi.start({ name: 'deploy' })));
  afterAll(async () => void (await kaigi?.stop()));

  it('tells how it is where the manifests look for it', async () => {
    const told = (): [string, string][] => {
      const log = readFileSync(path.join(ARTIFACTS, 'deploy.log'), 'utf8');
      return [...log.matchAll(/([a-z-]+) tells how it is at (http\S+)\/metrics/g)].map(([, name, url]) => [name!, url!]);
    };
    // The launcher says so when all of them are ready, of which it may hear a moment later than others.
    await until('the launcher tells of all', async () => told().length === PROCESSES.length);
    const places = told();
    expect(places.map(([name]) => name)).toEqual(PROCESSES);
    for (const [name, url] of places) {
      for (const at of ['/health', '/ready']) expect([name, at, (await request(url + at)).status]).toEqual([name, at, 200]);
      // Those that are counted without anybody there; what autoscaling goes by is counted by what it scales.
      const scaler = deploy.rendered['kubernetes/base']!.find(({ kind, metadata }) => kind === 'HorizontalPodAutoscaler' && metadata.name === name);
      const scaled = scaler?.spec?.metrics?.map(({ pods }) => pods.metric.name).find((metric) => metric.endsWith('_cpu_load'));
      const counted = scaled ?? (name === 'cluster-manager' ? 'kaigi_cluster_workers' : 'kaigi_process_cpu_load');
      await until(`${name} counts ${counted}`, async () => new RegExp(`^${counted}[ {]`, 'm').test((await request(`${url}/metrics`)).text));
    }
  });
});
