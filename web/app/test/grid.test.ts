import { describe, expect, it } from 'vitest';
import { bestGrid, GAP } from '../src/grid.js';

describe('the grid of tiles', () => {
  it.each([
    [1, 1280, 720, 1],
    [2, 1280, 400, 2],
    [2, 360, 640, 1],
    [4, 1280, 720, 2],
    [9, 1280, 720, 3],
    [16, 1920, 1080, 4],
  ])('of %i in %i by %i has %i columns', (count, width, height, columns) => {
    expect(bestGrid(count, width, height).columns).toBe(columns);
  });

  it('fits', () => {
    for (let count = 1; count <= 25; count++) {
      const { columns, tileWidth } = bestGrid(count, 1600, 900);
      const rows = Math.ceil(count / columns);
      expect(columns * tileWidth + (columns - 1) * GAP).toBeLessThanOrEqual(1600);
      expect((rows * tileWidth * 9) / 16 + (rows - 1) * GAP).toBeLessThanOrEqual(900);
    }
  });

  it('scrolls rather than shrink to nothing', () => {
    expect(bestGrid(30, 344, 500)).toEqual({ columns: 2, tileWidth: 168 });
  });

  it('survives a space that has no size yet', () => {
    expect(bestGrid(3, 0, 0)).toEqual({ columns: 1, tileWidth: 0 });
  });
});
