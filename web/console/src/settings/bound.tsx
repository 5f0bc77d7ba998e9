import type { Path } from '../model/draft.js';
import { Field, NumberField, type Option, SelectField, TextField, Toggle } from '../ui/fields.js';
import { useEditor } from './editor.js';

// Fields that are tied to a place in the room's document. Their test ids are their paths.

interface Bound {
  path: Path;
  label: string;
  hint?: string;
}

export function BoundText({ path, type = 'text', ...rest }: Bound & { type?: 'text' | 'password' }) {
  const editor = useEditor();
  const key = path.join('.');
  return <TextField {...rest} type={type} value={String(editor.get(path) ?? '')} onChange={(value) => editor.set(path, value)} error={editor.problem(...path)} testId={key} />;
}

interface BoundNumberProps extends Bound {
  min?: number;
  max?: number;
  step?: number | 'any';
  unit?: string;
  /** Empty is allowed, and means what is written here. */
  placeholder?: string;
}

export function BoundNumber({ path, placeholder, ...rest }: BoundNumberProps) {
  const editor = useEditor();
  const value = editor.get(path);
  return (
    <NumberField
      {...rest}
      {...(placeholder !== undefined && { placeholder })}
      value={typeof value === 'number' ? value : undefined}
      onChange={(next) => editor.set(path, next ?? (placeholder === undefined ? Number.NaN : undefined))}
      error={editor.problem(...path)}
      testId={path.join('.')}
    />
  );
}

export function BoundToggle({ path, ...rest }: Bound) {
  const editor = useEditor();
  return <Toggle {...rest} value={editor.get(path) === true} onChange={(value) => editor.set(path, value)} testId={path.join('.')} />;
}

/** A choice among values that are not texts; they are told apart by their place in the list. */
export function BoundChoice<T>({ path, choices, same, name, ...rest }: Bound & { choices: T[]; same: (a: T, b: T) => boolean; name: (value: T) => string }) {
  const editor = useEditor();
  const current = editor.get(path) as T;
  // What is chosen is shown even if it is not among the choices; that is told beside it.
  const all = choices.some((choice) => same(choice, current)) ? choices : [...choices, current];
  const options: Option[] = all.map((choice, i) => ({ value: String(i), label: name(choice) }));
  return (
    <SelectField
      {...rest}
      options={options}
      value={String(all.findIndex((choice) => same(choice, current)))}
      onChange={(index) => editor.set(path, all[Number(index)])}
      error={editor.problem(...path)}
      testId={path.join('.')}
    />
  );
}

/** A colour, as red, green and blue. */
export function ColourField({ path, label }: Bound) {
  const editor = useEditor();
  const { r = 0, g = 0, b = 0 } = (editor.get(path) ?? {}) as { r?: number; g?: number; b?: number };
  const hex = `#${[r, g, b].map((part) => part.toString(16).padStart(2, '0')).join('')}`;
  return (
    <Field label={label} error={editor.problem(...path)}>
      {(props) => (
        <span class="colour">
          <input
            {...props}
            type="color"
            value={hex}
            data-testid={path.join('.')}
            onInput={(event) => {
              const value = Number.parseInt(event.currentTarget.value.slice(1), 16);
              editor.set(path, { r: value >> 16, g: (value >> 8) & 255, b: value & 255 });
            }}
          />
          <code>{hex}</code>
        </span>
      )}
    </Field>
  );
}
