import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Api, bearer, jwt, refusal, seconds } from '../harness/api';
import { Chromium } from '../harness/browser';
import { RED } from '../harness/colours';
import { Feed } from '../harness/feed';
import { Kaigi } from '../harness/kaigi';
import { type Member, enter } from '../harness/member';
import { Receiver, type Tls } from '../harness/receiver';
import { type Credentials, mauth } from '../harness/rest';
import { until } from '../harness/until';
import { ROOM_WITH_ADMIN } from '../harness/wishes';

const DIALECT = { protocol: '1.2', connect: {}, login: {} } as const;

const GUIDE = fileURLToPath(new URL('../../../docs/webhooks.md', import.meta.url));

const dir = mkdtempSync(path.join(tmpdir(), 'kaigi-events-'));
let kaigi: Kaigi;
let superApi: Api;
/** A certificate for 127.0.0.1 that Kaigi's system trusts, and one that it does not. */
let trusted: Tls;
let strange: Tls;
const open: { close(): unknown }[] = [];

beforeAll(async () => {
  // A participant whose portal is killed has left at once.
  [trusted, strange] = [certificate('trusted'), certificate('strange')];
  const env = { KAIGI_RECONNECTION_TIMEOUT: '0', SSL_CERT_FILE: path.join(dir, 'trusted.pem') };
  kaigi = await Kaigi.start({ name: 'events', env });
  superApi = new Api(kaigi.managementUrl, kaigi.service);
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});
afterAll(async () => {
  await kaigi?.stop();
  rmSync(dir, { recursive: true, force: true });
});

function certificate(name: string): Tls {
  const [cert, key] = [path.join(dir, `${name}.pem`), path.join(dir, `${name}.key`)];
  const extensions = ['subjectAltName=IP:127.0.0.1', 'basicConstraints=critical,CA:FALSE'].flatMap((extension) => ['-addext', extension]);
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', '-x509', ...made, '-subj', `/CN=${name}`, ...extensions], { stdio: 'ignore' });
  return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
}

/** A service of its own with a room; webhooks and streams of events of others tell nothing of it. */
async function tenant(name: string): Promise<{ api: Api; service: Credentials; room: string }> {
  const service = await superApi.tenant(name);
  const api = superApi.as(service);
  return { api, service, room: await api.room(ROOM_WITH_ADMIN, name) };
}

async function receiver(tls?: Tls): Promise<Receiver> {
  const listening = await Receiver.listen(tls);
  open.push(listening);
  return listening;
}

/** A webhook that sends there; its path. */
async function webhook(api: Api, to: Receiver, events?: string[]): Promise<string> {
  const path = `/services/${api.service.id}/webhooks`;
  const made = await api.ok('POST', path, { url: to.url, events });
  to.secrets.push(made.secret as string);
  return `${path}/${made.id as string}`;
}

async function feed(service: Credentials, query = '', headers: Record<string, string> = {}): Promise<Feed> {
  const one = await Feed.open(`${kaigi.managementUrl}/v1/events${query}`, { authorization: mauth(service), ...headers });
  open.push(one);
  return one;
}

async function member(room: string, user: string): Promise<Member> {
  const one = await enter(kaigi, room, DIALECT, 'presenter', user);
  open.push(one.client);
  return one;
}

const status = async (api: Api, path: string): Promise<any> => (await api.ok('GET', path)).status;

/** Kills a process and waits until another one has taken its place. */
async function kill(name: string): Promise<void> {
  const killed = kaigi.child(name);
  if (!killed) throw new Error(`${name} does not run`);
  process.kill(killed.pid, 'SIGKILL');
  await until(`${name} runs again`, () => {
    const again = kaigi.child(name);
    return again && again.pid !== killed.pid;
  });
  await until('Kaigi is ready', () => kaigi.isReady());
}

describe('a webhook', () => {
  it('is told the life of a room, in order and signed', async () => {
    const { api, service } = await tenant('life');
    const to = await receiver();
    const path = await webhook(api, to);
    const room = await api.room(ROOM_WITH_ADMIN, 'life');
    const browser = await Chromium.launch('events');
    open.push(browser);
    const page = await browser.raw(kaigi, 'page');
    await page.join(kaigi, room);
    const stream = await page.call('publish', { look: RED });
    await to.gets({ type: 'stream.added' });
    const subscription = await page.call('subscribe', { video: { from: `${room}-common` } });
    await to.gets({ type: 'subscription.added' });
    await api.ok('PATCH', `/v1/rooms/${room}/streams/${stream}`, [{ op: 'replace', path: '/media/audio/status', value: 'inactive' }]);
    const shown = await api.ok('GET', `/v1/rooms/${room}/streams/${stream}`);
    await to.gets({ type: 'stream.updated', data: { change: 'audio.status' } });
    await api.ok('DELETE', `/v1/rooms/${room}/participants/${page.id}`);
    await to.gets({ type: 'participant.left' });
    await api.ok('DELETE', `/v1/rooms/${room}`);
    await to.gets({ type: 'room.ended' });
    await to.gets({ type: 'room.deleted' });

    const life = to.types.filter((type) => type !== 'stream.updated' && type !== 'room.deleted');
    expect(life).toEqual([
      'room.created',
      'room.started',
      'participant.joined',
      'stream.added',
      'subscription.added',
      'subscription.removed',
      'stream.removed',
      'participant.left',
      'room.ended',
    ]);
    const ids = to.accepted.map(({ id }) => Number(id));
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
    expect(new Set(ids).size).toBe(ids.length);
    for (const event of to.accepted) expect(event).toMatchObject({ service: service.id, room, time: expect.any(Number) });
    const data = async (type: string): Promise<any> => (await to.gets({ type })).data;
    expect(await data('room.created')).toEqual({ room: { id: room, name: 'life' } });
    expect(await data('participant.joined')).toEqual({ participant: { id: page.id, user: 'page', role: 'presenter' } });
    expect((await data('stream.added')).stream).toMatchObject({ id: stream, type: 'forward', info: { owner: page.id } });
    const muted = await to.gets({ type: 'stream.updated', data: { change: 'audio.status' } });
    expect(muted.data.stream).toMatchObject({ id: shown.id, type: shown.type, info: shown.info, media: { audio: shown.media.audio } });
    expect((await data('subscription.added')).subscription).toEqual({
      id: subscription,
      participant: page.id,
      tracks: [{ kind: 'video', from: `${room}-common` }],
    });
    expect(await data('participant.left')).toEqual({ participant: { id: page.id }, reason: 'dropped' });
    await until('all is counted', async () => (await status(api, path)).delivered === to.accepted.length);
    expect(await status(api, path)).toMatchObject({ queued: 0, lost: 0, failures: 0 });
  });

  it('is told what it missed while its endpoint was down, in order and once', async () => {
    const { api, room } = await tenant('down');
    const to = await receiver();
    const path = await webhook(api, to, ['participant.*']);
    const first = await member(room, 'first');
    await to.gets({ type: 'participant.joined' });
    await to.close();
    const second = await member(room, 'second');
    await first.client.leave();
    const failing = await until('failures are told', async () => {
      const now = await status(api, path);
      return now.failures >= 2 && now;
    });
    expect(failing).toMatchObject({ queued: 2, delivered: 1, lastError: expect.stringMatching(/refused/), nextTry: expect.any(Number) });
    await to.open();
    await to.gets({ type: 'participant.left' });
    await second.client.leave();
    await to.gets({ type: 'participant.left', data: { participant: { id: second.id } } });
    const told = to.accepted.map(({ type, data }) => `${type} ${data.participant.id as string}`);
    expect(told).toEqual([
      `participant.joined ${first.id}`,
      `participant.joined ${second.id}`,
      `participant.left ${first.id}`,
      `participant.left ${second.id}`,
    ]);
    await until('it is well again', async () => (await status(api, path)).failures === 0);
  });

  it('is told what waited when the cluster-manager was killed, and what happened meanwhile', async () => {
    const { api, room } = await tenant('killed');
    const to = await receiver();
    const path = await webhook(api, to, ['participant.*']);
    await to.close();
    const first = await member(room, 'first');
    await until('it waits', async () => (await status(api, path)).queued === 1);
    await kill('kaigi-cluster-manager');
    await first.client.leave();
    await to.open();
    await to.gets({ type: 'participant.left' });
    expect(to.types).toEqual(['participant.joined', 'participant.left']);
  });

  it('is told nothing more once its endpoint says that it is gone, until it is switched on again', async () => {
    const { api, room } = await tenant('gone');
    const to = await receiver();
    const path = await webhook(api, to, ['room.updated']);
    to.status = 410;
    await api.ok('PUT', `/v1/rooms/${room}`, { name: 'another' });
    await until('it is not active', async () => !(await api.ok('GET', path)).active);
    expect(await api.ok('GET', path)).toMatchObject({ deactivated: 'status 410', status: { lost: 1, queued: 0 } });
    expect(await api.post(`${path}/ping`)).toEqual(refusal(400, 1201));
    to.status = 200;
    await api.ok('PUT', path, { active: true });
    await api.ok('POST', `${path}/ping`);
    await to.gets({ type: 'ping' });
    expect(to.types).toEqual(['ping']);
  });

  it('gets another secret while the old one still signs', async () => {
    const { api } = await tenant('secrets');
    const [before, after] = [await receiver(), await receiver()];
    const path = await webhook(api, before);
    const { secret } = await api.ok('POST', `${path}/secret`);
    expect(secret).not.toBe(before.secrets[0]);
    await api.ok('POST', `${path}/ping`);
    await before.gets({ type: 'ping' });
    after.secrets.push(secret as string);
    await api.ok('PUT', path, { url: after.url });
    await api.ok('POST', `${path}/ping`);
    await after.gets({ type: 'ping' });
    expect(JSON.stringify(await api.ok('GET', path))).not.toContain('whsec_');
  });

  it('is told by HTTPS, if the certificate is good', async () => {
    const { api } = await tenant('https');
    const [good, bad] = [await receiver(trusted), await receiver(strange)];
    const path = await webhook(api, good);
    await api.ok('POST', `${path}/ping`);
    await good.gets({ type: 'ping' });
    const refused = await webhook(api, bad);
    await api.ok('POST', `${refused}/ping`);
    const failing = await until('it fails', async () => {
      const now = await status(api, refused);
      return now.failures > 0 && now;
    });
    expect(failing.lastError).toMatch(/certificate/i);
    expect(bad.last).toBeUndefined();
  });

  it('is verified by the programs of the guide', async () => {
    const { api } = await tenant('guide');
    const to = await receiver();
    const path = await webhook(api, to);
    await api.ok('POST', `${path}/ping`);
    await to.gets({ type: 'ping' });
    const guide = readFileSync(GUIDE, 'utf8');
    const program = (language: string): string => new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'ms').exec(guide)?.[1] ?? '';
    const { headers, body } = to.last ?? { headers: {}, body: '' };
    const given = JSON.stringify({ headers, body, secret: to.secrets[0] });
    const node = `${program('js')}
      const { headers, body, secret } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
      console.log(verify(secret, headers, body).type);
      try { verify(secret, headers, body + ' '); } catch (error) { console.log(error.message); }`;
    const python = `${program('python')}
import sys
given = json.load(sys.stdin)
print(verify(given["secret"], given["headers"], given["body"].encode())["type"])
try:
    verify(given["secret"], given["headers"], given["body"].encode() + b" ")
except ValueError as error:
    print(error)
`;
    const run = (command: string, flag: string, text: string): string => execFileSync(command, [flag, text], { input: given, encoding: 'utf8' });
    expect(run(process.execPath, '-e', node)).toBe('ping\nwrong signature\n');
    expect(run('python3', '-c', python)).toBe('ping\nwrong signature\n');
  });

  it('goes to http or https only, and there are 16 at most', async () => {
    const { api, service } = await tenant('bounds');
    const path = `/services/${service.id}/webhooks`;
    for (const url of ['ftp://x/', 'https://user:password@x/', 'x', '']) expect(await api.post(path, { url })).toEqual(refusal(400, 1201));
    for (const events of [['rooms.*'], ['ping'], 'room.*']) expect(await api.post(path, { url: 'https://x/', events })).toEqual(refusal(400, 1201));
    for (let made = 0; made < 16; made += 1) await api.ok('POST', path, { url: 'https://localhost:1/' });
    expect(await api.post(path, { url: 'https://localhost:1/' })).toEqual(refusal(429, 1301));
    const [first] = (await api.ok('GET', path)) as { id: string }[];
    await api.call('DELETE', `${path}/${first?.id}`);
    expect(await api.get(`${path}/${first?.id}`)).toEqual(refusal(404, 1001, 'Webhook not found'));
    expect(await api.ok('GET', path)).toHaveLength(15);
    const other = superApi.as(await superApi.tenant('other'));
    expect(await other.get(path)).toEqual(refusal(403, 1102));
  });
});

describe('a stream of events', () => {
  it('tells a service its own events and nobody else', async () => {
    const { api, service, room } = await tenant('own');
    const { room: foreign, service: other } = await tenant('foreign');
    const [own, theirs, all] = [await feed(service), await feed(other), await feed(kaigi.service)];
    expect(own.status).toBe(200);
    expect(own.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    const ann = await member(room, 'ann');
    await own.gets({ type: 'participant.joined' });
    await all.gets({ type: 'participant.joined', service: service.id });
    await api.ok('DELETE', `/v1/rooms/${room}/participants/${ann.id}`);
    await own.gets({ type: 'participant.left' });
    await member(foreign, 'bob');
    await theirs.gets({ type: 'participant.joined' });
    expect(own.types).toEqual(['room.started', 'participant.joined', 'participant.left']);
    expect(theirs.types).toEqual(['room.started', 'participant.joined']);
    expect(own.names).toEqual(own.types);
    expect(own.lastId).toBe(own.events.at(-1)?.id);
  });

  it('tells one room or some types, as it is asked', async () => {
    const { api, service, room } = await tenant('narrow');
    const second = await api.room(ROOM_WITH_ADMIN, 'second');
    const ofRoom = await feed(service, `?room=${second}`);
    const ofType = await feed(service, '?types=participant.*,room.updated');
    const granted = await feed(service, '', { authorization: bearer(service, { rooms: [second], readOnly: true }) });
    await member(room, 'ann');
    await member(second, 'bob');
    for (const one of [ofRoom, granted]) await one.gets({ type: 'participant.joined' });
    await until('both are told', () => ofType.events.length === 2);
    for (const one of [ofRoom, granted]) expect(one.events.map((event) => `${event.type} ${event.room}`)).toEqual([`room.started ${second}`, `participant.joined ${second}`]);
    expect(ofType.types).toEqual(['participant.joined', 'participant.joined']);
    const refused = async (query: string, headers = {}): Promise<number> => (await feed(service, query, headers)).status;
    expect(await refused('?types=nothing')).toBe(400);
    expect(await refused('?after=x')).toBe(400);
    expect(await refused(`?room=${kaigi.service.room}`)).toBe(404);
    expect(await refused(`?room=${room}`, { authorization: bearer(service, { rooms: [second] }) })).toBe(404);
    expect(await refused('', { authorization: bearer(service, { tokensOnly: true }) })).toBe(403);
  });

  it('goes on after the last event when the portal was killed', async () => {
    const { service, room } = await tenant('again');
    const before = await feed(service);
    const ann = await member(room, 'ann');
    await before.gets({ type: 'participant.joined' });
    await kill('kaigi-portal');
    await until('the connection is cut', () => before.ended);
    const after = await until('the portal answers', async () => {
      const again = await feed(service, '', { 'last-event-id': before.lastId });
      return again.status === 200 && again;
    });
    await after.gets({ type: 'participant.left', data: { participant: { id: ann.id }, reason: 'lost' } });
    expect(after.types).toEqual(['participant.left']);
    expect(after.names).not.toContain('gap');
  });

  it('says that there may be a gap when the cluster-manager was killed, and goes on', async () => {
    const { service, room } = await tenant('gap');
    const one = await feed(service);
    const ann = await member(room, 'ann');
    await one.gets({ type: 'participant.joined' });
    await kill('kaigi-cluster-manager');
    await ann.client.leave();
    await one.gets({ type: 'participant.left' });
    expect(one.names).toEqual(['room.started', 'participant.joined', 'gap', 'participant.left']);
    expect(one.ended).toBe(false);
  });

  it('ends when its token does', async () => {
    const { service } = await tenant('expiry');
    // Tokens are good for half a minute longer than they say.
    const one = await feed(service, '', { authorization: `Bearer ${jwt({ iss: service.id, exp: seconds(-28) }, service.key)}` });
    expect(one.status).toBe(200);
    await until('it ends', () => one.ended);
  });

  it('ends when the service has another key', async () => {
    const { api, service } = await tenant('rotated');
    const one = await feed(service);
    await api.ok('POST', `/services/${service.id}/key`);
    await until('it ends', () => one.ended, 30_000);
  });

  it('is one of 32 at most', async () => {
    const { service } = await tenant('many');
    const all = await Promise.all(Array.from({ length: 33 }, () => feed(service)));
    expect(all.filter((one) => one.status === 200)).toHaveLength(32);
    expect(all.filter((one) => one.status === 429)).toHaveLength(1);
    all.find((one) => one.status === 200)?.close();
    await until('there is room again', async () => (await feed(service)).status === 200);
  });

  it('is one of hundreds, which hold up nothing else', async () => {
    const tenants = await Promise.all(Array.from({ length: 10 }, (_, i) => tenant(`of-many-${i}`)));
    const all = await Promise.all(tenants.flatMap(({ service }) => Array.from({ length: 32 }, () => feed(service))));
    expect(all.filter((one) => one.status === 200)).toHaveLength(320);
    for (const { room } of tenants) await member(room, 'ann');
    for (const one of all) await one.gets({ type: 'participant.joined' });
  });
});
