import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { RED, isNear } from '../../harness/colours';
import { Kaigi } from '../../harness/kaigi';
import { LiveServer } from '../../harness/live-server';
import { colours, times } from '../../harness/media-file';
import { RedisServer } from '../../harness/redis';
import { SMALL_VIEW } from '../../harness/room';
import { Signaling } from '../../harness/signaling';
import { until } from '../../harness/until';
import { WhipClient } from '../../harness/whip-client';

/** How long all that a conference leans on is away, in ms. */
const AWAY = 30_000;
/** Between two looks at what goes on meanwhile, in ms. */
const PACE = 1000;
/** Longest answer that something can't be done now, in ms. */
const PROMPT = 5000;

let redis: RedisServer;
let live: LiveServer;
let kaigi: Kaigi;
let camera: WhipClient | undefined;
let attempt = 0;

beforeAll(async () => {
  [redis, live] = [await RedisServer.start(), await LiveServer.start()];
  kaigi = await Kaigi.start({ name: 'outage', args: ['--redis', redis.url, '--cluster-managers', '2'], env: { KAIGI_PRIVATE_TARGETS: 'true' } });
});
afterEach(async () => {
  await camera?.end().catch(() => undefined);
  camera = undefined;
});
afterAll(async () => {
  await kaigi?.stop();
  await live?.stop();
  await redis?.stop();
});

interface Egress {
  id: string;
  state: string;
  reason?: string;
  storage?: { file: string };
}

it('a conference, its recording and its broadcast outlive half a minute without Redis and without the live server', { timeout: 150_000 }, async () => {
  const room = await kaigi.rest.createRoom('outage', { views: [SMALL_VIEW] });
  const url = live.url(`outage-${++attempt}`);
  const ask = async <T>(method: string, place: string, body?: unknown): Promise<T> => {
    const answer = await kaigi.rest.call(method, `/v1/rooms/${room}/${place}`, body);
    if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
    return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
  };
  const is = (kind: string, { id }: Egress, state: string): Promise<Egress> =>
    until(`it is ${state}`, async () => {
      const found = (await ask<Egress[]>('GET', kind)).find((one) => one.id === id);
      if (found?.state !== state) throw new Error(JSON.stringify(found));
      return found;
    }, 30_000);

  const [aiko, ben] = [await Signaling.connect(kaigi.url), await Signaling.connect(kaigi.url)];
  await aiko.login(await kaigi.rest.token(room, 'Aiko'));
  await ben.login(await kaigi.rest.token(room, 'Ben'));
  camera = await WhipClient.start(`${kaigi.url}/whip/${room}`, await kaigi.rest.token(room, 'Camera', 'presenter'), RED);
  const from = await until('the camera publishes', async () => (await kaigi.rest.streams(room)).find(({ type }) => type === 'forward')?.id);
  const media = { audio: { from }, video: { from } };
  const recording = await ask<Egress>('POST', 'recordings', { media });
  const broadcast = await ask<Egress>('POST', 'streaming-outs', { url, media });
  await is('recordings', recording, 'active');
  await is('streaming-outs', broadcast, 'active');

  const began = Date.now();
  await Promise.all([redis.kill(), live.kill()]);
  let said = 0;
  while (Date.now() - began < AWAY) {
    await aiko.granted('text', { to: 'all', message: `still here ${++said}` });
    await ben.told('text', { message: `still here ${said}` });
    const asked = Date.now();
    await expect(kaigi.rest.token(room, 'Chiyo')).rejects.toThrow(/Redis/);
    expect(Date.now() - asked).toBeLessThan(PROMPT);
    // The length of an outage, not a wait for something.
    await new Promise((resolve) => setTimeout(resolve, PACE));
  }
  // What happens meanwhile is not lost either.
  await ben.leave();
  const away = Date.now() - began;
  await redis.run();
  expect((await is('streaming-outs', broadcast, 'trouble')).reason).toBeTruthy();
  await is('recordings', recording, 'active');
  await live.run();

  const token = await until('a token after Redis is back', () => kaigi.rest.token(room, 'Chiyo').catch(() => false as const));
  const chiyo = await Signaling.connect(kaigi.url);
  const { room: joined } = await chiyo.login(token);
  expect(joined.participants.map(({ user }) => user).sort()).toEqual(['Aiko', 'Camera', 'Chiyo']);
  await is('streaming-outs', broadcast, 'active');
  await until('the live server shows it again', async () => isNear((await colours(url, [[0.5, 0.5]]))[0] ?? [0, 0, 0], RED.colour), 30_000);

  // The room was written down as it is now: whoever takes it over knows who left without Redis.
  const agent = kaigi.child('kaigi-conference-agent');
  if (!agent) throw new Error('no agent');
  process.kill(agent.pid, 'SIGKILL');
  await aiko.granted('text', { to: 'all', message: 'and now?' });
  await chiyo.told('text', { message: 'and now?' });
  expect((await kaigi.rest.participants(room)).map(({ user }) => user).sort()).toEqual(['Aiko', 'Camera', 'Chiyo']);

  await ask('DELETE', `recordings/${recording.id}`);
  const pictures = await times(recording.storage?.file ?? '', 'v');
  expect((pictures.at(-1) ?? 0) - (pictures[0] ?? 0)).toBeGreaterThan(away / 1000);
  // At one place up to two seconds of pictures can be missing, and it is not known why; had the recording waited for Redis or the live server, it would be half a minute.
  expect(Math.max(...pictures.slice(1).map((time, i) => time - (pictures[i] ?? 0)))).toBeLessThan(5);
  for (const client of [aiko, chiyo]) client.close();
});
