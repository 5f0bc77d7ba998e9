// What a file or a live stream shows and sounds like, by ffprobe and ffmpeg.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Rgb } from './colours';

const run = promisify(execFile);
const RATE = 48_000;
/** Longest look at something, in ms. */
const PATIENCE = 30_000;

export interface Probe {
  /** Seconds; `undefined` where a file was never finished, or a stream has no end. */
  duration: number | undefined;
  streams: { codec_type: 'audio' | 'video'; codec_name: string; width?: number; height?: number; sample_rate?: string; channels?: number; avg_frame_rate?: string }[];
}

export async function probe(url: string): Promise<Probe> {
  const { stdout } = await run('ffprobe', ['-v', 'error', '-show_format', '-show_streams', '-of', 'json', url], { timeout: PATIENCE });
  const { format, streams } = JSON.parse(stdout) as { format: { duration?: string }; streams: Probe['streams'] };
  return { duration: format.duration === undefined ? undefined : Number(format.duration), streams };
}

/** When the frames of a kind are, in seconds. */
export async function times(file: string, kind: 'a' | 'v'): Promise<number[]> {
  const args = ['-v', 'error', '-select_streams', kind, '-show_entries', 'packet=pts_time', '-of', 'csv=p=0', file];
  const { stdout } = await run('ffprobe', args, { timeout: PATIENCE, maxBuffer: 64 << 20 });
  return stdout.split('\n').map((line) => Number.parseFloat(line)).filter((time) => !Number.isNaN(time));
}

/** How many pictures a second there are, kbit of them, and the longest time from one key frame to the next, in so many seconds of a stream. */
export async function rates(url: string, seconds: number): Promise<{ fps: number; kbps: number; keyEvery: number }> {
  const args = ['-v', 'error', '-select_streams', 'v', '-read_intervals', `%+${seconds}`, '-show_entries', 'packet=pts_time,size,flags', '-of', 'csv=p=0', url];
  const { stdout } = await run('ffprobe', args, { timeout: PATIENCE + seconds * 1000, maxBuffer: 64 << 20 });
  const packets = stdout.split('\n').map((line) => line.split(','));
  const pictures = packets.map(([time, size, flags]) => ({ time: Number.parseFloat(time ?? ''), size: Number(size), isKey: flags?.startsWith('K') })).filter(({ time }) => !Number.isNaN(time));
  const span = (pictures.at(-1)?.time ?? 0) - (pictures[0]?.time ?? 0);
  // The last one's time is not in it.
  const bytes = pictures.slice(0, -1).reduce((sum, { size }) => sum + size, 0);
  const keys = pictures.filter(({ isKey }) => isKey).map(({ time }) => time);
  return { fps: (pictures.length - 1) / span, kbps: (bytes * 8) / 1000 / span, keyEvery: Math.max(...keys.slice(1).map((time, i) => time - (keys[i] ?? 0))) };
}

/** The colours at points that are fractions of the width and height of a picture, `at` seconds after the beginning. */
export async function colours(url: string, points: readonly (readonly [number, number])[], at = 0): Promise<Rgb[]> {
  const [width, height] = [64, 48];
  const seek = at > 0 ? ['-ss', String(at)] : [];
  const args = ['-v', 'error', ...seek, '-i', url, '-frames:v', '1', '-vf', `scale=${width}:${height}`, '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-'];
  const { stdout } = await run('ffmpeg', args, { timeout: PATIENCE, encoding: 'buffer', maxBuffer: 1 << 20 });
  return points.map(([x, y]) => {
    const place = (Math.round(y * (height - 1)) * width + Math.round(x * (width - 1))) * 3;
    return [stdout[place] ?? 0, stdout[place + 1] ?? 0, stdout[place + 2] ?? 0];
  });
}

/** How loud tones are, in dB of full scale, in a second that begins `at` seconds after the beginning. */
export async function levels(url: string, tones: number[], at = 0): Promise<number[]> {
  const seek = at > 0 ? ['-ss', String(at)] : [];
  // FFmpeg's own decoder makes noise of some of what libopus encodes.
  const isOpus = (await probe(url)).streams.some(({ codec_name }) => codec_name === 'opus');
  const decoder = isOpus ? ['-c:a', 'libopus'] : [];
  const args = ['-v', 'error', ...seek, ...decoder, '-i', url, '-t', '1', '-vn', '-ac', '1', '-ar', String(RATE), '-f', 'f32le', '-'];
  const { stdout } = await run('ffmpeg', args, { timeout: PATIENCE, encoding: 'buffer', maxBuffer: 1 << 20 });
  const samples = new Float32Array(stdout.buffer, stdout.byteOffset, Math.floor(stdout.byteLength / 4));
  return tones.map((tone) => 20 * Math.log10(amplitude(samples, tone)));
}

/** Goertzel's algorithm, under a Hann window. */
function amplitude(samples: Float32Array, tone: number): number {
  const step = (2 * Math.PI * tone) / RATE;
  let [real, imaginary] = [0, 0];
  samples.forEach((sample, i) => {
    const windowed = sample * (1 - Math.cos((2 * Math.PI * i) / samples.length));
    real += windowed * Math.cos(step * i);
    imaginary += windowed * Math.sin(step * i);
  });
  return (2 * Math.hypot(real, imaginary)) / Math.max(1, samples.length);
}
