import { readFileSync, readdirSync } from 'node:fs';

export interface Process {
  pid: number;
  /** Name of the program, such as `kaigi-portal`. */
  name: string;
}

/** The children of a process that are running (not those that ended and were not waited for yet), by name. */
export function childrenOf(parent: number): Process[] {
  const children: Process[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(ppid) !== parent || state === 'Z') continue;
      const program = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0')[0] ?? '';
      children.push({ pid: Number(entry), name: program.slice(program.lastIndexOf('/') + 1) });
    } catch {
      // It ended while we looked.
    }
  }
  return children.sort((a, b) => a.name.localeCompare(b.name));
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
