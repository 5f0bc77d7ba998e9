import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Api, bearer } from '../../harness/api';
import { RED } from '../../harness/colours';
import { DIALECTS } from '../../harness/dialects';
import { ARTIFACTS } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import { ROUTES } from '../../harness/routes';
import { Stage } from '../../harness/stage';

const PROJECT = fileURLToPath(new URL('../../../..', import.meta.url));
const SCHEMATHESIS = path.join(PROJECT, '.cache/schemathesis/bin/st');
const HOOKS = path.join(PROJECT, 'tests/e2e/schemathesis');

/** The same requests each time. */
const SEED = '20261121';
/** Of a run, in ms; on a machine that does nothing else it takes a fraction of that. */
const LIMIT = 240_000;

let stage: Stage;
let api: Api;
let member: Member;
let known: Record<string, string[]>;

beforeAll(async () => {
  stage = await Stage.open('rest-document');
  api = new Api(stage.kaigi.managementUrl, stage.kaigi.service);
  member = await enter(stage.kaigi, stage.room, DIALECTS[0]![1], 'presenter', 'Botan');
  const stream = await stage.page.call('publish', { look: RED });
  const subscription = await stage.page.call('subscribe', { audio: { from: stage.mixed }, video: { from: stream } });
  const tenant = await api.tenant('tenant');
  known = {
    service: [stage.kaigi.service.id, tenant.id],
    room: [stage.room, await api.room(), await api.room()],
    participant: [stage.page.id, member.id],
    stream: [stream, stage.mixed],
    subscription: [subscription],
  };
});
afterAll(async () => {
  await member?.client.leave();
  await stage?.close();
});

interface Document {
  openapi: string;
  paths: Record<string, Record<string, { security?: object[]; responses: Record<string, unknown> }>>;
}

it('names every operation, and no other', async () => {
  const { json } = (await api.get('/openapi.json', { authorization: null })) as { json: Document };
  expect(json.openapi).toMatch(/^3\.1/);
  const described = Object.entries(json.paths).flatMap(([at, methods]) => Object.keys(methods).filter((method) => method !== 'parameters').map((method) => `${method.toUpperCase()} ${at}`));
  const tested = ROUTES.map(({ method, path: at }) => `${method} ${at}`);
  const shape = (operation: string): string => operation.replaceAll(/\{\w+\}/g, '{}');
  const open = ['GET /openapi.json', 'GET /docs'];
  expect(described.map(shape).filter((one) => !open.includes(one)).sort()).toEqual(tested.map(shape).sort());
});

/** Runs it, and gives what it says at the end. */
function schemathesis(...args: string[]): Promise<{ code: number; said: string }> {
  const env = { ...process.env, SCHEMATHESIS_HOOKS: 'hooks', PYTHONPATH: HOOKS, PYTHONDONTWRITEBYTECODE: '1', KAIGI_KNOWN: JSON.stringify(known), NO_COLOR: '1' };
  return new Promise((resolve) => {
    const options = { cwd: ARTIFACTS, env, maxBuffer: 64 << 20, timeout: LIMIT };
    execFile(SCHEMATHESIS, args, options, (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? 1) : 0, said: stdout + stderr }));
  });
}

const CHECKS = ['refusals_are_no_failures', 'status_code_conformance', 'content_type_conformance', 'response_schema_conformance', 'response_headers_conformance', 'ignored_auth', 'negative_data_rejection', 'unsupported_method', 'allow_header_conformance'];

it.each([
  // Below both versions are the same operations with the same forms of requests.
  ['every form that a request may have or may not', ['--phases', 'examples,coverage', '--include-path-regex', '^/(v1\\.1/rooms|services|cluster)']],
  ['what nobody thought of', ['--phases', 'fuzzing', '--max-examples', '6']],
])('says what is answered to %s', { timeout: LIMIT + 10_000 }, async (_, phases) => {
  expect(existsSync(SCHEMATHESIS), 'scripts/setup.sh --test brings it').toBe(true);
  const url = `${stage.kaigi.managementUrl}/openapi.json`;
  const ours = ['--header', `Authorization: ${bearer(stage.kaigi.service)}`, '--checks', CHECKS.join(','), '--seed', SEED, '--no-shrink', '--warnings', 'off'];
  // Events do not end.
  const { code, said } = await schemathesis('--config-file', path.join(HOOKS, 'schemathesis.toml'), 'run', url, ...ours, '--exclude-path', '/v1/events', '--request-timeout', '10', ...phases);
  expect(code, said.slice(-20_000)).toBe(0);
});
