import type { BgColor, ViewVideo } from './room.js';

export type Corner = 'topLeft' | 'topRight' | 'bottomLeft' | 'bottomRight';

export const CORNERS: { value: Corner; label: string }[] = [
  { value: 'topLeft', label: 'Top left' },
  { value: 'topRight', label: 'Top right' },
  { value: 'bottomLeft', label: 'Bottom left' },
  { value: 'bottomRight', label: 'Bottom right' },
];

/** What is drawn over the inputs of a view, and in place of those without a picture. */
export interface Decoration {
  avatars: boolean;
  /** `*` stands for the participant's name. */
  avatarPicture?: string;
  captions: boolean;
  activeBorder: BgColor | false;
  clock: boolean;
  logo?: { picture: string; corner: Corner; height: number };
  /** Milliseconds. */
  animation: number;
}

const DEFAULTS: Decoration = { avatars: true, captions: false, activeBorder: false, clock: false, animation: 0 };

/** The server leaves it out of documents where all of it is the default. */
export function decorationOf(video: ViewVideo): Decoration {
  return { ...DEFAULTS, ...video.decoration };
}

type Check = (path: string, isGood: boolean, text: string) => void;

/** What the server would refuse. */
export function checkDecoration(path: string, video: ViewVideo, check: Check): void {
  const { avatarPicture, logo, animation } = decorationOf(video);
  const isWhole = (value: number, low: number, high: number) => Number.isInteger(value) && value >= low && value <= high;
  const isName = (name: string) => /^[\w-][\w.-]{0,63}$/.test(name);
  const faceless = avatarPicture?.replace('*', 'x');
  check(`${path}.avatarPicture`, faceless === undefined || isName(faceless), 'A file name: up to 64 letters, digits, “.”, “-” and “_”, and one “*”.');
  check(`${path}.animation`, isWhole(animation, 0, 2000), 'A whole number from 0 to 2000.');
  if (!logo) return;
  check(`${path}.logo.picture`, isName(logo.picture), 'A file name: up to 64 letters, digits, “.”, “-” and “_”.');
  check(`${path}.logo.height`, isWhole(logo.height, 1, 50), 'A whole number from 1 to 50.');
}
