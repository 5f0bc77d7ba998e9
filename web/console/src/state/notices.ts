import { signal } from '@preact/signals';
import { explain } from '../api/error.js';

export interface Notice {
  id: number;
  text: string;
  kind: 'good' | 'bad';
}

/** How long good news stay, in ms. Bad ones stay until they are closed. */
const STAY = 5000;
/** Notices that are kept at most. */
const MOST = 4;

export const notices = signal<Notice[]>([]);
let last = 0;

function show(text: string, kind: Notice['kind']): void {
  const notice = { id: ++last, text, kind };
  notices.value = [...notices.value.filter((other) => other.text !== text), notice].slice(-MOST);
  if (kind === 'good') setTimeout(() => dismiss(notice.id), STAY);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

export function tell(text: string): void {
  show(text, 'good');
}

/** Tells of a failure in the server's words, with what was tried. */
export function complain(what: string, failure: unknown): void {
  show(`${what}: ${explain(failure)}`, 'bad');
}

/** Does something, and tells if it fails. Whether it did not. */
export async function attempt(what: string, action: () => Promise<unknown>): Promise<boolean> {
  try {
    await action();
    return true;
  } catch (failure) {
    complain(what, failure);
    return false;
  }
}
