import { type ChildProcess, spawn } from 'node:child_process';

/** Watches the pictures of a live stream without a pause, whatever becomes of the server, and knows when there were none. */
export class LiveWatcher {
  #process: ChildProcess | undefined;
  #isOver = false;
  #last = Date.now();
  #longest = 0;

  constructor(private readonly url: string) {
    this.#watch();
  }

  #watch(): void {
    if (this.#isOver) return;
    this.#process = spawn('ffmpeg', ['-v', 'quiet', '-fflags', 'nobuffer', '-i', this.url, '-an', '-c', 'copy', '-flush_packets', '1', '-f', 'h264', '-'], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#process.stdout?.on('data', () => {
      this.#longest = Math.max(this.#longest, Date.now() - this.#last);
      this.#last = Date.now();
    });
    this.#process.once('exit', () => setTimeout(() => this.#watch(), 100));
  }

  /** The longest time without a picture since this was asked last, in ms. */
  gap(): number {
    const gap = Math.max(this.#longest, Date.now() - this.#last);
    this.#longest = 0;
    return gap;
  }

  stop(): void {
    this.#isOver = true;
    this.#process?.kill('SIGKILL');
  }
}
