import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kaigi, PROGRAM } from '../harness/kaigi';
import { Signaling } from '../harness/signaling';

let kaigi: Kaigi;
beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'cli' });
});
afterAll(() => kaigi.stop());

const run = promisify(execFile);

/** Runs `kaigi` with the first service's key from the data directory. */
async function cli(...args: string[]): Promise<string> {
  const url = `http://127.0.0.1:${kaigi.ports.management}`;
  const { stdout } = await run(PROGRAM, [...args, '--url', url, '--data-dir', kaigi.dataDir]);
  return stdout;
}

/** What a refused command says. */
async function refusal(...args: string[]): Promise<string> {
  const ended = await cli(...args).catch((error: { code: number; stderr: string }) => error);
  expect(ended).toMatchObject({ code: 1 });
  return (ended as { stderr: string }).stderr;
}

it('makes a room and lets people in, changes what they may do and puts them out', async () => {
  const room = JSON.parse(await cli('room', 'create', 'Standup', '--json'))._id as string;
  expect(await cli('room', 'list')).toMatch(new RegExp(`^${room} +Standup$`, 'm'));

  const token = (await cli('token', 'create', room, '--user', 'Aiko')).trim();
  const client = await Signaling.connect(kaigi.url);
  const { id } = await client.login(token);
  expect(await cli('participant', 'list', room)).toMatch(new RegExp(`^${id} +Aiko +presenter +audio,video +audio,video$`, 'm'));
  const forbidden = JSON.parse(await cli('participant', 'forbid', room, id, 'publish.video', 'subscribe', '--json'));
  expect(forbidden.permission).toEqual({ publish: { audio: true, video: false }, subscribe: { audio: false, video: false } });
  expect(await cli('stream', 'list', room)).toMatch(new RegExp(`^${room}-common +mixed`, 'm'));

  await cli('participant', 'drop', room, id);
  expect(JSON.parse(await cli('participant', 'list', room, '--json'))).toEqual([]);
  client.close();
  await cli('room', 'delete', room);
  expect(await cli('room', 'list')).not.toContain(room);
});

it('says what is wrong, and ends with status 1', async () => {
  expect(await refusal('room', 'show', 'nowhere')).toBe('kaigi: Room not found (404)\n');
  expect(await refusal('room', 'list', '--service-id', 'x', '--service-key', 'y')).toContain('the service id or key is wrong');
  expect(await refusal('participant', 'allow', kaigi.service.room, 'x', 'dance')).toContain('"dance" is no permission');
});
