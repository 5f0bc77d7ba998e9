import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { type Handle, addRegion, drag, duplicate, grow, intersection, isOutside, nudge, removeRegion } from '../model/editing.js';
import { formatFraction, snap, valueOf } from '../model/fraction.js';
import type { BgColor, Region, Template } from '../model/room.js';
import { rectangle } from '../model/templates.js';

const HANDLES: Exclude<Handle, 'move'>[] = ['nw', 'n', 'ne', 'w', 'e', 'sw', 's', 'se'];
const ARROWS: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export interface CanvasProps {
  template: Template;
  selected: number;
  onSelect: (index: number) => void;
  onChange: (template: Template) => void;
  /** Lines of the grid in each direction. */
  parts: number;
  /** Width by height. */
  aspect: number;
  background: BgColor;
  /** What is written into a region beside its id. */
  caption?: (index: number) => string | undefined;
}

/** Where a region is, in words. */
function words(region: Region): string {
  const sides = rectangle(region);
  return sides ? Object.entries(sides).map(([side, value]) => `${side} ${formatFraction(value)}`).join(', ') : 'no part of the picture';
}

const percent = (value: number) => `${value * 100}%`;

/** A picture whose regions are drawn, moved and resized: by mouse, finger and keyboard. */
export function Canvas({ template, selected, onSelect, onChange, parts, aspect, background, caption }: CanvasProps) {
  const root = useRef<HTMLDivElement>(null);
  const told = useSignal('');
  const drawn = useSignal<Record<'left' | 'top' | 'width' | 'height', number> | undefined>(undefined);
  const focusNext = useRef<number | undefined>(undefined);
  useEffect(() => {
    if (focusNext.current === undefined) return;
    root.current?.querySelector<HTMLElement>(`[data-index="${focusNext.current}"]`)?.focus();
    focusNext.current = undefined;
  });

  const select = (index: number) => {
    focusNext.current = index;
    onSelect(index);
  };
  const change = (next: Template, index: number) => {
    onChange(next);
    const region = next.region[index];
    if (region) told.value = `Region ${region.id}: ${words(region)}`;
  };

  const onKey = (event: KeyboardEvent, index: number) => {
    const step = ARROWS[event.key];
    const count = template.region.length;
    if (step) change((event.shiftKey ? grow : nudge)(template, index, step[0], step[1], parts), index);
    else if (event.key === 'PageDown') select((index + 1) % count);
    else if (event.key === 'PageUp') select((index + count - 1) % count);
    else if (event.key === 'Delete' || event.key === 'Backspace') {
      onChange(removeRegion(template, index));
      select(Math.max(0, Math.min(index, count - 2)));
    } else if (event.key.toLowerCase() === 'd' && !event.ctrlKey && !event.metaKey) {
      change(duplicate(template, index, parts), count);
      select(count);
    } else if (event.key.toLowerCase() === 'n' && !event.ctrlKey && !event.metaKey) {
      change(addRegion(template), count);
      select(count);
    } else return;
    event.preventDefault();
  };

  /** Follows a pointer until it is lifted; `move` gets how far it is, in parts of the picture. */
  const follow = (event: PointerEvent, move: (dx: number, dy: number) => void, end?: () => void) => {
    const box = root.current?.getBoundingClientRect();
    const target = event.currentTarget as HTMLElement;
    if (!box || event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    target.setPointerCapture(event.pointerId);
    const onMove = (now: PointerEvent) => move((now.clientX - event.clientX) / box.width, (now.clientY - event.clientY) / box.height);
    const onEnd = () => {
      target.removeEventListener('pointermove', onMove);
      target.removeEventListener('pointerup', onEnd);
      target.removeEventListener('pointercancel', onEnd);
      end?.();
    };
    target.addEventListener('pointermove', onMove);
    target.addEventListener('pointerup', onEnd);
    target.addEventListener('pointercancel', onEnd);
  };
  const startDrag = (event: PointerEvent, index: number, handle: Handle) => {
    select(index);
    follow(event, (dx, dy) => onChange(drag(template, index, handle, dx, dy, parts)));
  };
  const startDrawing = (event: PointerEvent) => {
    const box = root.current?.getBoundingClientRect();
    if (!box) return;
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const span = (from: number, by: number) => {
      const ends = [from, Math.min(1, Math.max(0, from + by))].map((end) => Math.round(end * parts)).sort((a, b) => a - b);
      return { start: (ends[0] ?? 0) / parts, size: ((ends[1] ?? 0) - (ends[0] ?? 0)) / parts };
    };
    const move = (dx: number, dy: number) => {
      const [across, down] = [span(x, dx), span(y, dy)];
      drawn.value = { left: across.start, top: down.start, width: across.size, height: down.size };
    };
    const end = () => {
      const area = drawn.value;
      drawn.value = undefined;
      if (!area || area.width <= 0 || area.height <= 0) return;
      const text = (value: number) => formatFraction(snap(value, parts));
      const count = template.region.length;
      change(addRegion(template, { left: text(area.left), top: text(area.top), width: text(area.width), height: text(area.height) }), count);
      select(count);
    };
    follow(event, move, end);
  };

  const { r, g, b } = background;
  return (
    <>
      <div
        class="canvas"
        ref={root}
        role="group"
        aria-label="Regions of the picture"
        style={{ aspectRatio: String(aspect), backgroundColor: `rgb(${r} ${g} ${b})`, '--parts': String(parts) }}
        onPointerDown={startDrawing}
        data-testid="layout-canvas"
      >
        <div class="grid" aria-hidden="true" />
        {template.region.map((region, i) => {
          const sides = rectangle(region);
          if (!sides) return null;
          const isSelected = i === selected;
          return (
            <div
              key={region.id}
              class={`region${isOutside(region) ? ' outside' : ''}`}
              role="button"
              aria-roledescription="region"
              aria-pressed={isSelected}
              aria-label={`Region ${region.id} ${caption?.(i) ?? ''}${i === 0 ? ', primary' : ''}: ${words(region)}`}
              tabIndex={isSelected ? 0 : -1}
              data-index={i}
              data-testid="region"
              style={{
                left: percent(valueOf(sides.left)),
                top: percent(valueOf(sides.top)),
                width: percent(valueOf(sides.width)),
                height: percent(valueOf(sides.height)),
                '--hue': String((i * 47 + 165) % 360),
              }}
              onPointerDown={(event) => startDrag(event, i, 'move')}
              onKeyDown={(event) => onKey(event, i)}
              onFocus={() => i !== selected && onSelect(i)}
            >
              <span class="region-id" aria-hidden="true">
                {region.id}
              </span>{' '}
              {caption?.(i) && (
                <span class="region-caption" aria-hidden="true">
                  {caption(i)}
                </span>
              )}
              {isSelected && HANDLES.map((handle) => <span key={handle} class={`handle ${handle}`} onPointerDown={(event) => startDrag(event, i, handle)} />)}
            </div>
          );
        })}
        <Overlaps template={template} />
        {drawn.value && (
          <div class="drawn" style={Object.fromEntries(Object.entries(drawn.value).map(([side, value]) => [side, percent(value)]))} />
        )}
      </div>
      <p class="unseen" role="status">
        {told}
      </p>
    </>
  );
}

/** Where regions cover each other. */
function Overlaps({ template }: { template: Template }) {
  // Of hundreds of regions, all pairs would be too many to draw.
  const some = template.region.slice(0, 64);
  return (
    <>
      {some.flatMap((region, i) =>
        some.slice(i + 1).map((other, j) => {
          const common = intersection(region, other);
          if (!common) return null;
          const style = Object.fromEntries(Object.entries(common).map(([side, value]) => [side, percent(value)]));
          return <div key={`${i}-${i + 1 + j}`} class="overlap" style={style} aria-hidden="true" data-testid="overlap" />;
        }),
      )}
    </>
  );
}
