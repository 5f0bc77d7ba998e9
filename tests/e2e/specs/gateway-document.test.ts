import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Gateway } from '../harness/gateway';
import { ARTIFACTS, Kaigi } from '../harness/kaigi';
import { freePort } from '../harness/live-server';
import { until } from '../harness/until';

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
const SCHEMATHESIS = path.join(PROJECT, '.cache/schemathesis/bin/st');
const HOOKS = path.join(PROJECT, 'tests/e2e/schemathesis');

/** The same requests each time. */
const SEED = '20261122';
/** Of a run, in ms. */
const LIMIT = 120_000;
const CHECKS = ['not_a_server_error', 'status_code_conformance', 'content_type_conformance', 'response_schema_conformance', 'negative_data_rejection', 'unsupported_method', 'allow_header_conformance'];

let kaigi: Kaigi;
let gateway: Gateway;
let known: Record<string, string>;

beforeAll(async () => {
  const port = await freePort();
  kaigi = await Kaigi.start({ name: 'gateway-document', args: ['--gateway-port', String(port)], env: { KAIGI_GATEWAY_EVENT_TIMEOUT: '1' } });
  gateway = new Gateway(`http://127.0.0.1:${port}`);
  const peer = await until('the gateway makes peers', () => gateway.peer(kaigi.service.id, 'garden', 'camera'));
  const [video, audio, rtcp, data] = [await gateway.mediaPort(true), await gateway.mediaPort(false), await gateway.rtcpPort(), await gateway.dataPort()];
  // Nobody of that name is there, which the connections tell by events.
  const call = await peer.call('nobody', { video: false, videoReceiveEnabled: true, audio: false });
  const body = { peer_id: peer.id, token: peer.token, target_id: 'nobody', params: { data_id: data.id } };
  const { params } = (await gateway.done('POST', '/data/connections', body)) as { params: { data_connection_id: string } };
  known = {
    key: kaigi.service.id,
    peer_id: peer.id,
    token: peer.token,
    media_id: video.id,
    video: video.id,
    audio: audio.id,
    rtcp_id: rtcp.id,
    data_id: data.id,
    media_connection_id: call,
    data_connection_id: params.data_connection_id,
    target_id: `room:${kaigi.service.room}`,
  };
});
afterAll(() => kaigi?.stop());

/** Runs it, and gives what it says at the end. */
function schemathesis(...args: string[]): Promise<{ code: number; said: string }> {
  const env = { ...process.env, SCHEMATHESIS_HOOKS: 'gateway_hooks', PYTHONPATH: HOOKS, PYTHONDONTWRITEBYTECODE: '1', KAIGI_KNOWN: JSON.stringify(known), NO_COLOR: '1' };
  return new Promise((resolve) => {
    const options = { cwd: ARTIFACTS, env, maxBuffer: 64 << 20, timeout: LIMIT };
    execFile(SCHEMATHESIS, args, options, (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? 1) : 0, said: stdout + stderr }));
  });
}

it('every operation of the document is there', async () => {
  const { paths } = (await gateway.done('GET', '/openapi.json')) as { paths: Record<string, Record<string, unknown>> };
  const operations = Object.entries(paths).flatMap(([at, methods]) => Object.keys(methods).map((method) => ({ at, method })));
  expect(operations.length).toBe(22);
  for (const { at, method } of operations) {
    const { json } = await gateway.call(method.toUpperCase(), at.replaceAll(/[{}]/g, ''), []);
    expect(json.command_type, `${method} ${at}`).not.toBe('UNKNOWN');
    expect(json.command_type, `${method} ${at}`).toBeTruthy();
  }
});

it('the gateway’s document says what is answered to whatever is asked', { timeout: LIMIT + 10_000 }, async () => {
  expect(existsSync(SCHEMATHESIS), 'scripts/setup.sh --test brings it').toBe(true);
  const ours = ['--checks', CHECKS.join(','), '--seed', SEED, '--no-shrink', '--warnings', 'off', '--max-examples', '5', '--request-timeout', '10'];
  const config = path.join(HOOKS, 'schemathesis.toml');
  const { code, said } = await schemathesis('--config-file', config, 'run', `${gateway.url}/openapi.json`, ...ours, '--phases', 'coverage,fuzzing');
  expect(code, said.slice(-20_000)).toBe(0);
  // It has survived that.
  expect((await gateway.call('GET', `/peers/camera/status?token=${known.token}`)).json).toEqual({ peer_id: 'camera', disconnected: false });
});
