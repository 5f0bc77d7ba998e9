import type { Template } from '../model/room.js';
import { rectangle } from '../model/templates.js';
import { valueOf } from '../model/fraction.js';

/** A small drawing of a template; decorative, its button says what it is. */
export function Thumbnail({ template, aspect }: { template: Template; aspect: number }) {
  const [width, height] = [160, 160 / aspect];
  return (
    <svg class="thumbnail" viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      {template.region.map((region) => {
        const sides = rectangle(region);
        if (!sides) return null;
        return (
          <rect
            key={region.id}
            x={valueOf(sides.left) * width + 1.5}
            y={valueOf(sides.top) * height + 1.5}
            width={Math.max(1, valueOf(sides.width) * width - 3)}
            height={Math.max(1, valueOf(sides.height) * height - 3)}
            rx={3}
          />
        );
      })}
    </svg>
  );
}
