import { checkDecoration } from './decoration.js';
import { type Room, type ViewVideo, formatName, sameFormat } from './room.js';
import { flaw } from './templates.js';

/** What is wrong, by the path of the field with dots: `views.0.label`. */
export type Problems = Record<string, string>;

const isWhole = (value: unknown): value is number => typeof value === 'number' && Number.isInteger(value);

/** What the server would refuse, or take and not do. */
export function problemsOf(room: Room): Problems {
  const problems: Problems = {};
  const check = (path: string, isGood: boolean, text: string) => {
    if (!isGood) problems[path] ??= text;
  };
  check('name', typeof room.name === 'string' && room.name.trim() !== '', 'A room needs a name.');
  check('inputLimit', isWhole(room.inputLimit), 'A whole number; −1 for no limit.');
  check('participantLimit', isWhole(room.participantLimit), 'A whole number; −1 for no limit.');
  const roles = new Set<string>();
  room.roles.forEach(({ role }, i) => {
    check(`roles.${i}.role`, role.trim() !== '', 'A role needs a name.');
    check(`roles.${i}.role`, !roles.has(role), 'There is another role of this name.');
    roles.add(role);
  });
  const labels = new Set<string>();
  room.views.forEach((view, i) => {
    const path = `views.${i}`;
    check(`${path}.label`, /^[\w-]{1,64}$/.test(view.label), 'One to 64 letters, digits, “-” and “_”.');
    check(`${path}.label`, !labels.has(view.label), 'There is another view with this label.');
    labels.add(view.label);
    const offersAudio = room.mediaOut.audio.some((format) => sameFormat(format, view.audio.format));
    check(`${path}.audio.format`, offersAudio, `${formatName(view.audio.format)} is not among what the room sends (Media).`);
    if (!view.video) return;
    const video = view.video;
    const offersVideo = room.mediaOut.video.format.some((format) => sameFormat(format, video.format));
    check(`${path}.video.format`, offersVideo, `${formatName(video.format)} is not among what the room sends (Media).`);
    checkVideo(`${path}.video`, video, check);
  });
  return problems;
}

function checkVideo(path: string, video: ViewVideo, check: (path: string, isGood: boolean, text: string) => void): void {
  const within = (at: string, value: unknown, low: number, high: number) =>
    check(`${path}.${at}`, isWhole(value) && value >= low && value <= high, `A whole number from ${low} to ${high}.`);
  const { resolution, framerate, bitrate, keyFrameInterval } = video.parameters;
  within('parameters.resolution.width', resolution.width, 16, 7680);
  within('parameters.resolution.height', resolution.height, 16, 4320);
  within('parameters.framerate', framerate, 1, 120);
  within('parameters.keyFrameInterval', keyFrameInterval, 1, 3600);
  if (bitrate !== undefined) within('parameters.bitrate', bitrate, 1, 1_000_000);
  within('maxInput', video.maxInput, 1, 256);
  check(`${path}.motionFactor`, Number.isFinite(video.motionFactor) && video.motionFactor > 0, 'A number above 0.');
  checkDecoration(`${path}.decoration`, video, check);
  video.layout.templates.custom.forEach((template, i) => {
    const text = flaw(template);
    check(`${path}.layout.templates.custom.${i}`, text === undefined, text ?? '');
  });
}

/**
 * Which field an answer of the server speaks of: `ValidationError views.0.video.maxInput: 0 is not in 1..256`. Nothing if it speaks of
 * none that is known.
 */
export function fieldOf(message: string): { path: string; text: string } | undefined {
  const match = /^(?:Error )?(?:ValidationError )?([A-Za-z_]\w*(?:(?:\.\w+)|(?:\[\d+\]))*): (.+)$/s.exec(message);
  const [, where, text] = match ?? [];
  if (where === undefined || text === undefined || where.startsWith('invalid')) return undefined;
  return { path: where.replace(/\[(\d+)\]/g, '.$1'), text };
}
