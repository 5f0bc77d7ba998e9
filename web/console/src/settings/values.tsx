import { useSignal } from '@preact/signals';
import { useId } from 'preact/hooks';
import type { Path } from '../model/draft.js';
import { Action } from '../ui/buttons.js';
import { Icon } from '../ui/icons.js';
import { useEditor } from './editor.js';

interface Props {
  path: Path;
  label: string;
  hint?: string;
  /** Reads what was typed; nothing if it is no such value. */
  read: (text: string) => string | number | undefined;
}

/** A list of short values, such as frame rates: chips that can be removed, and a place to type another. */
export function ValueList({ path, label, hint, read }: Props) {
  const editor = useEditor();
  const id = useId();
  const values = (editor.get(path) as (string | number)[] | undefined) ?? [];
  const text = useSignal('');
  const error = useSignal('');
  const add = () => {
    const value = read(text.value.trim());
    error.value = value === undefined ? 'That is no such value.' : values.includes(value) ? 'It is there already.' : '';
    if (value === undefined || error.value) return;
    editor.set(path, [...values, value]);
    text.value = '';
  };
  return (
    <div class="field" data-testid={path.join('.')}>
      <label for={id}>{label}</label>
      <ul class="chips">
        {values.map((value) => (
          <li class="badge removable" key={value}>
            {value}
            <button type="button" aria-label={`Remove ${value}`} onClick={() => editor.set(path, values.filter((other) => other !== value))}>
              <Icon name="close" />
            </button>
          </li>
        ))}
      </ul>
      <div class="add-row">
        <input
          id={id}
          value={text}
          aria-describedby={`${id}-hint`}
          aria-invalid={error.value ? true : undefined}
          onInput={(event) => (text.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter') return;
            event.preventDefault();
            add();
          }}
        />
        <Action icon="plus" onClick={add}>
          Add
        </Action>
      </div>
      <p class={error.value ? 'field-error' : 'hint'} id={`${id}-hint`}>
        {error.value || hint}
      </p>
    </div>
  );
}
