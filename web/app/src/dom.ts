import { ICONS, type IconName } from './icons.js';

type Child = Node | string | undefined | false;
type Attributes = Record<string, string | number | boolean | undefined | ((event: any) => void)>;

/**
 * Makes an element: `h('button', { class: 'primary', onclick: join }, 'Join')`. A function is a listener (`onclick`),
 * `true` an empty attribute; `false` and `undefined` leave an attribute out. Text never becomes markup.
 */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.replace(/^on/, ''), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== undefined && child !== false));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** A decorative icon: what it means is said by its button's label. */
export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** A round button with an icon and a label for those who don't see it. */
export function iconButton(name: IconName, label: string, testId: string, onclick: () => void): HTMLButtonElement {
  return h('button', { type: 'button', class: 'round', 'aria-label': label, title: label, 'data-testid': testId, onclick }, icon(name));
}

/** Shows another icon and label on an icon button; `pressed` for buttons that switch something on and off. */
export function setButton(button: HTMLButtonElement, name: IconName, label: string, pressed?: boolean): void {
  button.replaceChildren(icon(name));
  button.setAttribute('aria-label', label);
  button.title = label;
  if (pressed !== undefined) button.setAttribute('aria-pressed', String(pressed));
}

/** The letters that stand for someone without a picture. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return letters.map((word) => [...(word ?? '?')][0]?.toUpperCase()).join('');
}

/** A hue, 0 to 359, that stays the same for a name. */
export function hueOf(name: string): number {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 997;
  return (hash * 47) % 360;
}
