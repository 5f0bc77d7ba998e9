import { effect, signal } from '@preact/signals';

export type Theme = 'auto' | 'light' | 'dark';

const KEY = 'kaigi-theme';

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'auto';
  } catch {
    return 'auto';
  }
}

/** What the user wants; `auto` is what the system has. */
export const theme = signal<Theme>(stored());

effect(() => {
  const value = theme.value;
  if (value === 'auto') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.dataset.theme = value;
  try {
    if (value === 'auto') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, value);
  } catch {
    // It lasts as long as the page, then.
  }
});
