import * as format from '../ui/format.js';
import type { Measure } from './history.js';
import { useLive } from './panel.js';
import { Sparkline } from './sparkline.js';

interface Line {
  measure: Measure;
  label: string;
  format: (value: number | undefined) => string;
  /** The scale reaches so far at least. */
  least: number;
}

const LINES: Line[] = [
  { measure: 'bitrate', label: 'Bitrate', format: format.bitrate, least: 100_000 },
  { measure: 'loss', label: 'Loss', format: format.percent, least: 0.05 },
  { measure: 'rtt', label: 'Round trip', format: format.ms, least: 50 },
  { measure: 'frameRate', label: 'Frame rate', format: format.fps, least: 30 },
];
/** What is made here comes over no way. */
const MADE: Measure[] = ['bitrate', 'frameRate'];

/** The last minutes of a stream or a subscription. */
export function StatsRow({ id, isMade = false }: { id: string; isMade?: boolean }) {
  const { store } = useLive();
  // Each look moves the lines.
  void store.round.value;
  if (!store.counts.value) return null;
  const now = Date.now();
  return (
    <div class="sparks" data-testid="sparks">
      {LINES.filter(({ measure }) => !isMade || MADE.includes(measure)).map(({ measure, ...line }) => (
        <Sparkline key={measure} {...line} series={store.history.get(id, measure)} now={now} testId={`spark-${measure}`} />
      ))}
    </div>
  );
}
