import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Look } from './colours';
import { freePort, isOpen } from './live-server';
import { until } from './until';

/** What gives a live stream of one look, and can be killed and started again. */
export class LiveSource {
  #process: ChildProcess | undefined;

  private constructor(
    readonly url: string,
    private readonly command: (look: Look) => [string, ...string[]],
    private readonly listens: () => Promise<boolean>,
  ) {}

  /** A camera: RTSP with H.264 and Opus, behind a password. */
  static async camera(user: string, password: string): Promise<LiveSource> {
    const port = await freePort();
    const script = fileURLToPath(new URL('rtsp-camera.py', import.meta.url));
    // Debian's Python, which its GStreamer bindings are for.
    const command = ({ colour, tone }: Look): [string, ...string[]] => [
      '/usr/bin/python3', script, String(port), user, password, `0xff${colour.map((part) => part.toString(16).padStart(2, '0')).join('')}`, String(tone),
    ];
    return new LiveSource(`rtsp://${user}:${password}@127.0.0.1:${port}/stream/main`, command, () => isOpen(port));
  }

  /** What OBS and FFmpeg push by default: H.264 whose pictures refer to later ones, so many in a row, and AAC; by RTMP or SRT. */
  static pushed(url: string, { between = 3 } = {}): LiveSource {
    const format = url.startsWith('srt:') ? 'mpegts' : 'flv';
    const command = ({ colour, tone }: Look): [string, ...string[]] => [
      'ffmpeg', '-v', 'error', '-re',
      '-f', 'lavfi', '-i', `color=c=0x${colour.map((part) => part.toString(16).padStart(2, '0')).join('')}:s=320x240:r=15,noise=alls=4:allf=t`,
      '-f', 'lavfi', '-i', `sine=frequency=${tone}:sample_rate=48000`,
      '-c:v', 'libx264', '-preset', 'veryfast', '-bf', String(between), '-g', '30', '-pix_fmt', 'yuv420p', '-c:a', 'aac', '-ac', '2', '-f', format, url,
    ];
    return new LiveSource(url, command, () => Promise.resolve(true));
  }

  async run(look: Look): Promise<void> {
    const [program, ...args] = this.command(look);
    this.#process = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    await until('the source listens', this.listens, 20_000);
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    const source = this.#process;
    this.#process = undefined;
    if (!source || source.exitCode !== null || source.signalCode !== null) return;
    const ended = once(source, 'exit');
    source.kill('SIGKILL');
    await ended;
  }
}
