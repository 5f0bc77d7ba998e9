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
  source: part('source', HTMLSelectElement),
  sound: part('sound', HTMLSelectElement),
  transform: part('transform', HTMLSelectElement),
  start: part('start', HTMLButtonElement),
  state: part('state', HTMLParagraphElement),
  own: part('own', HTMLVideoElement),
  back: part('back', HTMLVideoElement),
  message: part('message', HTMLFormElement),
  text: part('text', HTMLInputElement),
  post: part('post', HTMLButtonElement),
  log: part('log', HTMLOListElement),
};

/** Adds a line to the log. */
export function log(text: string): void {
  const now = new Date();
  view.log.append(h('li', {}, h('time', { datetime: now.toISOString() }, now.toLocaleTimeString()), ` ${text}`));
  while (view.log.children.length > MAX_ENTRIES) view.log.firstElementChild?.remove();
  const frame = view.log.parentElement;
  if (frame) frame.scrollTop = frame.scrollHeight;
}

export function showState(text: string, problem = false): void {
  view.state.textContent = text;
  view.state.classList.toggle('problem', problem);
}

export function show(video: HTMLVideoElement, stream: MediaStream | null): void {
  if (video.srcObject !== stream) video.srcObject = stream;
  if (!stream) return;
  // Pages that nobody has touched may not make a sound; then the picture plays alone.
  video.play().catch(() => {
    video.muted = true;
    void video.play().catch(() => undefined);
  });
}
