import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Kaigi, PROGRAM } from '../harness/kaigi';
import { RedisServer } from '../harness/redis';
import { until } from '../harness/until';

const run = promisify(execFile);

/** Machines, as it were: each has an address of its own, and one of each process. */
const MACHINES = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];

let directory: string;
let redis: RedisServer;
let kaigi: Kaigi;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'kaigi-chaos-'));
  redis = await RedisServer.start();
  const args = ['--redis', redis.url, '--replicas', String(MACHINES.length), '--apart', 'true', '--media-workers', '1'];
  kaigi = await Kaigi.start({ name: 'chaos', args });
});
afterAll(async () => {
  await kaigi?.stop();
  await redis?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** What `kaigi chaos` tells of a step. */
interface Row {
  step: { process: string; blow: string };
  requests: number;
  failed: number;
  control: number | null;
  join: number | null;
  forward_gap: number | null;
  mixed_gap: number | null;
  lost: number;
  came_back: number;
  began_anew: number;
}

describe('a conference on three machines, whose processes are killed', () => {
  it('has one of each process on each of them', async () => {
    for (const purpose of ['portal', 'conference', 'access', 'mixer', 'streaming']) {
      const addresses = await until(`three of ${purpose}`, async () => {
        const workers = await kaigi.rest.workers(purpose);
        return workers.length === MACHINES.length && workers.map(({ endpoint, publicAddress }) => new URL(endpoint || `http://${publicAddress}`).hostname);
      });
      expect(addresses.sort(), purpose).toEqual(MACHINES);
    }
  });

  it('comes back each time, as the recovery table tells', { timeout: 180_000 }, async () => {
    const steps = ['cluster-manager', 'conference-agent', 'mixer-node', 'portal', 'access-node'];
    const where = ['--url', kaigi.managementUrl, '--service-id', kaigi.service.id, '--service-key', kaigi.service.key, '--pid', String(kaigi.pid)];
    const flags = ['--listeners', '2', '--window', '5', '--json', '--cache', path.join(directory, 'recordings')];
    const { stdout } = await run(PROGRAM, ['chaos', ...steps, ...where, ...flags]);
    const { rows } = JSON.parse(stdout) as { rows: Row[] };
    console.table(rows.map(({ step, ...row }) => ({ process: step.process, ...row })));
    expect(rows.map(({ step }) => step)).toEqual(steps.map((process) => ({ process, blow: 'kill' })));
    for (const row of rows) {
      expect(row.requests, row.step.process).toBeGreaterThan(20);
      for (const back of [row.control, row.join, row.forward_gap, row.mixed_gap]) expect(back, row.step.process).toBeGreaterThan(0);
    }
    const [manager, agent, mixer, portal, access] = rows as [Row, Row, Row, Row, Row];
    // Nobody notices the first two, but by answers that are late.
    for (const { failed, came_back, began_anew, lost } of [manager, agent]) expect({ failed, came_back, began_anew, lost }).toEqual({ failed: 0, came_back: 0, began_anew: 0, lost: 0 });
    expect({ failed: mixer.failed, began_anew: mixer.began_anew }).toEqual({ failed: 0, began_anew: 0 });
    // All three were on that portal: it is the one that was asked for their tokens.
    expect({ came_back: portal.came_back, began_anew: portal.began_anew }).toEqual({ came_back: 3, began_anew: 0 });
    // Who sends or receives by that access-node.
    expect(access.began_anew).toBeGreaterThan(0);
  });
});
