// How far apart sound and picture are in a file of what `WhipClient.clock` publishes.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { times } from './media-file';

const run = promisify(execFile);
const RATE = 48_000;
/** Greys of a second. */
const STEPS = 27;
/** Pictures around a click, at least, for it to be looked at. */
const LEAST = 5;

export interface Lips {
  /** How long the sound comes before the picture, in ms: the mean, and the largest of those of each second. */
  mean: number;
  worst: number;
  /** By how much that grows in an hour, in ms, and how sure that is (standard error). */
  drift: number;
  error: number;
  /** Over how many seconds. */
  seconds: number;
}

/** Looks at a file, without so many seconds at its beginning. */
export async function lips(file: string, without = 0): Promise<Lips> {
  const [pictures, clicks] = [await secondsOfPictures(file), await beginsOfClicks(file)];
  const apart = clicks.filter((click) => click >= without).flatMap((click): [number, number][] => {
    // Pictures of the second around it: half a second of the one that it begins, and half of the one before.
    const near = pictures.filter(([at]) => Math.abs(at - click) < 0.5);
    if (near.length < LEAST) return [];
    const of = near.map(([, begun]) => wrapped(begun - click));
    return [[click, (of.reduce((sum, one) => sum + one, 0) / of.length) * 1000]];
  });
  const mean = average(apart.map(([, ms]) => ms));
  const middle = average(apart.map(([at]) => at));
  const spread = apart.reduce((sum, [at]) => sum + (at - middle) ** 2, 0);
  const slope = apart.reduce((sum, [at, ms]) => sum + (at - middle) * (ms - mean), 0) / spread;
  const rest = apart.reduce((sum, [at, ms]) => sum + (ms - mean - slope * (at - middle)) ** 2, 0) / Math.max(1, apart.length - 2);
  const worst = apart.reduce((most, [, ms]) => (Math.abs(ms) > Math.abs(most) ? ms : most), 0);
  return { mean, worst, drift: slope * 3600, error: Math.sqrt(rest / spread) * 3600, seconds: apart.length };
}

const average = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const wrapped = (seconds: number): number => seconds - Math.round(seconds);

/** When each picture is, and when the second began that it tells. */
async function secondsOfPictures(file: string): Promise<[number, number][]> {
  const args = ['-v', 'error', '-i', file, '-an', '-vf', 'scale=1:1:flags=area,format=gray', '-fps_mode', 'passthrough', '-f', 'rawvideo', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer', maxBuffer: 16 << 20 });
  const at = await times(file, 'v');
  if (at.length !== stdout.length) throw new Error(`${stdout.length} pictures of ${at.length} packets`);
  const sorted = [...stdout].sort((a, b) => a - b);
  const [dark, light] = [sorted[Math.floor(sorted.length * 0.01)] ?? 0, sorted[Math.floor(sorted.length * 0.99)] ?? 0];
  if (light - dark < 50) throw new Error(`no clock is shown: greys from ${dark} to ${light}`);
  return [...stdout].flatMap((grey, i): [number, number][] => {
    const step = Math.round(((grey - dark) / (light - dark)) * (STEPS - 1));
    const time = at[i];
    return time === undefined ? [] : [[time, time - step / STEPS]];
  });
}

async function beginsOfClicks(file: string): Promise<number[]> {
  // By the file's own times, from 0 on: what is missing is filled in, and what a decoder has to leave out at the beginning is.
  const args = ['-v', 'error', '-copyts', '-c:a', 'libopus', '-i', file, '-vn', '-ac', '1', '-ar', String(RATE), '-af', 'aresample=async=1:first_pts=0', '-f', 'f32le', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer', maxBuffer: 512 << 20 });
  const samples = new Float32Array(stdout.buffer, stdout.byteOffset, Math.floor(stdout.byteLength / 4));
  const found: number[] = [];
  let loud = Number.NEGATIVE_INFINITY;
  for (let at = 0; at < samples.length; at++) {
    if (Math.abs(samples[at] ?? 0) < 0.1) continue;
    const time = at / RATE;
    if (time - loud > 0.3) found.push(time);
    loud = time;
  }
  return found;
}
