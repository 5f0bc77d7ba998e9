import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Look } from './colours';
import { until } from './until';

/** A WHIP client that is no browser: GStreamer's webrtcbin, by `whip-client.py`. */
export class WhipClient {
  #printed = '';

  private constructor(private readonly process: ChildProcess) {
    process.stdout?.on('data', (chunk: Buffer) => (this.#printed += chunk.toString('utf8')));
  }

  /** Starts one, and waits until its session has begun. */
  static async start(endpoint: string, token: string, { colour, tone }: Look): Promise<WhipClient> {
    const script = fileURLToPath(new URL('whip-client.py', import.meta.url));
    const shown = `0xff${colour.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
    // Debian's Python, which its GStreamer bindings are for.
    const process = spawn('/usr/bin/python3', [script, endpoint, token, shown, String(tone)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const client = new WhipClient(process);
    try {
      await until('the session has begun', () => client.#printed.includes('\n'));
    } catch (error) {
      process.kill('SIGKILL');
      throw error;
    }
    return client;
  }

  /** Has it end its session; all lines that it printed: the session's address, and the status of its end. */
  async end(): Promise<string[]> {
    const ended = this.process.exitCode === null ? once(this.process, 'close') : undefined;
    this.process.kill('SIGTERM');
    await ended;
    return this.#printed.trim().split('\n');
  }
}
