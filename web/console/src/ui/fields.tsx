import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';

export interface FieldProps {
  label: string;
  hint?: string | undefined;
  error?: string | undefined;
  testId?: string | undefined;
  disabled?: boolean;
}

interface Described {
  id: string;
  'aria-describedby': string | undefined;
  'aria-invalid': true | undefined;
}

/** A label, what is entered, a hint, and what is wrong with it, tied together for screen readers. */
export function Field({ label, hint, error, children }: FieldProps & { children: (props: Described) => ComponentChildren }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ') || undefined;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, 'aria-describedby': described, 'aria-invalid': error ? true : undefined })}
      {error && (
        <p class="field-error" id={`${id}-error`} data-testid="field-error">
          {error}
        </p>
      )}
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

type Change<T> = { value: T; onChange: (value: T) => void };

export function TextField({ value, onChange, type = 'text', placeholder, ...field }: FieldProps & Change<string> & { type?: 'text' | 'password' | 'url'; placeholder?: string }) {
  return (
    <Field {...field}>
      {(props) => (
        <input
          {...props}
          // Types are not narrowed by the attribute's value: it is one of the kinds of text.
          type={type as 'text'}
          value={value}
          placeholder={placeholder}
          autocomplete={type === 'password' ? 'new-password' : 'off'}
          spellcheck={false}
          disabled={field.disabled}
          data-testid={field.testId}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

interface NumberProps extends FieldProps {
  /** What is no number is kept as NaN: it is told, not mended. */
  value: number | undefined;
  onChange: (value: number | undefined) => void;
  min?: number;
  max?: number;
  step?: number | 'any';
  unit?: string;
  placeholder?: string;
}

/** A number; empty is `undefined`. */
export function NumberField({ value, onChange, min, max, step = 1, unit, placeholder, ...field }: NumberProps) {
  return (
    <Field {...field}>
      {(props) => (
        <span class="with-unit">
          <input
            {...props}
            type="number"
            inputMode={step === 1 ? 'numeric' : 'decimal'}
            value={value === undefined || Number.isNaN(value) ? '' : value}
            min={min}
            max={max}
            step={step}
            placeholder={placeholder}
            disabled={field.disabled}
            data-testid={field.testId}
            onInput={(event) => onChange(event.currentTarget.value === '' ? undefined : event.currentTarget.valueAsNumber)}
          />
          {unit && <span class="unit">{unit}</span>}
        </span>
      )}
    </Field>
  );
}

export interface Option {
  value: string;
  label: string;
}

export function SelectField({ value, onChange, options, ...field }: FieldProps & Change<string> & { options: Option[] }) {
  return (
    <Field {...field}>
      {(props) => (
        <select {...props} value={value} disabled={field.disabled} data-testid={field.testId} onChange={(event) => onChange(event.currentTarget.value)}>
          {options.map((option) => (
            <option key={option.value} value={option.value}>
              {option.label}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** A switch: yes or no, at once. */
export function Toggle({ label, hint, value, onChange, testId, disabled, compact = false }: FieldProps & Change<boolean> & { compact?: boolean }) {
  const id = useId();
  return (
    <div class={compact ? 'toggle compact' : 'toggle'}>
      <input
        type="checkbox"
        role="switch"
        id={id}
        checked={value}
        disabled={disabled}
        aria-label={compact ? label : undefined}
        aria-describedby={hint ? `${id}-hint` : undefined}
        data-testid={testId}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      {!compact && (
        <label for={id}>
          {label}
          {hint && (
            <span class="hint" id={`${id}-hint`}>
              {hint}
            </span>
          )}
        </label>
      )}
    </div>
  );
}

/** One of a few, side by side. */
export function Segments({ label, value, onChange, options, testId }: { label: string; options: Option[]; testId?: string } & Change<string>) {
  const name = useId();
  return (
    <fieldset class="segments" data-testid={testId}>
      <legend class="unseen">{label}</legend>
      {options.map((option) => (
        <label key={option.value}>
          <input type="radio" name={name} value={option.value} checked={option.value === value} onChange={() => onChange(option.value)} />
          <span>{option.label}</span>
        </label>
      ))}
    </fieldset>
  );
}
