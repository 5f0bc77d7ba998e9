const ASPECT = 16 / 9;
/** Between tiles, in pixels; the style sheet's `--gap` of the tiles. */
export const GAP = 8;
/** Below this width, in pixels, tiles say nothing any more: the stage scrolls instead. */
const MIN_TILE_WIDTH = 150;

export interface Grid {
  columns: number;
  /** In pixels. */
  tileWidth: number;
}

/** How many columns make `count` tiles of 16:9 largest in a space, and how wide they are then. */
export function bestGrid(count: number, width: number, height: number): Grid {
  let best: Grid = { columns: 1, tileWidth: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns++) {
    const rows = Math.ceil(count / columns);
    const byWidth = (width - GAP * (columns - 1)) / columns;
    const byHeight = ((height - GAP * (rows - 1)) / rows) * ASPECT;
    const tileWidth = Math.floor(Math.min(byWidth, byHeight));
    if (tileWidth > best.tileWidth) best = { columns, tileWidth };
  }
  if (best.tileWidth >= MIN_TILE_WIDTH) return best;
  const columns = Math.max(1, Math.floor((width + GAP) / (MIN_TILE_WIDTH + GAP)));
  return { columns, tileWidth: Math.max(0, Math.floor((width - GAP * (columns - 1)) / columns)) };
}
