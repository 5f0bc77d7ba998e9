import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, isOpen } from './live-server';
import { until } from './until';

const KEY = 'key';

/** A live server that writes what it is sent to a file, which grows meanwhile. */
export class LiveReceiver {
  #process: ChildProcess | undefined;
  #run = 0;

  private constructor(
    readonly url: string,
    readonly folder: string,
    private readonly command: (file: string) => [string, ...string[]],
    private readonly listens: () => Promise<boolean>,
  ) {}

  /** By SRT: FFmpeg as listener, for one caller. */
  static async srt(): Promise<LiveReceiver> {
    const port = await freeUdpPort();
    const listen = `srt://127.0.0.1:${port}?mode=listener`;
    const command = (file: string): [string, ...string[]] => ['ffmpeg', '-v', 'error', '-y', '-i', listen, '-c', 'copy', '-flush_packets', '1', '-f', 'mpegts', file];
    return LiveReceiver.#start(new LiveReceiver(`srt://127.0.0.1:${port}?streamid=${KEY}`, folder(), command, () => isUdpOpen(port)));
  }

  /** By RTSP: GStreamer's server. */
  static async rtsp(): Promise<LiveReceiver> {
    const port = await freePort();
    const script = fileURLToPath(new URL('rtsp-server.py', import.meta.url));
    // Debian's Python, which its GStreamer bindings are for.
    const command = (file: string): [string, ...string[]] => ['/usr/bin/python3', script, String(port), KEY, file];
    return LiveReceiver.#start(new LiveReceiver(`rtsp://127.0.0.1:${port}/live/${KEY}`, folder(), command, () => isOpen(port)));
  }

  static async #start(receiver: LiveReceiver): Promise<LiveReceiver> {
    await receiver.run();
    return receiver;
  }

  /** Where what is received since the last start goes. */
  get file(): string {
    return path.join(this.folder, `${this.#run}.ts`);
  }

  async run(): Promise<void> {
    this.#run += 1;
    const [program, ...args] = this.command(this.file);
    this.#process = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    await until('the server listens', this.listens, 10_000);
  }

  /** Until there is enough to look at. */
  received(): Promise<boolean> {
    return until('something is received', () => Promise.resolve(existsSync(this.file) && statSync(this.file).size > 50_000), 30_000);
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    const server = this.#process;
    this.#process = undefined;
    if (!server || server.exitCode !== null) return;
    const ended = once(server, 'exit');
    server.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const folder = (): string => mkdtempSync(path.join(tmpdir(), 'kaigi-received-'));

/** Whether somebody has that port, as the kernel lists it. */
function isUdpOpen(port: number): Promise<boolean> {
  const place = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  return Promise.resolve(readFileSync('/proc/net/udp', 'utf8').includes(place));
}

export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}
