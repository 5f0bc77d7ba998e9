import type { Viewport } from './adaptation.js';
import type { Page } from './page.js';

/**
 * Watches where an element is: its size in device pixels, and whether it can be seen. Returns a function that stops it.
 * Browsers without an observer are taken to show everything.
 */
export function watchViewport(
  element: HTMLVideoElement,
  page: Page,
  changed: (viewport: Viewport, visible: boolean) => void,
): () => void {
  let intersects = true;
  const tell = () => {
    const ratio = globalThis.devicePixelRatio || 1;
    const fit = globalThis.getComputedStyle?.(element).objectFit === 'cover' ? 'cover' : 'contain';
    const viewport: Viewport = { width: element.clientWidth * ratio, height: element.clientHeight * ratio, fit };
    changed(viewport, intersects && page.visible);
  };
  const sizes = globalThis.ResizeObserver && new ResizeObserver(tell);
  const sights =
    globalThis.IntersectionObserver &&
    new IntersectionObserver((entries) => {
      intersects = entries.at(-1)?.isIntersecting ?? true;
      tell();
    });
  sizes?.observe(element);
  sights?.observe(element);
  const off = page.on('visibility', tell);
  tell();
  return () => {
    off();
    sizes?.disconnect();
    sights?.disconnect();
  };
}
