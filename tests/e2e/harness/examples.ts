import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { type Kaigi, PROGRAM } from './kaigi';

interface Example {
  script: string;
  /** What stands below it; `<words>` stand for something else each time, the same word always for the same. */
  prints: string;
}

/** The page's blocks of shell, in order. */
function examples(text: string): Example[] {
  const blocks = [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, kind, content]) => ({ kind, content: content ?? '' }));
  return blocks.flatMap(({ kind, content }, i) => {
    if (kind !== 'sh') return [];
    const next = blocks[i + 1];
    return [{ script: content, prints: next?.kind === 'text' ? next.content : '' }];
  });
}

/** Runs all in one shell, as a reader would; what each printed. */
function run(all: Example[], env: NodeJS.ProcessEnv): string[] {
  const dir = mkdtempSync(path.join(tmpdir(), 'kaigi-examples-'));
  try {
    const script = all.map(({ script }, i) => `echo ${i} > at\n{\n${script}\n} > out.${i}\n`).join('');
    try {
      execFileSync('bash', ['-euo', 'pipefail', '-c', script], { cwd: dir, env, encoding: 'utf8', timeout: 30_000 });
    } catch (error) {
      const at = Number(readFileSync(path.join(dir, 'at'), 'utf8'));
      const printed = readFileSync(path.join(dir, `out.${at}`), 'utf8');
      throw new Error(`${all[at]?.script}\nprinted: ${printed}\nsaid: ${(error as { stderr: string }).stderr}`);
    }
    return all.map((_, i) => readFileSync(path.join(dir, `out.${i}`), 'utf8'));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Compares, and keeps what the words stand for. */
function compare(printed: string, expected: string, words: Map<string, string>): void {
  const names: string[] = [];
  const quoted = expected.trimEnd().replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const pattern = quoted.replaceAll(/<([a-z][a-z ]*)>/g, (_, name: string) => (names.push(name), '([^"\\s,]+)'));
  expect(printed.trimEnd()).toMatch(new RegExp(`^${pattern}$`));
  const found = new RegExp(`^${pattern}$`).exec(printed.trimEnd()) ?? [];
  for (const [i, name] of names.entries()) {
    const value = found[i + 1] ?? '';
    expect(value, `<${name}> in\n${printed}`).toBe(words.get(name) ?? value);
    words.set(name, value);
  }
}

/** Runs a page of the documentation against a running Kaigi: what each block of shell prints has to be what stands below it. */
export function checkPage(name: string, kaigi: Kaigi, more: Record<string, string> = {}): void {
  const all = examples(readFileSync(fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url)), 'utf8'));
  expect(all.length).toBeGreaterThan(2);
  const env = {
    ...process.env,
    PATH: `${path.dirname(PROGRAM)}:${process.env.PATH}`,
    KAIGI_URL: kaigi.url,
    KAIGI_MANAGEMENT_URL: kaigi.managementUrl,
    KAIGI_DATA_DIR: kaigi.dataDir,
    ...more,
  };
  const printed = run(all, env);
  const words = new Map<string, string>();
  for (const [i, { prints }] of all.entries()) compare(printed[i] ?? '', prints, words);
}
