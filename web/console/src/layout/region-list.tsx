import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import { isOutside, overlaps, reorder, setId, setSide } from '../model/editing.js';
import { parseFraction } from '../model/fraction.js';
import type { Area, Region, Template } from '../model/room.js';
import { Action } from '../ui/buttons.js';

const SIDES: { side: keyof Area; label: string }[] = [
  { side: 'left', label: 'Left' },
  { side: 'top', label: 'Top' },
  { side: 'width', label: 'Width' },
  { side: 'height', label: 'Height' },
];

interface Props {
  template: Template;
  selected: number;
  onSelect: (index: number) => void;
  onChange: (template: Template) => void;
  onDuplicate: (index: number) => void;
  onRemove: (index: number) => void;
  /** What else belongs to a region. */
  extra?: ((index: number) => ComponentChildren) | undefined;
}

/** The regions in the order in which they are filled, each with its sides as exact fractions. */
export function RegionList({ template, selected, onSelect, onChange, onDuplicate, onRemove, extra }: Props) {
  return (
    <ol class="regions" aria-label="Regions, in the order in which they are filled">
      {template.region.map((region, i) => {
        const covered = overlaps(template, i);
        return (
          <li key={i} class={i === selected ? 'selected' : undefined} onFocusIn={() => i !== selected && onSelect(i)} data-testid="region-row">
            <div class="region-head">
              <label>
                <span class="unseen">Id of region {i + 1}</span>
                <input class="inline short" value={region.id} maxLength={128} onInput={(event) => onChange(setId(template, i, event.currentTarget.value))} />
              </label>
              {i === 0 && (
                <span class="badge" title="Shows the first input, or the loudest if the view keeps it primary">
                  primary
                </span>
              )}
              {covered.length > 0 && <span class="badge warning">covers {covered.map((other) => template.region[other]?.id).join(', ')}</span>}
              {isOutside(region) && <span class="badge warning">beyond the picture</span>}
              <span class="buttons nowrap push">
                <Action icon="up" label={`Region ${region.id}: earlier`} disabled={i === 0} onClick={() => (onChange(reorder(template, i, i - 1)), onSelect(i - 1))} />
                <Action icon="copy" label={`Duplicate region ${region.id}`} onClick={() => onDuplicate(i)} />
                <Action icon="trash" label={`Remove region ${region.id}`} onClick={() => onRemove(i)} />
              </span>
            </div>
            <div class="sides">
              {SIDES.map(({ side, label }) => (
                <SideField key={side} label={label} region={region} side={side} onChange={(text) => onChange(setSide(template, i, side, text))} />
              ))}
            </div>
            {extra?.(i)}
          </li>
        );
      })}
    </ol>
  );
}

/** One side as a fraction. What is none stays in the field, and is told; the region keeps its last good one. */
function SideField({ label, region, side, onChange }: { label: string; region: Region; side: keyof Area; onChange: (text: string) => void }) {
  const text = useSignal(region.area[side]);
  const isGood = isSide(text.value, side);
  useEffect(() => {
    if (!isSide(text.value, side) || !sameNumber(text.value, region.area[side])) text.value = region.area[side];
  }, [region.area[side]]);
  return (
    <label class="side-field">
      <span>{label}</span>
      <input
        class="inline"
        inputMode="text"
        value={text}
        aria-invalid={isGood ? undefined : true}
        aria-label={`${label} of region ${region.id}`}
        title="A fraction of the picture, such as 1/3, 0 or 0.25"
        onInput={(event) => {
          text.value = event.currentTarget.value;
          if (isSide(text.value, side)) onChange(text.value);
        }}
        onBlur={() => (text.value = region.area[side])}
        data-testid={`side-${side}`}
      />
    </label>
  );
}

function isSide(text: string, side: keyof Area): boolean {
  const value = parseFraction(text);
  return value !== undefined && (value.n > 0 || side === 'left' || side === 'top');
}

function sameNumber(a: string, b: string): boolean {
  const [one, other] = [parseFraction(a), parseFraction(b)];
  return one !== undefined && other !== undefined && one.n === other.n && one.d === other.d;
}
