/** Red, green and blue, 0 to 255 each. */
export type Rgb = [number, number, number];

/** What one participant shows and sounds like. */
export interface Look {
  colour: Rgb;
  /** Of the tone, in Hz. No one's is near another's harmonic. */
  tone: number;
}

/** Far apart in hue for the eye of the tests, and in brightness for the edge filter. */
export const RED: Look = { colour: [220, 40, 40], tone: 440 };
export const GREEN: Look = { colour: [120, 230, 90], tone: 1250 };
export const BLUE: Look = { colour: [20, 20, 150], tone: 2900 };
export const BLACK: Rgb = [0, 0, 0];

/** What encoding at a low bitrate, subsampled colour and scaling may change in each component. */
const TOLERANCE = 48;

export function isNear(found: Rgb, wanted: Rgb, tolerance = TOLERANCE): boolean {
  return found.every((value, i) => Math.abs(value - (wanted[i] ?? 0)) <= tolerance);
}
