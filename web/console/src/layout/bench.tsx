import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useRef } from 'preact/hooks';
import { addRegion, duplicate, removeRegion } from '../model/editing.js';
import type { BgColor, Template } from '../model/room.js';
import { Action } from '../ui/buttons.js';
import { Canvas } from './canvas.js';
import { RegionList } from './region-list.js';

const GRIDS = [4, 6, 8, 9, 12, 16, 24, 48];
/** Steps back that are kept. */
const MOST_STEPS = 100;

interface Props {
  template: Template;
  onChange: (template: Template) => void;
  aspect: number;
  background: BgColor;
  caption?: (index: number) => string | undefined;
  extra?: (index: number) => ComponentChildren;
}

/** The place to work on one layout: the picture, its regions as numbers, and the tools. */
export function Bench({ template, onChange, aspect, background, caption, extra }: Props) {
  const selected = useSignal(0);
  const parts = useSignal(12);
  const past = useRef<Template[]>([]);
  const steps = useSignal(0);
  const index = Math.min(selected.value, Math.max(0, template.region.length - 1));
  const change = (next: Template) => {
    past.current = [...past.current, template].slice(-MOST_STEPS);
    steps.value = past.current.length;
    onChange(next);
  };
  const undo = () => {
    const last = past.current.pop();
    steps.value = past.current.length;
    if (last) onChange(last);
  };
  const add = () => {
    change(addRegion(template));
    selected.value = template.region.length;
  };
  return (
    <div class="bench" data-testid="bench">
      <div class="bench-picture">
        <div class="bench-tools">
          <Action icon="plus" onClick={add} testId="add-region">
            Add region
          </Action>
          <Action icon="refresh" onClick={undo} disabled={steps.value === 0} testId="undo">
            Undo
          </Action>
          <label class="grid-choice">
            Grid
            <select value={String(parts.value)} onChange={(event) => (parts.value = Number(event.currentTarget.value))} data-testid="grid">
              {GRIDS.map((value) => (
                <option key={value} value={String(value)}>
                  1/{value}
                </option>
              ))}
            </select>
          </label>
        </div>
        <Canvas
          template={template}
          selected={index}
          onSelect={(next) => (selected.value = next)}
          onChange={change}
          parts={parts.value}
          aspect={aspect}
          background={background}
          {...(caption && { caption })}
        />
        <p class="hint keys">
          <kbd>arrows</kbd> move, <kbd>Shift</kbd>+<kbd>arrows</kbd> size, <kbd>Page Down</kbd> next, <kbd>N</kbd> new, <kbd>D</kbd> duplicate, <kbd>Delete</kbd> remove. Draw on free space for a new region.
        </p>
      </div>
      <RegionList
        template={template}
        selected={index}
        onSelect={(next) => (selected.value = next)}
        onChange={change}
        onDuplicate={(i) => {
          change(duplicate(template, i, parts.value));
          selected.value = template.region.length;
        }}
        onRemove={(i) => change(removeRegion(template, i))}
        extra={extra}
      />
    </div>
  );
}
