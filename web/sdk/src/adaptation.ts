import { ConferenceError } from './errors.js';
import type { Resolution } from './wire.js';

/** How a picture is laid into its element: as CSS `object-fit` has it; all other values count as `contain`. */
export type Fit = 'contain' | 'cover';

/** An element that a video is shown in, in device pixels. */
export interface Viewport extends Resolution {
  fit: Fit;
}

/** Another resolution is asked for when the element has had its size for so long, in milliseconds: larger at once nearly, … */
export const ENLARGE_AFTER_MS = 300;
/** … smaller only when it has settled, because that is not seen, and going back is. */
export const REDUCE_AFTER_MS = 3_000;
/** Video is paused when it has not been seen for so long, in milliseconds; it is resumed at once. */
export const PAUSE_AFTER_MS = 1_000;
/** A smaller resolution must fill the element with this to spare, so that a few pixels do not flap between two. */
const SPARE = 1.1;
/** After a failure nothing is asked for so long, in milliseconds. */
const FAILED_MS = 10_000;

/** Whether a picture has at least the pixels that are shown of it. */
export function fills(picture: Resolution, viewport: Viewport, spare = 1): boolean {
  const wide = picture.width >= viewport.width * spare;
  const high = picture.height >= viewport.height * spare;
  return viewport.fit === 'cover' ? wide && high : wide || high;
}

/**
 * The smallest of the resolutions that fills the viewport, or the largest if none does. `current` is kept while it
 * fills the viewport and the smaller one would do so only just.
 */
export function choose(offered: readonly Resolution[], viewport: Viewport, current?: Resolution): Resolution | undefined {
  const area = ({ width, height }: Resolution) => width * height;
  const sorted = [...offered].sort((a, b) => area(a) - area(b));
  const smallest = (spare: number) => sorted.find((resolution) => fills(resolution, viewport, spare)) ?? sorted.at(-1);
  if (!current || !fills(current, viewport)) return smallest(1);
  const smaller = smallest(SPARE);
  return smaller && area(smaller) < area(current) ? smaller : current;
}

export interface AdaptationHandlers {
  /** What may be asked for: the source's own resolution and those that the server makes of it. */
  offered(): readonly Resolution[];
  /** Asks for a resolution. Rejects if the server doesn't grant it. */
  request(resolution: Resolution): Promise<void>;
  /** Nobody sees the video now, or somebody does again. */
  hide(hidden: boolean): void;
}

/** Decides when which resolution of a video is asked for, and when none, from where it is shown. */
export class Adaptation {
  readonly #handlers: AdaptationHandlers;
  readonly #viewports = new Map<unknown, { viewport: Viewport | undefined; visible: boolean }>();
  #current: Resolution | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #planned: Resolution | undefined;
  #pauseTimer: ReturnType<typeof setTimeout> | undefined;
  #hidden = false;
  #asking = false;
  #quietUntil = 0;
  /** What the server doesn't grant, whatever it offers. */
  #refused: Resolution[] = [];

  constructor(handlers: AdaptationHandlers) {
    this.#handlers = handlers;
  }

  /** A place where it is shown came or changed; with an undefined viewport its size doesn't matter. */
  show(place: unknown, viewport: Viewport | undefined, visible: boolean): void {
    this.#viewports.set(place, { viewport, visible });
    this.#follow();
  }

  /** It isn't shown there any more. */
  remove(place: unknown): void {
    this.#viewports.delete(place);
    this.#follow();
  }

  /** What is offered may have changed, and what is received: begins from `current`. */
  reset(current?: Resolution): void {
    this.#current = current;
    this.#quietUntil = 0;
    this.#refused = [];
    this.#cancel();
    this.#follow();
  }

  close(): void {
    this.#cancel();
    clearTimeout(this.#pauseTimer);
    this.#viewports.clear();
  }

  #follow(): void {
    this.#followVisibility();
    const wanted = this.#wanted();
    const current = this.#current;
    if (!wanted || this.#asking || (current && same(wanted, current))) return this.#cancel();
    // A plan stands while its reason does; what is planned anew waits anew.
    if (this.#planned && same(this.#planned, wanted)) return;
    this.#cancel();
    this.#planned = wanted;
    const larger = !current || wanted.width * wanted.height > current.width * current.height;
    const wait = Math.max(larger ? ENLARGE_AFTER_MS : REDUCE_AFTER_MS, this.#quietUntil - Date.now());
    this.#timer = setTimeout(() => void this.#ask(wanted), wait);
  }

  /** The most demanding of the places that are seen decides. */
  #wanted(): Resolution | undefined {
    const offered = this.#handlers.offered().filter((each) => !this.#refused.some((refused) => same(each, refused)));
    if (offered.length < 2) return undefined;
    const wishes = [...this.#viewports.values()]
      .filter(({ viewport, visible }) => visible && viewport && viewport.width > 0 && viewport.height > 0)
      .map(({ viewport }) => choose(offered, viewport!, this.#current))
      .filter((wish) => wish !== undefined);
    return wishes.sort((a, b) => b.width * b.height - a.width * a.height)[0];
  }

  async #ask(wanted: Resolution): Promise<void> {
    this.#planned = undefined;
    this.#asking = true;
    try {
      await this.#handlers.request(wanted);
      this.#current = wanted;
    } catch (error) {
      if (error instanceof ConferenceError && error.code === 'refused') this.#refused.push(wanted);
      else this.#quietUntil = Date.now() + FAILED_MS;
    } finally {
      this.#asking = false;
    }
    this.#follow();
  }

  #followVisibility(): void {
    const hidden = this.#viewports.size > 0 && [...this.#viewports.values()].every(({ visible }) => !visible);
    if (!hidden) {
      clearTimeout(this.#pauseTimer);
      this.#pauseTimer = undefined;
      this.#setHidden(false);
    } else if (!this.#hidden) {
      this.#pauseTimer ??= setTimeout(() => this.#setHidden(true), PAUSE_AFTER_MS);
    }
  }

  #setHidden(hidden: boolean): void {
    if (hidden === this.#hidden) return;
    this.#hidden = hidden;
    this.#handlers.hide(hidden);
  }

  #cancel(): void {
    clearTimeout(this.#timer);
    this.#planned = undefined;
  }
}

function same(a: Resolution, b: Resolution): boolean {
  return a.width === b.width && a.height === b.height;
}
