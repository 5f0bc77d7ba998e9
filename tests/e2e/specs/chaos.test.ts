import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROGRAM } from '../harness/kaigi';

const run = promisify(execFile);

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'kaigi-chaos-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

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

describe('a conference whose processes are killed', () => {
  it('comes back each time, as the recovery table tells', { timeout: 180_000 }, async () => {
    const steps = ['cluster-manager', 'conference-agent', 'mixer-node', 'portal', 'access-node'];
    const flags = ['--listeners', '2', '--window', '5', '--json', '--cache', path.join(directory, 'recordings')];
    const { stdout } = await run(PROGRAM, ['chaos', ...steps, ...flags]);
    const { rows } = JSON.parse(stdout) as { rows: Row[] };
    expect(rows.map(({ step }) => step)).toEqual(steps.map((process) => ({ process, blow: 'kill' })));
    for (const row of rows) {
      expect(row.requests, row.step.process).toBeGreaterThan(20);
      for (const back of [row.control, row.join, row.forward_gap, row.mixed_gap]) expect(back, row.step.process).toBeGreaterThan(0);
    }
    const [manager, agent, mixer, portal, access] = rows as [Row, Row, Row, Row, Row];
    // Nobody notices the first two, but by answers that are late.
    for (const { failed, came_back, began_anew, lost } of [manager, agent]) expect({ failed, came_back, began_anew, lost }).toEqual({ failed: 0, came_back: 0, began_anew: 0, lost: 0 });
    expect({ failed: mixer.failed, began_anew: mixer.began_anew }).toEqual({ failed: 0, began_anew: 0 });
    // All three were on the portal, and on the access-node.
    expect({ came_back: portal.came_back, began_anew: portal.began_anew }).toEqual({ came_back: 3, began_anew: 0 });
    expect(access.began_anew).toBe(3);
  });
});
