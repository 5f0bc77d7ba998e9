import { readFileSync } from 'node:fs';

const TICKS_PER_SECOND = 100;

export interface Use {
  /** Seconds of processor time since the process began, user and system. */
  cpu: number;
  /** MiB in memory. */
  resident: number;
}

/** What a process uses at the moment. */
export function useOf(pid: number): Use {
  const after = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const resident = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return { cpu: (Number(after[11]) + Number(after[12])) / TICKS_PER_SECOND, resident: Number(resident) / 1024 };
}
