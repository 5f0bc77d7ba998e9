import { h } from './dom.js';

const SHOWN_MS = 6_000;

/** Says something in passing, to eyes and to screen readers. */
export function notify(message: string, tone: 'info' | 'warning' = 'info'): void {
  const notice = h('p', { class: `notice ${tone}` }, message);
  document.getElementById('notices')?.append(notice);
  setTimeout(() => notice.remove(), SHOWN_MS);
}
