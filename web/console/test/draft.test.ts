import { describe, expect, it } from 'vitest';
import { at, changedMeanwhile, changes, mergePatch, put, removed, same } from '../src/model/draft.js';

const BASE = { _id: '1', name: 'a', views: [{ label: 'common', video: { maxInput: 16 } }], sip: { sipServer: 's' } as { sipServer: string } | undefined };

describe('an edited document', () => {
  it('is a copy: what it was stays', () => {
    const draft = put(BASE, ['views', 0, 'video', 'maxInput'], 4);
    expect(at(draft, ['views', 0, 'video', 'maxInput'])).toBe(4);
    expect(BASE.views[0]!.video.maxInput).toBe(16);
    expect(Array.isArray(draft.views)).toBe(true);
    expect(at(draft, ['views', 3, 'video'])).toBeUndefined();
  });

  it('is saved by its changed attributes alone', () => {
    expect(changes(BASE, put(BASE, ['name'], 'b'))).toEqual({ name: 'b' });
    expect(changes(BASE, put(BASE, ['views', 0, 'label'], 'x'))).toEqual({ views: [{ label: 'x', video: { maxInput: 16 } }] });
    expect(changes<object>(BASE, { ...BASE, _id: '2', id: '2', __v: 1 })).toEqual({});
    expect(changes(BASE, put(put(BASE, ['name'], 'b'), ['name'], 'a'))).toEqual({});
  });

  it('takes attributes away by a patch', () => {
    const draft = put(put(BASE, ['sip'], undefined), ['name'], 'b');
    expect(removed(BASE, draft)).toEqual(['sip']);
    expect(mergePatch(BASE, draft)).toEqual({ name: 'b', sip: null });
    expect(mergePatch({ a: { b: 1, c: 2 } }, { a: { b: 1 } })).toEqual({ a: { c: null } });
  });

  it('conflicts only where both changed', () => {
    expect(changedMeanwhile(BASE, { ...BASE, name: 'theirs' }, ['views'])).toEqual([]);
    expect(changedMeanwhile(BASE, { ...BASE, name: 'theirs' }, ['name', 'views'])).toEqual(['name']);
  });

  it('is the same in whatever order its members are', () => {
    expect(same({ a: 1, b: [1, { c: 2 }] }, { b: [1, { c: 2 }], a: 1 })).toBe(true);
    expect(same({ a: 1, b: undefined }, { a: 1 })).toBe(true);
    expect(same([1], { 0: 1 })).toBe(false);
    expect(same({ a: 1 }, { b: 1 })).toBe(false);
    expect(same(null, {})).toBe(false);
  });
});
