import { ONE, ZERO, add, clamp, compare, type Fraction, formatFraction, fraction, snap, subtract, valueOf } from './fraction.js';
import type { Area, Region, Template } from './room.js';
import { rectangle } from './templates.js';

// Changes of a layout. Each gives a new template and leaves the old one as it is.

/** Most regions of a layout. */
export const MAX_REGIONS = 256;

/** Which part of a region is dragged: all of it, or edges (`e` right, `s` bottom, and so on). */
export type Handle = 'move' | 'n' | 's' | 'e' | 'w' | 'ne' | 'nw' | 'se' | 'sw';

function withArea(template: Template, index: number, change: Partial<Record<keyof Area, Fraction>>): Template {
  const texts = Object.fromEntries(Object.entries(change).map(([side, value]) => [side, formatFraction(value)]));
  return withRegion(template, index, (region) => ({ ...region, area: { ...region.area, ...texts } }));
}

function withRegion(template: Template, index: number, change: (region: Region) => Region): Template {
  return { ...template, region: template.region.map((region, i) => (i === index ? change(region) : region)) };
}

/** Moves a region by steps of the grid; it stays in the picture. */
export function nudge(template: Template, index: number, dx: number, dy: number, parts: number): Template {
  const sides = template.region[index] && rectangle(template.region[index]);
  if (!sides) return template;
  return withArea(template, index, {
    ...(dx !== 0 && { left: clamp(add(sides.left, fraction(dx, parts)), ZERO, subtract(ONE, sides.width)) }),
    ...(dy !== 0 && { top: clamp(add(sides.top, fraction(dy, parts)), ZERO, subtract(ONE, sides.height)) }),
  });
}

/** Moves the right and bottom edges by steps of the grid; a region keeps one step of size at least. */
export function grow(template: Template, index: number, dx: number, dy: number, parts: number): Template {
  const sides = template.region[index] && rectangle(template.region[index]);
  if (!sides) return template;
  const side = (size: Fraction, start: Fraction, steps: number) => {
    const least = compare(size, fraction(1, parts)) < 0 ? size : fraction(1, parts);
    return clamp(add(size, fraction(steps, parts)), least, subtract(ONE, start));
  };
  return withArea(template, index, {
    ...(dx !== 0 && { width: side(sides.width, sides.left, dx) }),
    ...(dy !== 0 && { height: side(sides.height, sides.top, dy) }),
  });
}

/** Drags a region, or one of its edges or corners, by parts of the picture; what moves comes to rest on lines of the grid. */
export function drag(template: Template, index: number, handle: Handle, dx: number, dy: number, parts: number): Template {
  const sides = template.region[index] && rectangle(template.region[index]);
  if (!sides) return template;
  if (handle === 'move') {
    const to = (start: Fraction, size: Fraction, by: number) => clamp(snap(valueOf(start) + by, parts), ZERO, subtract(ONE, size));
    return withArea(template, index, { left: to(sides.left, sides.width, dx), top: to(sides.top, sides.height, dy) });
  }
  const change: Partial<Record<keyof Area, Fraction>> = {};
  const edges = (near: boolean, far: boolean, start: Fraction, size: Fraction, by: number): [Fraction, Fraction] => {
    const end = add(start, size);
    const step = fraction(1, parts);
    if (near) {
      const moved = clamp(snap(valueOf(start) + by, parts), ZERO, clamp(subtract(end, step), ZERO, ONE));
      return [moved, subtract(end, moved)];
    }
    if (far) return [start, subtract(clamp(snap(valueOf(end) + by, parts), clamp(add(start, step), ZERO, ONE), ONE), start)];
    return [start, size];
  };
  if (/[ew]/.test(handle)) [change.left, change.width] = edges(handle.includes('w'), handle.includes('e'), sides.left, sides.width, dx);
  if (/[ns]/.test(handle)) [change.top, change.height] = edges(handle.includes('n'), handle.includes('s'), sides.top, sides.height, dy);
  return withArea(template, index, change);
}

/** Sets one side by hand, exactly as it is written. */
export function setSide(template: Template, index: number, side: keyof Area, text: string): Template {
  return withRegion(template, index, (region) => ({ ...region, area: { ...region.area, [side]: text.trim() } }));
}

export function setId(template: Template, index: number, id: string): Template {
  return withRegion(template, index, (region) => ({ ...region, id }));
}

/** An id that no region has: the smallest number that is free. */
function freeId(template: Template): string {
  const taken = new Set(template.region.map((region) => region.id));
  let n = template.region.length + 1;
  while (taken.has(String(n))) n++;
  return String(n);
}

/** A third of the picture at its bottom right, or where a region is drawn. */
const FRESH: Area = { left: '2/3', top: '2/3', width: '1/3', height: '1/3' };

export function addRegion(template: Template, area: Area = FRESH): Template {
  if (template.region.length >= MAX_REGIONS) return template;
  return { ...template, region: [...template.region, { id: freeId(template), shape: 'rectangle', area: { ...area } }] };
}

/** A copy of a region, one step right and below it if there is place. */
export function duplicate(template: Template, index: number, parts: number): Template {
  const region = template.region[index];
  if (!region || template.region.length >= MAX_REGIONS) return template;
  const more = addRegion(template, region.area);
  return nudge(more, more.region.length - 1, 1, 1, parts);
}

export function removeRegion(template: Template, index: number): Template {
  return { ...template, region: template.region.filter((_, i) => i !== index) };
}

/** Moves a region in the order in which regions are filled and drawn; the first is the primary one. */
export function reorder(template: Template, from: number, to: number): Template {
  const region = [...template.region];
  const [moved] = region.splice(from, 1);
  if (!moved) return template;
  region.splice(Math.max(0, Math.min(to, region.length)), 0, moved);
  return { ...template, region };
}

/** The regions that one covers a part of, by their places. */
export function overlaps(template: Template, index: number): number[] {
  const own = template.region[index] && rectangle(template.region[index]);
  if (!own) return [];
  const meets = (a: Fraction, size: Fraction, b: Fraction, other: Fraction) => compare(a, add(b, other)) < 0 && compare(b, add(a, size)) < 0;
  return template.region.flatMap((region, i) => {
    const other = i === index ? undefined : rectangle(region);
    if (!other) return [];
    return meets(own.left, own.width, other.left, other.width) && meets(own.top, own.height, other.top, other.height) ? [i] : [];
  });
}

/** Whether a region reaches beyond the picture. */
export function isOutside(region: Region): boolean {
  const sides = rectangle(region);
  return !sides || compare(add(sides.left, sides.width), ONE) > 0 || compare(add(sides.top, sides.height), ONE) > 0;
}

/** The common part of two regions, in parts of the picture. */
export function intersection(a: Region, b: Region): { left: number; top: number; width: number; height: number } | undefined {
  const [one, other] = [rectangle(a), rectangle(b)];
  if (!one || !other) return undefined;
  const left = Math.max(valueOf(one.left), valueOf(other.left));
  const top = Math.max(valueOf(one.top), valueOf(other.top));
  const width = Math.min(valueOf(one.left) + valueOf(one.width), valueOf(other.left) + valueOf(other.width)) - left;
  const height = Math.min(valueOf(one.top) + valueOf(one.height), valueOf(other.top) + valueOf(other.height)) - top;
  return width > 0 && height > 0 ? { left, top, width, height } : undefined;
}
