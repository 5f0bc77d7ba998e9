import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kaigi } from '../harness/kaigi';
import { probe } from '../harness/media-file';
import { ObjectStore } from '../harness/object-store';
import { until } from '../harness/until';

/** What a process that was killed had open: more than is sent at once. */
const LEFT = Buffer.alloc(12_000_000, 'left ');

let store: ObjectStore;
let kaigi: Kaigi;
let data: string;

beforeAll(async () => {
  store = await ObjectStore.make('meetings');
  data = mkdtempSync(path.join(tmpdir(), 'kaigi-stored-'));
  const recordings = path.join(data, 'recordings');
  mkdirSync(path.join(recordings, '.to-store'), { recursive: true });
  writeFileSync(path.join(recordings, 'left.mkv'), LEFT);
  writeFileSync(path.join(recordings, '.to-store/left.mkv'), '');
  const source = ['-f', 'lavfi', '-i', 'testsrc=s=320x240:r=15', '-f', 'lavfi', '-i', 'sine=sample_rate=48000', '-t', '10'];
  execFileSync('ffmpeg', ['-v', 'error', ...source, '-c:v', 'libvpx', '-g', '15', '-deadline', 'realtime', '-c:a', 'libopus', path.join(data, 'talk.webm')]);
  kaigi = await Kaigi.start({
    name: 'object-store',
    dataDir: data,
    env: { ...store.env, KAIGI_RECORDINGS_STORE: `s3://${store.bucket}/kaigi`, KAIGI_MOVE_RECORDINGS: 'true', KAIGI_INGEST_FILES: data },
  });
});
afterAll(async () => {
  await kaigi?.stop();
  await store?.stop();
  if (data) rmSync(data, { recursive: true, force: true });
});

it('recordings go to an object store that speaks S3, once it is there', async () => {
  const room = await kaigi.rest.createRoom('object-store', {});
  async function ask<T>(method: string, place: string, body?: unknown): Promise<T> {
    const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
    if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
    return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
  }
  const media = { audio: 'auto', video: true };
  const { id: stream } = await ask<{ id: string }>('POST', 'streaming-ins', { connection: { url: 'file:///talk.webm' }, media });
  const recorded = { audio: { from: stream }, video: { from: stream } };
  const { id, storage } = await ask<{ id: string; storage: { file: string } }>('POST', 'recordings', { media: recorded });
  const { file } = storage;
  await until('something is recorded', () => existsSync(file) && readFileSync(file).length > 20_000, 30_000);
  await ask('DELETE', `recordings/${id}`);
  const whole = readFileSync(file);
  expect(existsSync(path.join(data, 'recordings/.to-store', path.basename(file))), 'it waits').toBe(true);

  await store.run();
  const manifest = await until('the manifest is stored, last of all', () => store.get(`kaigi/${id}.json`), 30_000);
  expect(JSON.parse(manifest.toString())).toMatchObject({ segments: [{ file: path.basename(file) }] });
  const stored = await store.get(`kaigi/${path.basename(file)}`);
  expect(stored?.equals(whole)).toBe(true);
  expect((await store.get('kaigi/left.mkv'))?.equals(LEFT), 'what was sent in parts').toBe(true);
  await until('the file is gone from its folder', () => !existsSync(file));
  const copy = path.join(data, 'copy.mkv');
  writeFileSync(copy, stored ?? '');
  expect((await probe(copy)).streams.map(({ codec_name }) => codec_name).sort()).toEqual(['opus', 'vp8']);
});
