import type { Rgb } from './colours';

/** A picture as a page showed it. */
export class Picture {
  constructor(
    readonly width: number,
    readonly height: number,
    private readonly rgba: Buffer,
  ) {}

  at(x: number, y: number): Rgb {
    const i = (Math.round(y) * this.width + Math.round(x)) * 4;
    return [this.rgba[i] ?? 0, this.rgba[i + 1] ?? 0, this.rgba[i + 2] ?? 0];
  }

  /** Brightness, 0 to 255. */
  luma(x: number, y: number): number {
    const [r, g, b] = this.at(x, y);
    return 0.299 * r + 0.587 * g + 0.114 * b;
  }

  /** Which part of the picture is darker than `limit`. */
  darkShare(limit: number): number {
    let dark = 0;
    for (let y = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++) if (this.luma(x, y) < limit) dark++;
    }
    return dark / (this.width * this.height);
  }

  /**
   * Which part of a vertical line at `x`, from `top` to `bottom`, has something brighter than `limit` within `reach` pixels;
   * all but `limit` and `reach` are fractions of the picture.
   */
  brightAlongVertical(x: number, top: number, bottom: number, limit: number, reach = 4): number {
    const centre = Math.round(x * this.width);
    let bright = 0;
    let rows = 0;
    for (let y = Math.ceil(top * this.height); y < bottom * this.height; y++, rows++) {
      for (let dx = -reach; dx <= reach; dx++) {
        const at = Math.min(this.width - 1, Math.max(0, centre + dx));
        if (this.luma(at, y) > limit) {
          bright++;
          break;
        }
      }
    }
    return bright / rows;
  }

  /** As {@link brightAlongVertical}, of a horizontal line. */
  brightAlongHorizontal(y: number, left: number, right: number, limit: number, reach = 4): number {
    const centre = Math.round(y * this.height);
    let bright = 0;
    let columns = 0;
    for (let x = Math.ceil(left * this.width); x < right * this.width; x++, columns++) {
      for (let dy = -reach; dy <= reach; dy++) {
        const at = Math.min(this.height - 1, Math.max(0, centre + dy));
        if (this.luma(x, at) > limit) {
          bright++;
          break;
        }
      }
    }
    return bright / columns;
  }
}
