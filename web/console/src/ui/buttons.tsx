import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { complain } from '../state/notices.js';
import { Icon, type IconName } from './icons.js';

interface ActionProps {
  /** What fails, if it does: “Muting”. */
  what?: string;
  onClick: () => unknown;
  class?: string;
  disabled?: boolean;
  icon?: IconName;
  /** For those who don't see the icon; with it, the button shows the icon alone. */
  label?: string;
  pressed?: boolean;
  testId?: string;
  children?: ComponentChildren;
}

/** A button that waits for what it began, and tells if that fails. */
export function Action({ what, onClick, class: kind = 'plain', disabled = false, icon, label, pressed, testId, children }: ActionProps) {
  const isBusy = useSignal(false);
  const press = async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    try {
      await onClick();
    } catch (failure) {
      complain(what ?? label ?? 'That', failure);
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <button
      type="button"
      class={children === undefined ? `${kind} icon-only` : kind}
      disabled={disabled}
      aria-busy={isBusy.value || undefined}
      aria-label={label}
      aria-pressed={pressed}
      title={children === undefined ? label : undefined}
      data-testid={testId}
      onClick={() => void press()}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** Copies a text, and says that it did. */
export function CopyButton({ text, label, testId }: { text: string; label: string; testId?: string }) {
  const isCopied = useSignal(false);
  const copy = async () => {
    await copyText(text);
    isCopied.value = true;
    setTimeout(() => (isCopied.value = false), 2000);
  };
  return (
    <Action what="Copying" class="plain" icon={isCopied.value ? 'check' : 'copy'} onClick={copy} testId={testId ?? 'copy'} label={`${label}${isCopied.value ? ': copied' : ''}`}>
      <span aria-hidden="true">{isCopied.value ? 'Copied' : 'Copy'}</span>
    </Action>
  );
}

/** By the clipboard, or, on pages that came by plain HTTP, by a selection. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'unseen';
  (document.querySelector('dialog[open]') ?? document.body).append(area);
  area.select();
  const isDone = document.execCommand('copy');
  area.remove();
  if (!isDone) throw new Error('the browser does not let this page copy');
}
