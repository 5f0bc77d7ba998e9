import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLUE, RED } from '../harness/colours';
import { PROGRAM } from '../harness/kaigi';
import { Receiver } from '../harness/receiver';
import { Signaling } from '../harness/signaling';
import { Stage } from '../harness/stage';
import { until } from '../harness/until';

let stage: Stage;
let scratch: string;

beforeAll(async () => {
  stage = await Stage.open('cli');
  scratch = mkdtempSync(path.join(tmpdir(), 'kaigi-cli-'));
});
afterAll(async () => {
  if (scratch) rmSync(scratch, { recursive: true });
  await stage?.close();
});

const run = promisify(execFile);
const where = (): string[] => ['--url', stage.kaigi.managementUrl, '--data-dir', stage.kaigi.dataDir];

/** Runs `kaigi` with the first service's key from the data directory. */
async function cli(...args: string[]): Promise<string> {
  return (await run(PROGRAM, [...args, ...where()])).stdout;
}

/** What a program reads. */
async function json(...args: string[]): Promise<any> {
  return JSON.parse(await cli(...args, '--json'));
}

/** A table's rows, by their headings. */
async function table(...args: string[]): Promise<Record<string, string>[]> {
  const [head, ...rows] = (await cli(...args)).trimEnd().split('\n').map((line) => line.split(/ {2,}/));
  return rows.map((row) => Object.fromEntries(head!.map((name, i) => [name, row[i] ?? ''])));
}

/** What a refused command says, and its status. */
async function refusal(...args: string[]): Promise<[number, string]> {
  const ended = (await cli(...args).catch((error: unknown) => error)) as { code: number; stdout: string; stderr: string };
  expect(ended.stdout).toBe('');
  return [ended.code, ended.stderr];
}

function file(content: unknown): string {
  const name = path.join(scratch, `${Math.random()}.json`);
  writeFileSync(name, typeof content === 'string' ? content : JSON.stringify(content));
  return name;
}

it('makes a room and lets people in, changes what they may do and puts them out', async () => {
  const room = (await json('room', 'create', 'Standup'))._id as string;
  expect(await cli('room', 'list')).toMatch(new RegExp(`^${room} +Standup$`, 'm'));

  const token = (await cli('token', 'create', room, '--user', 'Aiko')).trim();
  const client = await Signaling.connect(stage.kaigi.url);
  const { id } = await client.login(token);
  expect(await cli('participant', 'list', room)).toMatch(new RegExp(`^${id} +Aiko +presenter +audio,video +audio,video$`, 'm'));
  const forbidden = await json('participant', 'forbid', room, id, 'publish.video', 'subscribe');
  expect(forbidden.permission).toEqual({ publish: { audio: true, video: false }, subscribe: { audio: false, video: false } });
  expect(await table('participant', 'permit', room, id, 'subscribe.audio')).toMatchObject([{ ID: id, PUBLISH: 'audio', SUBSCRIBE: 'audio' }]);
  expect((await json('participant', 'show', room, id)).permission.subscribe).toEqual({ audio: true, video: false });
  expect(await cli('stream', 'list', room)).toMatch(new RegExp(`^${room}-common +mixed`, 'm'));

  expect(await cli('participant', 'drop', room, id)).toBe('done\n');
  expect(await json('participant', 'list', room)).toEqual([]);
  client.close();
  expect(await json('room', 'delete', room)).toEqual({});
  expect(await cli('room', 'list')).not.toContain(room);
});

it("gives a room other attributes than the defaults, and others in their place later", async () => {
  const made = await json('room', 'create', 'Webinar', '--options', file({ inputLimit: 3, autoMix: true }));
  expect(made).toMatchObject({ name: 'Webinar', inputLimit: 3, autoMix: true });
  expect(await json('room', 'update', made._id, file({ inputLimit: 4, notifying: { streamChange: false } }))).toMatchObject({ inputLimit: 4, autoMix: true });
  expect(await json('room', 'update', made._id, '--merge', file({ notifying: { participantActivities: false } }))).toMatchObject({ notifying: { participantActivities: false, streamChange: false } });
  expect(await json('room', 'update', made._id, '--merge', file({ notifying: null }))).toMatchObject({ notifying: { participantActivities: true, streamChange: true } });
  expect(await json('room', 'update', made._id, file({ notifying: { streamChange: false } }))).toMatchObject({ inputLimit: 4 });
  expect(await json('room', 'show', made._id)).toMatchObject({ inputLimit: 4, notifying: { participantActivities: true, streamChange: false } });
});

it('makes services, which ask in their own name, and gives them other keys', async () => {
  const { id, key } = await json('service', 'create', 'Shop');
  const own = ['--service-id', id as string];
  expect(await json('room', 'list', ...own, '--service-key', key)).toEqual([]);
  expect(await table('service', 'list')).toContainEqual(expect.objectContaining({ ID: id, NAME: 'Shop', SUPER: 'false' }));
  const { key: fresh } = await json('service', 'rotate-key', id);
  expect(await refusal('room', 'list', ...own, '--service-key', key)).toEqual([5, 'kaigi: the service id or key is wrong (401)\n']);
  expect(await refusal('service', 'list', ...own, '--service-key', fresh)).toEqual([5, 'kaigi: Permission denied (403)\n']);
  expect(await cli('service', 'delete', id)).toBe('done\n');
});

describe('streams', () => {
  let red: string;
  let blue: string;
  let subscription: string;

  beforeAll(async () => {
    red = await stage.page.call('publish', { look: RED });
    blue = await stage.page.call('publish', { look: BLUE });
    subscription = await stage.page.call('subscribe', { video: { from: red } });
  });

  const shown = async (id: string): Promise<Record<string, string>> => (await table('stream', 'list', stage.room)).find(({ ID }) => ID === id)!;

  it('are mixed, muted and laid out', async () => {
    for (const id of [red, blue]) expect(await table('stream', 'mix', stage.room, id)).toMatchObject([{ ID: id, 'IN VIEWS': 'common' }]);
    expect(await table('stream', 'mute', stage.room, red, 'audio')).toMatchObject([{ AUDIO: 'inactive', VIDEO: 'active' }]);
    expect(await table('stream', 'unmute', stage.room, red)).toMatchObject([{ AUDIO: 'active', VIDEO: 'active' }]);
    expect(await shown(red)).toMatchObject({ TYPE: 'forward', OWNER: stage.page.id, 'IN VIEWS': 'common' });

    const region = (id: string, left: string): object => ({ region: { id, shape: 'rectangle', area: { left, top: '0', width: '1/2', height: '1' } } });
    const whole = file([{ stream: red, ...region('a', '0') }, { stream: blue, ...region('b', '1/2') }]);
    const row = (N: string, REGION: string, STREAM: string, LEFT: string): object => ({ N, REGION, STREAM, LEFT, TOP: '0/1', WIDTH: '1/2', HEIGHT: '1/1' });
    expect(await table('stream', 'layout', stage.room, stage.mixed, '--set', whole)).toEqual([row('0', 'a', red, '0/1'), row('1', 'b', blue, '1/2')]);
    expect(await table('stream', 'layout', stage.room, stage.mixed, '--put', `0=${blue}`)).toEqual([row('0', 'a', blue, '0/1'), row('1', 'b', red, '1/2')]);
    expect((await json('stream', 'layout', stage.room, stage.mixed)).map(({ stream }: { stream: string }) => stream)).toEqual([blue, red]);

    expect((await json('stream', 'filter', stage.room, stage.mixed, 'edgedetect')).info.filter).toBe('edgedetect');
    const levels = JSON.stringify({ levels: 4 });
    expect((await json('stream', 'filter', stage.room, blue, 'cartoon', '--parameters', levels)).info).toMatchObject({ filter: 'cartoon', filterParameters: { levels: 4 } });
    expect((await json('stream', 'filter', stage.room, stage.mixed, 'none')).info.filter ?? 'none').toBe('none');
    expect(await table('stream', 'unmix', stage.room, blue)).toMatchObject([{ ID: blue, 'IN VIEWS': '-' }]);
  });

  it('are counted', async () => {
    await stage.page.moves(subscription);
    const rows = await table('stream', 'stats', stage.room, red);
    expect(rows.map(({ KIND }) => KIND).sort()).toEqual(['audio', 'video']);
    expect(rows.find(({ KIND }) => KIND === 'video')).toMatchObject({ STREAM: red, RATE: expect.stringMatching(/^[\d.]+ [kM]bit\/s$/), SIZE: expect.stringMatching(/^\d+x\d+$/) });
    expect((await json('stream', 'stats', stage.room, red)).tracks.find(({ kind }: { kind: string }) => kind === 'video')).toMatchObject({ flowing: true });
    expect((await table('stream', 'stats', stage.room)).map(({ STREAM }) => STREAM)).toEqual(expect.arrayContaining([red, blue]));
  });

  it('subscriptions say what they are sent and why that', async () => {
    const row = { ID: subscription, PARTICIPANT: stage.page.id, KIND: 'video', FROM: red, SERVED: 'forward' };
    expect(await table('subscription', 'list', stage.room)).toMatchObject([row]);
    expect(await table('subscription', 'list', stage.room, '--participant', stage.page.id, '--stream', red)).toMatchObject([row]);
    expect(await table('subscription', 'list', stage.room, '--stream', blue)).toEqual([]);
    const why = await cli('subscription', 'show', stage.room, subscription);
    expect(why).toMatch(new RegExp(`^subscription ${subscription}\nparticipant  ${stage.page.id}\n`));
    expect(why).toMatch(new RegExp(`^video from ${red}\n  format +vp8`, 'm'));
    expect(why).toMatch(/^ {2}limit +(none: the best there is, is sent|source: .*|asked: .*|bandwidth: .*)$/m);
    expect(await json('subscription', 'show', stage.room, subscription)).toMatchObject({ id: subscription, tracks: [{ kind: 'video', from: red }] });
  });

  it('are removed', async () => {
    expect(await cli('stream', 'remove', stage.room, blue)).toBe('done\n');
    expect(await shown(blue)).toBeUndefined();
    expect(await refusal('stream', 'show', stage.room, blue)).toEqual([4, 'kaigi: Stream not found (404)\n']);
  });
});

describe('what happens', () => {
  it('is told to webhooks, which are made, tried, changed and deleted', async () => {
    const receiver = await Receiver.listen();
    try {
      const { id, secret } = await json('webhook', 'create', receiver.url, '--event', 'room.*');
      receiver.secrets.push(secret as string);
      expect(await table('webhook', 'list')).toEqual([{ ID: id, URL: receiver.url, EVENTS: 'room.*', ACTIVE: 'true' }]);
      expect(await cli('webhook', 'ping', id)).toBe('done\n');
      await until('the ping has come', () => receiver.types.includes('ping'));
      await until('it is counted', async () => (await json('webhook', 'show', id)).status.delivered === 1);

      const { secret: fresh } = await json('webhook', 'rotate-secret', id);
      expect(fresh).toMatch(/^whsec_/);
      expect(fresh).not.toBe(secret);
      expect(await table('webhook', 'update', id, '--all-events', '--active', 'false')).toMatchObject([{ EVENTS: 'all', ACTIVE: 'false' }]);
      expect(await refusal('webhook', 'ping', id)).toEqual([1, 'kaigi: The webhook is not active (400)\n']);
      expect(await cli('webhook', 'delete', id)).toBe('done\n');
      expect((await refusal('webhook', 'show', id))[0]).toBe(4);
    } finally {
      await receiver.close();
    }
  });

  it('is printed as it happens, until there is enough', async () => {
    const listening = (...args: string[]): { lines: string[]; ended: Promise<unknown> } => {
      const child = spawn(PROGRAM, ['events', ...args, ...where()], { stdio: ['ignore', 'pipe', 'inherit'] });
      const lines: string[] = [];
      createInterface(child.stdout).on('line', (line) => lines.push(line));
      return { lines, ended: once(child, 'close') };
    };
    const [programs, people] = [listening('--json', '--type', 'room.*', '--count', '2'), listening('--type', 'room.*', '--count', '2')];
    // Until both listen, each room that is made may be one too early.
    const made: string[] = [];
    await until('both have heard of a room', async () => {
      made.push(await stage.kaigi.rest.createRoom('told'));
      return programs.lines.length > 0 && people.lines.length > 0;
    }, 10_000, 200); // prettier-ignore
    await stage.kaigi.rest.createRoom('told');
    expect(await Promise.all([programs.ended, people.ended])).toEqual([[0, null], [0, null]]);
    expect(programs.lines.map((line) => JSON.parse(line))).toMatchObject([{ type: 'room.created', data: { room: { name: 'told' } } }, { type: 'room.created' }]);
    expect(people.lines).toHaveLength(2);
    for (const line of people.lines) expect(line).toMatch(/^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d {2}room\.created +[0-9a-f]{24} {2}\{"room":/);
    expect(made).toContain((JSON.parse(programs.lines[0]!) as { room: string }).room);
  });

  it('is told again from where one wants', async () => {
    const first = JSON.parse((await run(PROGRAM, ['events', '--json', '--after', '1', '--type', 'room.*', '--count', '2', ...where()])).stdout.split('\n').filter((line) => !line.includes('"gap"'))[0]!) as { id: string };
    const [next] = (await cli('events', '--json', '--after', first.id, '--type', 'room.*', '--count', '1')).split('\n');
    expect(BigInt((JSON.parse(next!) as { id: string }).id)).toBeGreaterThan(BigInt(first.id));
  });
});

it('shows the nodes of the cluster', async () => {
  const nodes = await table('node', 'list');
  expect(nodes.map(({ PURPOSE }) => PURPOSE).sort()).toEqual(['access', 'conference', 'mixer', 'portal', 'streaming']);
  for (const node of nodes) expect(node).toMatchObject({ STATE: 'up', LOAD: expect.stringMatching(/^\d+ %$/), 'SINCE (UTC)': expect.stringMatching(/^20\d\d-/) });
  expect(await json('node', 'list')).toHaveLength(nodes.length);
});

describe('says what is wrong, and ends with a status of its own:', () => {
  it.each<[string, number, string, string[]]>([
    ['no such thing', 4, 'kaigi: Room not found (404)\n', ['room', 'show', 'nowhere']],
    ['a wrong key', 5, 'kaigi: the service id or key is wrong (401)\n', ['room', 'list', '--service-id', 'x', '--service-key', 'y']],
    ['a refusal', 1, 'kaigi: Name or role not valid (400)\n', ['token', 'create', 'ROOM', '--user', 'Aiko', '--role', 'emperor']],
    ['a permission that is none', 1, 'kaigi: "dance" is no permission', ['participant', 'permit', 'ROOM', 'x', 'dance']],
    ['a file that is not there', 1, 'kaigi: /nowhere.json: No such file', ['room', 'update', 'ROOM', '/nowhere.json']],
    ['an id that would leave its place', 4, 'kaigi: Room not found (404)\n', ['room', 'show', '../services']],
    ['a region that is none', 2, "invalid value 'x'", ['stream', 'layout', 'ROOM', 'x', '--put', 'x']],
    ['an unknown command', 2, 'unrecognized subcommand', ['room', 'paint']],
  ])('%s', async (_, code, text, args) => {
    const [ended, said] = await refusal(...args.map((arg) => (arg === 'ROOM' ? stage.room : arg)));
    expect([ended, said]).toEqual([code, expect.stringContaining(text)]);
  });

  it('nobody is there', async () => {
    const ended = await run(PROGRAM, ['room', 'list', '--url', 'http://127.0.0.1:9', '--data-dir', stage.kaigi.dataDir]).catch((error: unknown) => error);
    expect(ended).toMatchObject({ code: 3, stderr: expect.stringMatching(/^kaigi: http:\/\/127\.0\.0\.1:9 can't be reached: .*Is Kaigi running/) });
  });

  it('a file that is no JSON', async () => {
    expect(await refusal('room', 'create', 'x', '--options', file('{'))).toEqual([1, expect.stringMatching(/^kaigi: .*\.json: EOF/)]);
  });
});

it.each(['bash', 'zsh', 'fish'])('completes in %s', (shell) => {
  const script = execFileSync(PROGRAM, ['completions', shell], { encoding: 'utf8' });
  for (const word of ['subscription', 'rotate-secret', 'unmute']) expect(script).toContain(word);
});

it('completes as bash does it', () => {
  const script = `source <("$1" completions bash); COMP_WORDS=(kaigi stream un); COMP_CWORD=2; _kaigi kaigi un stream; printf '%s\\n' "\${COMPREPLY[@]}"`;
  expect(execFileSync('bash', ['-c', script, 'bash', PROGRAM], { encoding: 'utf8' }).split('\n')).toEqual(expect.arrayContaining(['unmix', 'unmute']));
});
