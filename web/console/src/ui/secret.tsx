import { useId } from 'preact/hooks';
import { CopyButton } from './buttons.js';

/** A text to be taken elsewhere: shown whole, with a button that copies it. */
export function Secret({ label, text, testId }: { label: string; text: string; testId?: string }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="secret">
        <input id={id} readOnly value={text} data-testid={testId} onFocus={(event) => event.currentTarget.select()} />
        <CopyButton text={text} label={`Copy: ${label.toLowerCase()}`} testId={testId && `${testId}-copy`} />
      </div>
    </div>
  );
}
