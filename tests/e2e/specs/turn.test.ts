// Clients whose network lets nothing through but what goes by a TURN server, which they are told of as they join.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Sdk from '../../../web/sdk/src/kaigi';
import { Chromium } from '../harness/browser';
import { Kaigi } from '../harness/kaigi';
import { freePort } from '../harness/live-server';
import { until } from '../harness/until';

const TURNSERVER = fileURLToPath(new URL('../../../.cache/coturn/usr/bin/turnserver', import.meta.url));
const SECRET = 'shared with the TURN server';

declare global {
  const relayed: { sdk: typeof Sdk; connection: RTCPeerConnection; servers: RTCIceServer[] };
}

describe.runIf(existsSync(TURNSERVER))('a client behind a wall', () => {
  let folder: string;
  let turn: ChildProcess;
  let log = '';
  let kaigi: Kaigi;
  let browser: Chromium;

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'kaigi-turn-'));
    const port = await freePort();
    const flags = ['-n', '--listening-ip', '127.0.0.1', '--relay-ip', '127.0.0.1', '--listening-port', String(port), '--realm', 'kaigi.test'];
    const access = ['--use-auth-secret', '--static-auth-secret', SECRET, '--allow-loopback-peers', '--no-cli', '--no-tls', '--no-dtls'];
    turn = spawn(TURNSERVER, [...flags, ...access, '--log-file', 'stdout', '--simple-log', '--verbose', '--pidfile', path.join(folder, 'pid'), '--userdb', path.join(folder, 'db')]);
    turn.stdout!.on('data', (text: Buffer) => void (log += text.toString()));
    await until('the TURN server listens', () => log.includes(`127.0.0.1:${port}`));
    kaigi = await Kaigi.start({ name: 'turn', env: { KAIGI_ICE_SERVERS: `turn:127.0.0.1:${port}?transport=udp`, KAIGI_TURN_SECRET: SECRET } });
    browser = await Chromium.launch('turn');
  });
  afterAll(async () => {
    await browser?.close();
    await kaigi?.stop();
    turn?.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  it('publishes by the relay, with credentials of its own', async () => {
    const page = await browser.page(`${kaigi.url}/ready`, 'behind');
    await page.setContent('<!doctype html><body><script type="module">import * as sdk from "/sdk/kaigi.js"; window.relayed = { sdk };</script>');
    await page.waitForFunction(() => 'relayed' in window);
    await page.evaluate(async () => {
      const { sdk } = relayed;
      const createPeerConnection = (configuration: RTCConfiguration): RTCPeerConnection => {
        relayed.servers = configuration.iceServers ?? [];
        relayed.connection = new RTCPeerConnection({ ...configuration, iceTransportPolicy: 'relay' });
        return relayed.connection;
      };
      const client = new sdk.ConferenceClient({ createPeerConnection });
      const body = JSON.stringify({ user: 'behind', role: 'presenter' });
      const response = await fetch('/sample/tokens', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
      await client.join(((await response.json()) as { token: string }).token);
      const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
      await client.publish(new sdk.LocalStream(media));
    });
    const servers = await page.evaluate(() => relayed.servers);
    expect(servers).toEqual([{ urls: expect.stringMatching(/^turn:127/), username: expect.stringMatching(/^\d+:[0-9a-f]{16}$/), credential: expect.any(String) }]);
    const hours = (Number(servers[0]!.username!.split(':')[0]) - Date.now() / 1000) / 3600;
    expect(Math.round(hours)).toBe(24);
    const sent = async (): Promise<[string | undefined, number]> =>
      page.evaluate(async () => {
        const stats = [...(await relayed.connection.getStats()).values()];
        const pair = stats.find(({ type, nominated, state }) => type === 'candidate-pair' && nominated && state === 'succeeded');
        const local = stats.find(({ id }) => id === pair?.localCandidateId);
        return [local?.candidateType, pair?.bytesSent ?? 0];
      });
    await until('media goes by the relay', async () => {
      const [kind, bytes] = await sent();
      return kind === 'relay' && bytes > 50_000;
    });
  });
});
