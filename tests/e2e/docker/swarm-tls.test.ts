import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, RED } from '../harness/colours';
import { docker, killFirst, say } from '../harness/docker';
import { type Kaigi, PROGRAM } from '../harness/kaigi';
import { type Publisher, hears, mixingRoom, publisher, showsLayout } from '../harness/room';
import { START, certificateSecrets, stack } from '../harness/stack';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let publishers: Publisher[];
let viewer: Participant;
let subscription: string;

beforeAll(async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'kaigi-certificates-'));
  await say(PROGRAM, ['certificates', dir]);
  await stack.deploy(['stack.tls.yaml'], certificateSecrets(path.join(dir, 'cluster')));
  rmSync(dir, { recursive: true });
  kaigi = await stack.kaigi();
  browser = await Chromium.launch('docker-swarm-tls', [`--unsafely-treat-insecure-origin-as-secure=${kaigi.url}`]);
});
afterAll(async () => {
  await browser?.close();
  await stack.remove();
});

/** The cluster-manager that leads. */
async function leader(): Promise<string> {
  const leads = (await stack.metrics('cluster-manager')).filter(({ text }) => /^kaigi_cluster_leads 1$/m.test(text));
  if (leads.length !== 1) throw new Error(`${leads.length} lead`);
  return leads[0]!.container;
}

it('holds a conference whose processes know each other by certificates', async () => {
  const room = await mixingRoom(kaigi, 'swarm-tls');
  publishers = [await publisher(browser, kaigi, room, 'Aiko', RED), await publisher(browser, kaigi, room, 'Botan', BLUE)];
  viewer = await browser.open(kaigi, 'viewer');
  await viewer.join(await kaigi.rest.token(room, 'Chiyo', 'viewer'));
  const mixed = await viewer.mixedStream();
  subscription = await viewer.subscribe(mixed);
  await showsLayout(viewer, mixed, subscription, publishers);
  await hears(viewer, subscription, [RED, BLUE], [RED, BLUE]);
});

it.each(['cluster-manager', 'conference-agent', 'access-node', 'mixer-node', 'streaming-node', 'portal'])('has a certificate in each %s', async (service) => {
  for (const { container, text } of await stack.metrics(service)) {
    expect(text, container).toMatch(/^kaigi_cluster_certificate_expiry_seconds \d/m);
  }
});

it('lets nobody in who has none', async () => {
  const manager = await leader();
  // A call without TLS is not answered at all; one by TLS without a certificate of the cluster's authority is broken off.
  const answer = (url: string): Promise<string> =>
    docker('exec', manager, 'curl', '--silent', '--insecure', '--http2-prior-knowledge', '--max-time', '5', '--output', '/dev/null', '--write-out', '%{http_code}', url).catch((error: { stdout?: string }) => error.stdout ?? '');
  for (const url of ['http://127.0.0.1:10080/', 'https://127.0.0.1:10080/']) expect(await answer(url), url).toMatch(/^0*$/);
});

it('goes on when the leading cluster-manager is killed, and lets people in by the other one', async () => {
  const before = await leader();
  await killFirst(before);
  const room = await until('a room can be made', () => kaigi.rest.createRoom('after').catch(() => false as const), START, 200);
  expect(await until('another one leads', () => leader().catch(() => false as const), START, 200)).not.toBe(before);
  const late = await browser.open(kaigi, 'late');
  await until('somebody joins', async () => {
    await late.join(await kaigi.rest.token(room, 'Dai'));
    return true;
  }, START, 500);
  const frames = await viewer.frames(subscription);
  await until('the mix goes on', async () => (await viewer.frames(subscription)) > frames + 30, 60_000, 500);
});
