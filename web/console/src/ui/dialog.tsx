import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import { explain } from '../api/error.js';
import { Icon } from './icons.js';

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
  testId?: string;
}

/** A modal dialog: the browser keeps the focus in it, Escape closes it, and the focus goes back where it was. */
export function Dialog({ title, onClose, children, wide = false, testId }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    ref.current?.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog
      ref={ref}
      class={wide ? 'dialog wide' : 'dialog'}
      aria-labelledby={heading}
      data-testid={testId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => event.target === ref.current && onClose()}
    >
      <div class="dialog-inner">
        <header>
          <h2 id={heading}>{title}</h2>
          <button type="button" class="plain icon-only" aria-label="Close" onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  /** What happens. */
  children: ComponentChildren;
  /** On the button. */
  action: string;
  /** Has to be typed first. */
  typed?: string;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
}

/** Asks before something that can't be undone. */
export function Confirm({ title, children, action, typed, onConfirm, onClose }: ConfirmProps) {
  const entered = useSignal('');
  const error = useSignal('');
  const isBusy = useSignal(false);
  const field = useId();
  const submit = async (event: Event) => {
    event.preventDefault();
    if (typed !== undefined && entered.value.trim() !== typed) {
      error.value = `Type “${typed}” to confirm.`;
      return;
    }
    isBusy.value = true;
    try {
      await onConfirm();
      onClose();
    } catch (failure) {
      error.value = explain(failure);
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <Dialog title={title} onClose={onClose} testId="confirm">
      <form onSubmit={(event) => void submit(event)} class="stack">
        <div class="soft">{children}</div>
        {typed !== undefined && (
          <div class="field">
            <label for={field}>
              Type <strong>{typed}</strong> to confirm
            </label>
            <input id={field} autocomplete="off" spellcheck={false} value={entered} onInput={(event) => (entered.value = event.currentTarget.value)} data-testid="confirm-text" />
          </div>
        )}
        <FormEnd error={error.value} onClose={onClose} action={action} isBusy={isBusy.value} tone="danger" testId="confirm-action" />
      </form>
    </Dialog>
  );
}

interface FormEndProps {
  /** What is wrong with the whole of it. */
  error?: string;
  errorTestId?: string;
  onClose: () => void;
  /** What the button that submits says. */
  action: string;
  isBusy?: boolean;
  tone?: 'danger';
  testId?: string;
}

/** What a form in a dialog ends with: what is wrong, and the buttons. */
export function FormEnd({ error, errorTestId, onClose, action, isBusy, tone, testId }: FormEndProps) {
  return (
    <>
      {error && (
        <p class="error" role="alert" data-testid={errorTestId}>
          {error}
        </p>
      )}
      <div class="buttons end">
        <button type="button" class="plain" onClick={onClose}>
          Cancel
        </button>
        <button type="submit" class={tone ? `primary ${tone}` : 'primary'} aria-busy={isBusy || undefined} data-testid={testId}>
          {action}
        </button>
      </div>
    </>
  );
}
