import { h } from '../../app/src/dom.js';

/** Entries that the log keeps. */
const MAX_ENTRIES = 500;

function part<E extends HTMLElement>(id: string, kind: new () => E): E {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`#${id} is missing`);
  return element;
}

export const view = {
  form: part('settings', HTMLFormElement),
  room: part('room', HTMLInputElement),
  name: part('name', HTMLInputElement),
  token: part('token', HTMLInputElement),
  tokenField: part('token-field', HTMLLabelElement),
  camera: part('camera', HTMLSelectElement),
  microphone: part('microphone', HTMLSelectElement),
  connect: part('connect', HTMLButtonElement),
  start: part('start', HTMLButtonElement),
  state: part('state', HTMLParagraphElement),
  tiles: part('tiles', HTMLElement),
  log: part('log', HTMLOListElement),
};

/** Adds a line to the log. */
export function log(text: string): void {
  const now = new Date();
  const entry = h('li', {}, h('time', { datetime: now.toISOString() }, now.toLocaleTimeString()), ` ${text}`);
  view.log.append(entry);
  while (view.log.children.length > MAX_ENTRIES) view.log.firstElementChild?.remove();
  const frame = view.log.parentElement;
  if (frame) frame.scrollTop = frame.scrollHeight;
}

export function showState(text: string, problem = false): void {
  view.state.textContent = text;
  view.state.classList.toggle('problem', problem);
}

/** Somebody's picture with name and state. */
export class Tile {
  readonly #video = h('video', { autoplay: true, playsinline: true });
  readonly #state = h('span', { class: 'state' });
  readonly #figure: HTMLElement;

  constructor(name: string, own: boolean) {
    this.#video.muted = own;
    const caption = h('figcaption', {}, h('span', {}, name), this.#state);
    this.#figure = h('figure', { class: own ? 'own' : '', 'data-testid': own ? 'own' : `tile-${name}` }, this.#video, caption);
    view.tiles.append(this.#figure);
  }

  show(stream: MediaStream | null): void {
    if (this.#video.srcObject !== stream) this.#video.srcObject = stream;
    // Pages that nobody has touched may not make a sound; then the picture plays alone.
    this.#video.play().catch(() => {
      this.#video.muted = true;
      void this.#video.play().catch(() => undefined);
    });
  }

  state(text: string): void {
    this.#state.textContent = text;
  }

  remove(): void {
    this.#video.srcObject = null;
    this.#figure.remove();
  }
}
