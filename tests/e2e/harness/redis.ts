import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort, isOpen } from './live-server';
import { until } from './until';

/** A redis-server on loopback that keeps all it acknowledged, and can be killed and started again. */
export class RedisServer {
  #process: ChildProcess | undefined;
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'kaigi-redis-'));

  private constructor(private readonly port: number) {}

  static async start(): Promise<RedisServer> {
    const server = new RedisServer(await freePort());
    await server.run();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}/`;
  }

  async run(): Promise<void> {
    const settings = ['--bind', '127.0.0.1', '--dir', this.#folder, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
    this.#process = spawn('redis-server', ['--port', String(this.port), ...settings], { stdio: 'ignore' });
    await until('redis-server listens', () => isOpen(this.port));
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    const server = this.#process;
    this.#process = undefined;
    if (!server) return;
    const gone = once(server, 'exit');
    server.kill('SIGKILL');
    await gone;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
