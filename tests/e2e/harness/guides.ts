// Commands of the guides in `docs`, which tests run as they stand there.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Kaigi, PROGRAM } from './kaigi';

const read = (page: string): string => readFileSync(fileURLToPath(new URL(`../../../docs/${page}`, import.meta.url)), 'utf8');

export interface Command {
  /** The heading that it stands below. */
  section: string;
  text: string;
}

/** What stands indented on a page; a command goes on where it has opened a quotation. */
export function commands(page: string): Command[] {
  const found: Command[] = [];
  let section = '';
  let text = '';
  for (const line of read(page).split('\n')) {
    section = /^#+ (.*)/.exec(line)?.[1] ?? section;
    if (!line.startsWith('    ')) continue;
    text += text === '' ? line.slice(4) : `\n${line}`;
    if ((text.match(/'/g)?.length ?? 0) % 2 === 1) continue;
    found.push({ section, text });
    text = '';
  }
  return found;
}

const environment = (kaigi: Kaigi, more: Record<string, string>): NodeJS.ProcessEnv => ({
  ...process.env,
  PATH: `${path.dirname(PROGRAM)}:${process.env.PATH}`,
  KAIGI_MANAGEMENT_URL: kaigi.managementUrl,
  KAIGI_DATA_DIR: kaigi.dataDir,
  ...more,
});

/** Runs a command that uses `call`, as the page of examples defines it; what it prints. */
export async function runCall(kaigi: Kaigi, text: string, variables: Record<string, string>): Promise<string> {
  const definition = /^```sh\n(API=.*?^\}\n)/ms.exec(read('rest-examples.md'))?.[1];
  if (definition === undefined) throw new Error('`call` is defined nowhere');
  // The key of the service is not the one of the stream.
  const signed = definition.replaceAll('$KEY', '$SERVICE_KEY').replace(/^KEY=/m, 'SERVICE_KEY=').replaceAll('$ID', '$SERVICE_ID').replace(/^ID=/m, 'SERVICE_ID=');
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', `${signed}\n${text}`], { env: environment(kaigi, variables), timeout: 40_000 });
  return stdout;
}

/** Starts a command that runs until it is killed. */
export function start(kaigi: Kaigi, text: string, variables: Record<string, string>, cwd: string): ChildProcess {
  return spawn('bash', ['-c', `exec ${text}`], { env: environment(kaigi, variables), cwd, stdio: 'ignore' });
}
