import { useSignal } from '@preact/signals';
import { SPAN, type Series } from './history.js';

const WIDTH = 120;
const HEIGHT = 30;

interface Props {
  series: Series;
  label: string;
  format: (value: number | undefined) => string;
  /** The scale reaches so far at least. */
  least: number;
  now: number;
  testId?: string;
}

/** The value of now, and a line of the last minutes; a pointer over it tells the value of that time. */
export function Sparkline({ series, label, format, least, now, testId }: Props) {
  const at = useSignal<number | undefined>(undefined);
  const { times, values } = series;
  const known = values.filter(Number.isFinite);
  const top = Math.max(least, ...known);
  const x = (time: number) => WIDTH * (1 - (now - time) / SPAN);
  const y = (value: number) => HEIGHT - 1.5 - (value / top) * (HEIGHT - 3);
  const pointed = at.value === undefined ? values.length - 1 : nearest(times, now - (1 - at.value) * SPAN);
  const value = values[pointed];
  const lines = segments(times, values).map((points) => points.map(([time, v]) => `${x(time).toFixed(1)},${y(v).toFixed(1)}`));
  return (
    <div class="spark" data-testid={testId}>
      <span class="spark-label">{label}</span>
      <strong class="spark-value">{format(value === undefined || Number.isNaN(value) ? undefined : value)}</strong>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={known.length > 0 ? `${label}, last three minutes: ${format(Math.min(...known))} to ${format(Math.max(...known))}` : `${label}: nothing yet`}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          at.value = (event.clientX - box.left) / box.width;
        }}
        onPointerLeave={() => (at.value = undefined)}
      >
        {lines.map((points, i) => (
          <g key={i}>
            <polygon class="area" points={`${points[0]?.split(',')[0]},${HEIGHT} ${points.join(' ')} ${points.at(-1)?.split(',')[0]},${HEIGHT}`} />
            <polyline points={points.join(' ')} vector-effect="non-scaling-stroke" />
          </g>
        ))}
        {at.value !== undefined && times[pointed] !== undefined && <line class="cursor" x1={x(times[pointed])} x2={x(times[pointed])} y1={0} y2={HEIGHT} vector-effect="non-scaling-stroke" />}
      </svg>
    </div>
  );
}

/** The parts of a series between which there was no value. */
function segments(times: number[], values: number[]): [number, number][][] {
  const all: [number, number][][] = [];
  let open: [number, number][] | undefined;
  values.forEach((value, i) => {
    const time = times[i];
    if (time === undefined || !Number.isFinite(value)) return void (open = undefined);
    if (!open) all.push((open = []));
    open.push([time, value]);
  });
  return all.filter((points) => points.length > 1);
}

function nearest(times: number[], time: number): number {
  let best = times.length - 1;
  times.forEach((one, i) => {
    if (Math.abs(one - time) < Math.abs((times[best] ?? 0) - time)) best = i;
  });
  return best;
}
