import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { request } from './http';
import { type Ports, freePorts } from './ports';
import { type Process, childrenOf, isRunning } from './processes';
import { type Credentials, Rest } from './rest';
import { until } from './until';

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
export const PROGRAM = process.env.KAIGI ?? path.join(PROJECT, 'target/release/kaigi');

/** Where logs and pictures of a run are kept. */
export const ARTIFACTS = fileURLToPath(new URL('../artifacts', import.meta.url));

/** How long a start may take on a busy machine, in ms. */
const START = 20_000;

export interface StartOptions {
  /** Names the log in the artifacts. */
  name: string;
  /** A data directory that is kept; default: a fresh one that is removed at the end. */
  dataDir?: string;
  /** `https` where TLS is switched on by the arguments. */
  scheme?: 'http' | 'https';
  /** Where clients connect; default: 127.0.0.1, where it has to be reached in any case. */
  bind?: string;
  /** Further arguments for `kaigi up`. */
  args?: string[];
  /** Further environment variables, which all processes inherit. */
  env?: Record<string, string>;
}

/** A whole Kaigi, started as a user would start it. */
export class Kaigi {
  private constructor(
    private readonly launcher: ChildProcess,
    readonly dataDir: string,
    private readonly keepData: boolean,
    private readonly scheme: string,
    readonly ports: Ports,
    /** From the start of the program until it was ready, in ms. */
    readonly startedIn: number,
    readonly service: Credentials & { room: string },
    private readonly log: string,
  ) {}

  /** Starts `kaigi up` on free ports and waits until it is ready. */
  static async start({ name, dataDir, scheme = 'http', bind = '127.0.0.1', args = [], env = {} }: StartOptions): Promise<Kaigi> {
    const data = dataDir ?? newDataDir();
    const ports = await freePorts();
    mkdirSync(ARTIFACTS, { recursive: true });
    const logFile = path.join(ARTIFACTS, `${name}.log`);
    const log = openSync(logFile, 'w');
    const flags = {
      '--data-dir': data,
      '--bind': bind,
      '--http-port': String(ports.http),
      '--management-port': String(ports.management),
      '--media-port': String(ports.media),
    };
    const started = Date.now();
    const launcher = spawn(PROGRAM, ['up', ...Object.entries(flags).flat(), ...args], {
      stdio: ['ignore', log, log],
      cwd: data,
      env: { ...process.env, ...env },
    });
    closeSync(log);
    // Nothing that a test forgets outlives the test run.
    const atExit = (): void => void launcher.kill('SIGTERM');
    process.once('exit', atExit);
    launcher.once('exit', () => process.removeListener('exit', atExit));
    try {
      await until(
        `${name}: /ready`,
        async () => {
          if (launcher.exitCode !== null) throw new Error(`kaigi ended with ${launcher.exitCode}`);
          return (await request(`${scheme}://127.0.0.1:${ports.http}/ready`, { timeout: 1000 })).status === 200;
        },
        START,
      );
    } catch (error) {
      launcher.kill('SIGTERM');
      throw error;
    }
    const startedIn = Date.now() - started;
    return new Kaigi(launcher, data, dataDir !== undefined, scheme, ports, startedIn, showService(data), logFile);
  }

  /** Of the web pages, the SDK and signaling. */
  get url(): string {
    return `${this.scheme}://127.0.0.1:${this.ports.http}`;
  }

  /** Of the management API. */
  get managementUrl(): string {
    return `${this.scheme}://127.0.0.1:${this.ports.management}`;
  }

  get rest(): Rest {
    return new Rest(this.managementUrl, this.service);
  }

  /** Of the launcher. */
  /** As one sees it who knows no other port than that. */
  by(port: number): Kaigi {
    return Object.create(this, { url: { value: `${this.scheme}://127.0.0.1:${port}` } }) as Kaigi;
  }

  get pid(): number {
    if (this.launcher.pid === undefined) throw new Error('kaigi was never started');
    return this.launcher.pid;
  }

  /** The processes that the launcher runs at the moment. */
  children(): Process[] {
    return childrenOf(this.pid);
  }

  child(name: string): Process | undefined {
    return this.children().find((child) => child.name === name);
  }

  /** Starts another process like one of the children, on ports of its own; `flags` are other than that one's. */
  again(child: Process, flags: Record<string, string> = {}): ChildProcess {
    const [program, ...args] = readFileSync(`/proc/${child.pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    const variables = readFileSync(`/proc/${child.pid}/environ`, 'utf8').split('\0').filter((variable) => variable.includes('='));
    const env = Object.fromEntries(variables.map((variable) => [variable.slice(0, variable.indexOf('=')), variable.slice(variable.indexOf('=') + 1)]));
    const own = { '--listen': '127.0.0.1:0', '--health-listen': '127.0.0.1:0', ...flags };
    for (const [flag, value] of Object.entries(own)) args[args.indexOf(flag) + 1] = value;
    const log = openSync(this.log, 'a');
    // It ends with its standard input, and so with this process.
    const another = spawn(program ?? '', args, { stdio: ['pipe', log, log], env });
    closeSync(log);
    return another;
  }

  /** What its processes have said so far. */
  get lines(): string[] {
    return readFileSync(this.log, 'utf8').split('\n');
  }

  async isReady(): Promise<boolean> {
    return (await request(`${this.url}/ready`, { timeout: 1000 })).status === 200;
  }

  /**
   * Ends it as a user would, and waits until all its processes are gone. How long that took, in ms.
   * Fails if anything in it panicked meanwhile: nothing that a test does may bring that about.
   */
  async stop(): Promise<number> {
    const began = Date.now();
    const pids = [this.pid, ...this.children().map((child) => child.pid)];
    this.launcher.kill('SIGTERM');
    try {
      await until('all processes have ended', () => !pids.some(isRunning));
    } catch (error) {
      for (const pid of pids.filter(isRunning)) process.kill(pid, 'SIGKILL');
      throw error;
    } finally {
      if (!this.keepData) rmSync(this.dataDir, { recursive: true, force: true });
    }
    const panics = readFileSync(this.log, 'utf8').split('\n').filter((line) => line.includes('panicked at'));
    if (panics.length > 0) throw new Error(`there were panics:\n${panics.join('\n')}`);
    return Date.now() - began;
  }
}

/** Memory that is a folder, where there is enough: what is written there waits for no busy disk. */
const MEMORY = '/dev/shm';
const ENOUGH = 2 ** 30;

function base(): string {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize > ENOUGH ? MEMORY : tmpdir();
  } catch {
    return tmpdir();
  }
}

export function newDataDir(): string {
  return mkdtempSync(path.join(base(), 'kaigi-e2e-'));
}

/** The first service's credentials, as an operator reads them. */
export function showService(dataDir: string): Credentials & { room: string } {
  const json = execFileSync(PROGRAM, ['service', 'show', '--json', '--data-dir', dataDir], { encoding: 'utf8' });
  return JSON.parse(json) as Credentials & { room: string };
}
