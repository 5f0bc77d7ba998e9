import { useSignal } from '@preact/signals';
import { useId } from 'preact/hooks';
import { valueOf } from '../model/fraction.js';
import type { ViewVideo } from '../model/room.js';
import { layoutFor, rectangle } from '../model/templates.js';
import { Segments } from '../ui/fields.js';

const CAMERAS: Record<string, [number, number]> = { '16:9': [16, 9], '4:3': [4, 3], '9:16': [9, 16] };
/** People who may stand in the preview. */
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** What a view would look like with so many inputs: its layout, background and fit, by the server's rules. */
export function LayoutPreview({ video }: { video: ViewVideo }) {
  const inputs = useSignal(3);
  const camera = useSignal('16:9');
  const id = useId();
  const most = Number.isInteger(video.maxInput) ? Math.min(Math.max(video.maxInput, 1), 256) : 16;
  const count = Math.min(inputs.value, most);
  const choice = layoutFor({ ...video, maxInput: most }, count);
  const regions = choice?.template.region.length ?? 0;
  const shown = Math.min(count, regions);
  return (
    <div class="preview" data-testid="layout-preview">
      <div class="preview-tools">
        <label for={id}>
          With <output data-testid="preview-count">{count}</output> {count === 1 ? 'input' : 'inputs'}
        </label>
        <input id={id} type="range" min={1} max={Math.min(most, 50)} value={count} onInput={(event) => (inputs.value = event.currentTarget.valueAsNumber)} data-testid="preview-inputs" />
        <Segments label="Shape of the cameras" value={camera.value} onChange={(value) => (camera.value = value)} options={Object.keys(CAMERAS).map((value) => ({ value, label: value }))} />
      </div>
      <Picture video={video} count={shown} camera={CAMERAS[camera.value] ?? [16, 9]} />
      <p class="hint" data-testid="preview-words">
        {choice === undefined
          ? 'There is no layout: the picture is the background alone.'
          : `${choice.custom === undefined ? 'Built-in' : 'Custom'} layout of ${regions}${count > shown ? `; ${count - shown} wait` : ''}${regions > shown ? `; ${regions - shown} stay empty` : ''}.`}
      </p>
    </div>
  );
}

function Picture({ video, count, camera }: { video: ViewVideo; count: number; camera: [number, number] }) {
  const { width, height } = video.parameters.resolution;
  const { r, g, b } = video.bgColor;
  const [across, down] = camera;
  const regions = layoutFor(video, count)?.template.region ?? [];
  if (!(width > 0 && height > 0)) return null;
  return (
    <svg class="preview-picture" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${count} people in the picture`}>
      <rect width={width} height={height} fill={`rgb(${r} ${g} ${b})`} />
      {regions.slice(0, count).map((region, i) => {
        const sides = rectangle(region);
        if (!sides) return null;
        return (
          <svg
            key={region.id}
            x={valueOf(sides.left) * width}
            y={valueOf(sides.top) * height}
            width={valueOf(sides.width) * width}
            height={valueOf(sides.height) * height}
            viewBox={`0 0 ${across * 10} ${down * 10}`}
            preserveAspectRatio={video.layout.fitPolicy === 'crop' ? 'xMidYMid slice' : 'xMidYMid meet'}
          >
            <Portrait width={across * 10} height={down * 10} index={i} />
          </svg>
        );
      })}
    </svg>
  );
}

/** Somebody before a camera. */
function Portrait({ width, height, index }: { width: number; height: number; index: number }) {
  const hue = (index * 47 + 165) % 360;
  const unit = Math.min(width, height);
  const [x, y] = [width / 2, height / 2];
  return (
    <g>
      <rect width={width} height={height} fill={`hsl(${hue} 32% 42%)`} />
      <circle cx={x} cy={y - unit * 0.08} r={unit * 0.2} fill={`hsl(${hue} 38% 78%)`} />
      <ellipse cx={x} cy={height + unit * 0.06} rx={unit * 0.4} ry={unit * 0.38} fill={`hsl(${hue} 34% 26%)`} />
      <text x={x} y={y - unit * 0.005} font-size={unit * 0.2} text-anchor="middle" fill={`hsl(${hue} 40% 22%)`} font-weight="600">
        {index < LETTERS.length ? LETTERS[index] : index + 1}
      </text>
    </g>
  );
}
