import { describe, expect, it } from 'vitest';
import { valueOf } from '../src/model/fraction.js';
import type { BaseTemplate, Template } from '../src/model/room.js';
import { choices, chosen, flaw, layoutFor, rectangle } from '../src/model/templates.js';

const sizes = (base: BaseTemplate, most: number, custom: Template[] = []) => choices(base, custom, most).map(({ template }) => template.region.length);

const custom = (...areas: [string, string, string, string][]): Template => ({
  region: areas.map(([left, top, width, height], i) => ({ id: String(i + 1), shape: 'rectangle', area: { left, top, width, height } })),
});

describe('the layouts that a view chooses from', () => {
  // The numbers are those of the server's own tests.
  it('are as many as the server has', () => {
    expect(sizes('fluid', 1)).toEqual([1]);
    expect(sizes('fluid', 2)).toEqual([1, 4]);
    expect(sizes('fluid', 17)).toEqual([1, 4, 9, 16, 25]);
    expect(sizes('lecture', 6)).toEqual([1, 6]);
    expect(sizes('lecture', 14)).toEqual([1, 6, 8, 10, 12, 14]);
    expect(sizes('lecture', 16)).toEqual([1, 6, 8, 10, 12, 13, 14, 17]);
    expect(sizes('lecture', 25)).toEqual([1, 6, 8, 10, 12, 13, 14, 17, 21, 25]);
    expect(sizes('void', 16)).toEqual([]);
  });

  it('cover the picture once where they are built in', () => {
    for (const base of ['fluid', 'lecture'] as const) {
      for (const { template } of choices(base, [], 25)) {
        const sides = template.region.map((region) => rectangle(region)!);
        const area = sides.reduce((sum, { width, height }) => sum + valueOf(width) * valueOf(height), 0);
        expect(area).toBeCloseTo(1, 9);
        expect(sides.every(({ left, top, width, height }) => valueOf(left) + valueOf(width) < 1 + 1e-9 && valueOf(top) + valueOf(height) < 1 + 1e-9)).toBe(true);
      }
    }
  });

  it('begin at the top left and go the way that the server goes', () => {
    const of = (base: BaseTemplate, size: number) => choices(base, [], 25).find(({ template }) => template.region.length === size)!.template.region;
    expect(of('fluid', 4).map(({ area }) => [area.left, area.top])).toEqual([['0', '0'], ['1/2', '0'], ['0', '1/2'], ['1/2', '1/2']]);
    expect(of('lecture', 6).map(({ area }) => [area.left, area.top, area.width])).toEqual([
      ['0', '0', '2/3'], ['2/3', '0', '1/3'], ['2/3', '1/3', '1/3'], ['2/3', '2/3', '1/3'], ['1/3', '2/3', '1/3'], ['0', '2/3', '1/3'],
    ]);
    expect(of('lecture', 13)[12]!.area).toEqual({ left: '0', top: '3/4', width: '1/4', height: '1/4' });
  });

  it('count a custom one in the place of the built-in one of its size, and none that is no layout', () => {
    const halves = custom(['0', '0', '1/2', '1'], ['1/2', '0', '0.5', '1']);
    const whole = custom(['0', '0', '1', '1']);
    const all = choices('fluid', [halves, whole, custom(['0', '0', '3/2', '1'])], 4);
    expect(all.map(({ template, custom: own }) => [template.region.length, own])).toEqual([[1, 1], [2, 0], [4, undefined]]);
    expect(flaw(custom(['0', '0', '0', '1']))).toContain('no part');
    expect(flaw({ region: [...whole.region, ...whole.region] })).toContain('twice');
    expect(flaw({ region: [] })).toBeDefined();
  });
});

describe('the layout for so many inputs', () => {
  it('is the smallest that holds them; if none does, the largest', () => {
    const all = choices('lecture', [], 16);
    expect([1, 2, 6, 7, 16].map((inputs) => chosen(all, inputs)!.template.region.length)).toEqual([1, 6, 6, 8, 17]);
    const few = choices('void', [custom(['0', '0', '1', '1']), custom(['0', '0', '1/2', '1'], ['1/2', '0', '1/2', '1'])], 16);
    expect(chosen(few, 9)!.template.region.length).toBe(2);
    expect(chosen([], 3)).toBeUndefined();
  });

  it('has no more inputs than the view shows', () => {
    const video = { maxInput: 2, layout: { fitPolicy: 'crop', templates: { base: 'fluid', custom: [] } } };
    expect(layoutFor(video as never, 9)!.template.region.length).toBe(4);
  });
});
