import type { Subscription } from '../../sdk/src/kaigi.js';
import { h, hueOf, icon, initials } from './dom.js';

export type TileKind = 'self' | 'mix' | 'camera' | 'screen';
export type TileState = 'connecting' | 'live' | 'failed';

/** One picture on the stage, with the name of who or what it shows. */
export class Tile {
  readonly element: HTMLElement;
  readonly #video = h('video', { autoplay: true, playsinline: true });
  readonly #avatar: HTMLElement;
  readonly #muted = h('span', { class: 'tile-muted', role: 'img', 'aria-label': 'microphone off', hidden: true }, icon('microphoneOff'));
  readonly #message = h('p', { class: 'tile-message', hidden: true });
  readonly name: string;
  readonly #blocked: () => void;
  #hasPicture: boolean;
  #detach: (() => void) | undefined;

  /** `blocked` is called when the browser wants a gesture before it plays sound. */
  constructor(kind: TileKind, name: string, streamId: string | undefined, blocked: () => void) {
    this.name = name;
    this.#blocked = blocked;
    this.#avatar = h('span', { class: 'avatar', 'aria-hidden': 'true', style: `--hue: ${hueOf(name)}` }, initials(name));
    this.#video.setAttribute('aria-label', kind === 'mix' ? 'Everyone in one picture' : `Picture of ${name}`);
    this.#video.addEventListener('resize', () => this.#showPicture());
    this.element = h(
      'figure',
      { class: `tile ${kind}`, 'data-testid': 'tile', 'data-kind': kind, 'data-stream-id': streamId, 'data-state': 'connecting' },
      this.#avatar,
      this.#video,
      this.#message,
      h('figcaption', {}, this.#muted, h('span', { class: 'tile-name' }, kind === 'self' ? `${name} (you)` : name)),
    );
    if (kind === 'self') this.#video.muted = true;
    this.#hasPicture = kind === 'mix';
    this.#showPicture();
  }

  /** What is played; `undefined` shows nothing. */
  show(stream: MediaStream | undefined): void {
    if (this.#video.srcObject !== (stream ?? null)) this.#video.srcObject = stream ?? null;
    this.play();
    this.#showPicture();
  }

  /** Plays a subscription in no more pixels than are shown, and its video only while it can be seen. */
  receive(subscription: Subscription | undefined): void {
    this.#detach?.();
    this.#detach = subscription?.attach(this.#video);
    this.play();
    this.#showPicture();
  }

  /** Whether there is a picture to be seen, or a standing-in one has to do. */
  set picture(present: boolean) {
    this.#hasPicture = present;
    this.#showPicture();
  }

  set mirrored(mirrored: boolean) {
    this.#video.classList.toggle('mirrored', mirrored);
  }

  /** The mark of a microphone that is off. */
  set microphoneOff(off: boolean) {
    this.#muted.hidden = !off;
  }

  set speaking(speaking: boolean) {
    this.element.classList.toggle('speaking', speaking);
  }

  /** Whether what is played is not to be heard here. */
  set silent(silent: boolean) {
    this.#video.muted = silent;
  }

  set speaker(deviceId: string) {
    if ('setSinkId' in this.#video) this.#video.setSinkId(deviceId === 'default' ? '' : deviceId).catch(() => {});
  }

  get state(): TileState {
    return this.element.dataset.state as TileState;
  }

  setState(state: TileState, message = ''): void {
    this.element.dataset.state = state;
    this.#message.textContent = message;
    this.#message.hidden = message === '';
    this.#showPicture();
  }

  /** Starts to play, or goes on after the element was moved. */
  play(): void {
    if (!this.#video.srcObject) return;
    this.#video.play().catch((error: unknown) => {
      if ((error as Error).name === 'NotAllowedError') this.#blocked();
    });
  }

  close(): void {
    this.#detach?.();
    this.#video.srcObject = null;
    this.element.remove();
  }

  #showPicture(): void {
    const shown = this.#hasPicture && this.#video.srcObject !== null && this.state !== 'failed';
    this.#video.classList.toggle('unseen', !shown);
    this.#avatar.hidden = shown;
  }
}
