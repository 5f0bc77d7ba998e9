import type { Publication, Subscription } from '../../sdk/src/kaigi.js';
import { h } from './dom.js';
import { type Measure, StatsReader } from './stats.js';

const INTERVAL_MS = 1_000;

/** A stream whose statistics are shown. */
export interface Watched {
  name: string;
  session: Publication | Subscription;
  direction: 'sent' | 'received';
}

/** What each stream costs and how well it arrives, once a second. */
export class StatsPanel {
  readonly element: HTMLElement;
  readonly #rows = h('tbody');
  readonly #readers = new Map<string, StatsReader>();
  readonly #watched: () => Watched[];
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(watched: () => Watched[], close: () => void) {
    this.#watched = watched;
    const columns = ['Stream', 'Codec', 'Picture', 'fps', 'kbit/s', 'Loss', 'RTT'];
    this.element = h(
      'section',
      { class: 'stats', 'aria-label': 'Statistics', 'data-testid': 'stats-panel', hidden: true },
      h('header', {}, h('h2', {}, 'Statistics'), h('button', { type: 'button', class: 'plain', onclick: close }, 'Close')),
      h('div', { class: 'stats-scroll', tabindex: 0, role: 'group', 'aria-label': 'Table of statistics' }, h('table', {}, h('thead', {}, h('tr', {}, ...columns.map((name) => h('th', { scope: 'col' }, name)))), this.#rows)),
    );
  }

  get shown(): boolean {
    return !this.element.hidden;
  }

  set shown(shown: boolean) {
    this.element.hidden = !shown;
    clearInterval(this.#timer);
    if (!shown) return;
    void this.#update();
    this.#timer = setInterval(() => void this.#update(), INTERVAL_MS);
  }

  close(): void {
    this.shown = false;
  }

  async #update(): Promise<void> {
    const watched = this.#watched();
    const rows = await Promise.all(watched.map((entry) => this.#rowsOf(entry)));
    const ids = new Set(watched.map(({ session }) => session.id));
    for (const id of this.#readers.keys()) if (!ids.has(id)) this.#readers.delete(id);
    this.#rows.replaceChildren(...rows.flat());
  }

  async #rowsOf({ name, session, direction }: Watched): Promise<HTMLElement[]> {
    const reader = this.#readers.get(session.id) ?? new StatsReader();
    this.#readers.set(session.id, reader);
    const report = await session.getStats().catch(() => new Map<string, RTCStats>());
    return reader.read(report).map((measure) => row(`${name}, ${measure.kind}`, direction, measure));
  }
}

function row(name: string, direction: Watched['direction'], measure: Measure): HTMLElement {
  const { codec, width, height, framesPerSecond, bitrate, loss, roundTrip } = measure;
  const cells = [
    codec ?? '–',
    width && height ? `${width}×${height}` : '–',
    framesPerSecond === undefined ? '–' : String(Math.round(framesPerSecond)),
    bitrate === undefined ? '–' : String(Math.round(bitrate)),
    loss === undefined ? '–' : `${(loss * 100).toFixed(1)} %`,
    roundTrip === undefined ? '–' : `${Math.round(roundTrip * 1000)} ms`,
  ];
  const arrow = direction === 'sent' ? '↑' : '↓';
  return h(
    'tr',
    { 'data-testid': 'stats-row', 'data-direction': direction },
    h('th', { scope: 'row' }, h('span', { 'aria-label': direction, role: 'img' }, arrow), ` ${name}`),
    ...cells.map((cell) => h('td', {}, cell)),
  );
}
