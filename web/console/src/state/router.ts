import { computed, signal } from '@preact/signals';

/** Where the page is: the part of its address after `#`. */
export const path = signal(read());

/** The parts of the path: `['rooms', '<id>', 'live']`. */
export const segments = computed(() => path.value.split('/').filter(Boolean).map(decodeURIComponent));

/** Asked before the page is left; `false` keeps it. */
let guard: (() => boolean) | undefined;

function read(): string {
  return location.hash.replace(/^#/, '') || '/rooms';
}

addEventListener('hashchange', () => {
  const wanted = read();
  if (wanted === path.value) return;
  if (guard && !guard()) {
    history.replaceState(null, '', `#${path.value}`);
    return;
  }
  path.value = wanted;
});

/** `link('rooms', id, 'live')` is `#/rooms/<id>/live`. */
export function link(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

export function go(to: string): void {
  location.hash = to;
}

/** Until it is called again, leaving asks first. */
export function guardLeaving(ask: (() => boolean) | undefined): void {
  guard = ask;
}
