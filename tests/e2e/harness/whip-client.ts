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
  static start(endpoint: string, token: string, { colour, tone }: Look): Promise<WhipClient> {
    const shown = `0xff${colour.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
    return this.begin(endpoint, token, shown, tone);
  }

  /** One that publishes what tells when it was made, with pictures that are sent so many ms after their sound. */
  static clock(endpoint: string, token: string, late = 0): Promise<WhipClient> {
    return this.begin(endpoint, token, 'clock', late);
  }

  private static async begin(endpoint: string, token: string, look: string, sound: number): Promise<WhipClient> {
    const script = fileURLToPath(new URL('whip-client.py', import.meta.url));
    // Debian's Python, which its GStreamer bindings are for.
    const process = spawn('/usr/bin/python3', [script, endpoint, token, look, String(sound)], { stdio: ['ignore', 'pipe', 'inherit'] });
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
