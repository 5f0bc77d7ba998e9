import { type Fraction, formatFraction, parseFraction, valueOf } from './fraction.js';
import type { BaseTemplate, Region, Template, ViewVideo } from './room.js';

// Which layout a view chooses for how many inputs: the rules by which the server does it.

/** Squares given by left, top and size, in `parts` of the picture; ids `1`, `2`… */
function squares(parts: number, all: (readonly [number, number, number])[]): Template {
  const at = (n: number) => (n === 0 ? '0' : n === parts ? '1' : `${n}/${parts}`);
  return {
    region: all.map(([left, top, size], i) => ({
      id: String(i + 1),
      shape: 'rectangle',
      area: { left: at(left), top: at(top), width: at(size), height: at(size) },
    })),
  };
}

const range = (from: number, to: number) => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
const down = (n: number) => range(0, n).reverse();

/** Square grids up to the first that holds them all. */
function fluid(maxInput: number): Template[] {
  const grids: Template[] = [];
  for (let n = 1; ; n++) {
    grids.push(squares(n, range(0, n * n).map((i) => [i % n, Math.floor(i / n), 1] as const)));
    if (n * n >= maxInput) return grids;
  }
}

/** One large region with small ones to its right and below. */
function lecture(maxInput: number): Template[] {
  const all = [squares(1, [[0, 0, 1]]), corner(3)];
  if (maxInput > 6) all.push(...range(4, 8).filter((n) => n <= Math.ceil(maxInput / 2)).map(corner));
  if (maxInput > 14) all.push(...range(4, 8).filter((n) => n <= Math.ceil((maxInput + 3) / 4)).map(doubleCorner));
  return all;
}

/** 2n regions: the main one, a column right of it, a row below it. */
function corner(n: number): Template {
  const right = range(0, n).map((i) => [n - 1, i, 1] as const);
  const below = down(n - 1).map((i) => [i, n - 1, 1] as const);
  return squares(n, [[0, 0, n - 1], ...right, ...below]);
}

/** 4n-3 regions: the main one, two columns right of it, two rows below it. */
function doubleCorner(n: number): Template {
  return squares(n, [
    [0, 0, n - 2],
    ...range(0, n - 1).map((i) => [n - 2, i, 1] as const),
    ...down(n - 2).map((i) => [i, n - 2, 1] as const),
    ...range(0, n).map((i) => [n - 1, i, 1] as const),
    ...down(n - 1).map((i) => [i, n - 1, 1] as const),
  ]);
}

/** One layout that a view may choose. `custom` is its place among the view's own ones; without it, it is built in. */
export interface Choice {
  template: Template;
  custom: number | undefined;
}

/** Why the server would leave a template out; nothing if it wouldn't. */
export function flaw(template: Template): string | undefined {
  if (template.region.length === 0) return 'There is no region.';
  const ids = new Set<string>();
  for (const region of template.region) {
    if (region.id === '') return 'A region has no id.';
    if (ids.has(region.id)) return `The id “${region.id}” is used twice.`;
    ids.add(region.id);
    if (!rectangle(region)) return `Region “${region.id}” is no part of the picture.`;
  }
  return undefined;
}

/** The four sides, read. Nothing if the region is no part of a picture. */
export function rectangle({ area }: Region): Record<'left' | 'top' | 'width' | 'height', Fraction> | undefined {
  const [left, top, width, height] = [area.left, area.top, area.width, area.height].map((side) => parseFraction(String(side)));
  if (!left || !top || !width || !height || valueOf(width) <= 0 || valueOf(height) <= 0) return undefined;
  return { left, top, width, height };
}

/** All layouts that a view chooses from, by rising number of regions. A custom one replaces the built-in one of its size. */
export function choices(base: BaseTemplate, custom: Template[], maxInput: number): Choice[] {
  const bySize = new Map<number, Choice>();
  const builtIn = base === 'void' ? [] : base === 'lecture' ? lecture(maxInput) : fluid(maxInput);
  for (const template of builtIn) bySize.set(template.region.length, { template, custom: undefined });
  custom.forEach((template, i) => {
    if (!flaw(template)) bySize.set(template.region.length, { template, custom: i });
  });
  return [...bySize.entries()].sort(([a], [b]) => a - b).map(([, choice]) => choice);
}

/** The layout for so many inputs: the smallest that holds them; if none does, the one that was in force with fewer. */
export function chosen(all: Choice[], inputs: number): Choice | undefined {
  let current = all[0];
  for (let shown = 1; shown <= inputs; shown++) current = all.find(({ template }) => template.region.length >= shown) ?? current;
  return current;
}

/** The layout of a view with so many inputs. */
export function layoutFor(video: ViewVideo, inputs: number): Choice | undefined {
  const { base, custom } = video.layout.templates;
  return chosen(choices(base, custom, video.maxInput), Math.min(inputs, video.maxInput));
}

/** A copy with every side in its shortest form. */
export function tidied(template: Template): Template {
  const side = (text: string) => {
    const value = parseFraction(text);
    return value ? formatFraction(value) : text;
  };
  return {
    ...template,
    region: template.region.map((region) => {
      const { left, top, width, height } = region.area;
      return { ...region, area: { left: side(left), top: side(top), width: side(width), height: side(height) } };
    }),
  };
}
