import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROGRAM } from '../harness/kaigi';

const run = promisify(execFile);

/** What of a report is looked at. */
interface Report {
  failed: number;
  failures: string[];
  publishers: number;
  subscribers: number;
  received_tracks: number;
  received: Record<'packets' | 'frames' | 'lost' | 'corrupt' | 'broken' | 'undecodable' | 'picture_ids' | 'retransmitted' | 'nacks', number>;
  sent: { frames: number };
  processes: { name: string; cores: number }[];
  churn: { cycles: number } | null;
}

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'kaigi-load-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function bench(scenario: string): Promise<Report> {
  const { stdout } = await run(PROGRAM, ['bench', scenario, '--json', '--cache', path.join(directory, 'recordings')], { maxBuffer: 1 << 20 });
  return JSON.parse(stdout) as Report;
}

function file(name: string, text: string): string {
  const to = path.join(directory, `${name}.toml`);
  writeFileSync(to, text);
  return to;
}

const WHOLE = { lost: 0, corrupt: 0, broken: 0, undecodable: 0, picture_ids: 0 };

describe('clients of the load generator', () => {
  it('receive every frame that was published, whole and in order', async () => {
    const report = await bench('smoke');
    expect(report.failures).toEqual([]);
    expect(report).toMatchObject({ failed: 0, publishers: 4, subscribers: 6, received: WHOLE });
    // Each of two rooms has two publishers who see each other, and three who see both: a picture and a sound each time.
    expect(report.received_tracks).toBe(2 * (2 + 3 * 2) * 2);
    // Five seconds of 30 pictures and 50 sounds; a busy machine may leave out some, of which publishers know.
    expect(report.received.frames).toBeGreaterThan(0.8 * 16 * 5 * (30 + 50));
    expect(report.processes.find(({ name }) => name === 'kaigi-access-node')?.cores).toBeGreaterThan(0);
    // Recordings are kept.
    expect(readdirSync(path.join(directory, 'recordings')).length).toBe(3);
  });

  it('have what is lost on their way sent again, in H.264 too', async () => {
    const scenario = file(
      'lossy',
      `description = "A way that loses"
       publishers = 1
       subscribers = 3
       duration = 4.0
       way = { loss = 3.0, delay = 20 }
       media = { codec = "h264", audio = false, layers = [{ width = 320, height = 180, kbps = 300 }] }`,
    );
    const report = await bench(scenario);
    expect(report.failures).toEqual([]);
    expect(report.received).toMatchObject({ corrupt: 0 });
    expect(report.received.nacks).toBeGreaterThan(0);
    expect(report.received.retransmitted).toBeGreaterThan(0);
    expect(report.received.lost).toBeLessThan(report.received.retransmitted);
    expect(report.received.frames).toBeGreaterThan(0.8 * 3 * 4 * 30);
  });

  it('come and go', async () => {
    const scenario = file(
      'visitors',
      `description = "Few come and go"
       publishers = 1
       duration = 1.0
       media = { layers = [{ width = 320, height = 180, kbps = 150 }] }
       churn = { cycles = 12, parallel = 3, warm_up = 3 }`,
    );
    const report = await bench(scenario);
    expect(report.failures).toEqual([]);
    expect(report.churn?.cycles).toBe(12);
  });

  it('are not begun by a scenario that makes no sense', async () => {
    const scenario = file('nonsense', 'description = "x"\npublishers = 1\nduration = 1.0\nmedia = { audio = false }');
    await expect(bench(scenario)).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('there is nothing to publish') });
    await expect(bench('one-to-many')).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('one-to-100') });
  });
});
