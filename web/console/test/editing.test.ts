import { describe, expect, it } from 'vitest';
import { addRegion, drag, duplicate, grow, intersection, isOutside, MAX_REGIONS, nudge, overlaps, removeRegion, reorder, setSide } from '../src/model/editing.js';
import type { Template } from '../src/model/room.js';

const start: Template = {
  region: [
    { id: '1', shape: 'rectangle', area: { left: '0', top: '0', width: '1/3', height: '1/2' } },
    { id: '2', shape: 'rectangle', area: { left: '1/3', top: '0', width: '2/3', height: '1' } },
  ],
};
const area = (template: Template, index: number) => {
  const { left, top, width, height } = template.region[index]!.area;
  return [left, top, width, height];
};

describe('with the keyboard', () => {
  it('regions move by steps of the grid, and not out of the picture', () => {
    expect(area(nudge(start, 0, 1, 0, 12), 0)).toEqual(['1/12', '0', '1/3', '1/2']);
    expect(area(nudge(start, 0, -1, 0, 12), 0)).toEqual(['0', '0', '1/3', '1/2']);
    let moved = start;
    for (let i = 0; i < 20; i++) moved = nudge(moved, 0, 1, 1, 12);
    expect(area(moved, 0)).toEqual(['2/3', '1/2', '1/3', '1/2']);
  });

  it('regions grow to the edge and shrink to one step', () => {
    expect(area(grow(start, 0, 1, 0, 12), 0)).toEqual(['0', '0', '5/12', '1/2']);
    expect(area(grow(start, 0, 100, 0, 12), 0)).toEqual(['0', '0', '1', '1/2']);
    expect(area(grow(start, 0, -100, 0, 12), 0)).toEqual(['0', '0', '1/12', '1/2']);
  });

  it('what is not touched stays as it was written', () => {
    const written = setSide(start, 0, 'height', '0.5');
    expect(area(nudge(written, 0, 1, 0, 12), 0)).toEqual(['1/12', '0', '1/3', '0.5']);
  });
});

describe('with a pointer', () => {
  it('a region comes to rest on the grid', () => {
    expect(area(drag(start, 0, 'move', 0.17, 0.26, 12), 0)).toEqual(['1/6', '1/4', '1/3', '1/2']);
    expect(area(drag(start, 0, 'move', 9, -9, 12), 0)).toEqual(['2/3', '0', '1/3', '1/2']);
  });

  it('an edge moves and the opposite one stays', () => {
    expect(area(drag(start, 1, 'w', 0.16, 0, 12), 1)).toEqual(['1/2', '0', '1/2', '1']);
    expect(area(drag(start, 0, 'se', 0.17, 0.25, 12), 0)).toEqual(['0', '0', '1/2', '3/4']);
    expect(area(drag(start, 1, 'n', 0, 0.5, 12), 1)).toEqual(['1/3', '1/2', '2/3', '1/2']);
  });

  it('no region vanishes', () => {
    expect(area(drag(start, 1, 'w', 5, 0, 12), 1)).toEqual(['11/12', '0', '1/12', '1']);
    expect(area(drag(start, 0, 'e', -5, 0, 12), 0)).toEqual(['0', '0', '1/12', '1/2']);
  });
});

describe('regions', () => {
  it('get ids that nobody has', () => {
    const renamed = { region: [{ ...start.region[0]!, id: '3' }, start.region[1]!] };
    expect(addRegion(renamed).region.map(({ id }) => id)).toEqual(['3', '2', '4']);
  });

  it('are copied one step beside, removed, and put in another order', () => {
    const copied = duplicate(start, 0, 12);
    expect(area(copied, 2)).toEqual(['1/12', '1/12', '1/3', '1/2']);
    expect(removeRegion(copied, 0).region.map(({ id }) => id)).toEqual(['2', '3']);
    expect(reorder(copied, 2, 0).region.map(({ id }) => id)).toEqual(['3', '1', '2']);
  });

  it('are not more than the server takes', () => {
    let many = start;
    for (let i = 0; i < 300; i++) many = addRegion(many);
    expect(many.region).toHaveLength(MAX_REGIONS);
  });

  it('tell where they cover each other, touching edges do not count', () => {
    expect(overlaps(start, 0)).toEqual([]);
    const over = nudge(start, 0, 1, 0, 12);
    expect(overlaps(over, 0)).toEqual([1]);
    const common = intersection(over.region[0]!, over.region[1]!)!;
    expect([common.left, common.top, common.width, common.height].map((v) => Math.round(v * 1000) / 1000)).toEqual([0.333, 0, 0.083, 0.5]);
    expect(intersection(start.region[0]!, start.region[1]!)).toBeUndefined();
  });

  it('tell if they reach beyond the picture', () => {
    expect(isOutside(start.region[1]!)).toBe(false);
    expect(isOutside(setSide(start, 1, 'left', '1/2').region[1]!)).toBe(true);
  });
});
