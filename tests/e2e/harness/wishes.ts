import { SMALL_VIEW } from './room';

/** A role that may do everything, and control what is others'. */
const ADMIN = { role: 'admin', publish: { audio: true, video: true }, subscribe: { audio: true, video: true } };
const flags = (audio: boolean, video: boolean): object => ({ audio, video });

/** Options of a room with a small view, and with all roles that tests use. */
export const ROOM_WITH_ADMIN = {
  views: [SMALL_VIEW],
  roles: [
    ADMIN,
    { role: 'presenter', publish: flags(true, true), subscribe: flags(true, true) },
    { role: 'viewer', publish: flags(false, false), subscribe: flags(true, true) },
    { role: 'video_only_viewer', publish: flags(false, false), subscribe: flags(false, true) },
  ],
};

/** What the mixed stream of the small view (640×480 at 15) offers besides, one of each kind. */
export const OFFERED: [string, object][] = [
  ['resolution', { resolution: { width: 320, height: 240 } }],
  ['framerate', { framerate: 6 }],
  ['bitrate', { bitrate: 'x0.4' }],
  ['keyFrameInterval', { keyFrameInterval: 30 }],
  ['all of them', { resolution: { width: 320, height: 240 }, framerate: 12, bitrate: 'x0.8', keyFrameInterval: 5 }],
  ['what it is anyhow', { resolution: { width: 640, height: 480 }, framerate: 15, keyFrameInterval: 100 }],
  ['a factor of one', { bitrate: 'x1.0' }],
  ['nothing', {}],
];

/** What it does not offer, and what is said to it. */
export const NOT_OFFERED: [string, object, string][] = [
  ['a larger resolution', { resolution: { width: 1280, height: 720 } }, 'Resolution is not acceptable'],
  ['a resolution of one pixel more', { resolution: { width: 641, height: 480 } }, 'Resolution is not acceptable'],
  ['a higher framerate', { framerate: 30 }, 'Framerate is not acceptable'],
  ['a framerate between', { framerate: 7 }, 'Framerate is not acceptable'],
  ['a bitrate between', { bitrate: 'x0.5' }, 'Bitrate is not acceptable'],
  ['a bitrate in numbers', { bitrate: 123 }, 'Bitrate is not acceptable'],
  ['a keyFrameInterval between', { keyFrameInterval: 7 }, 'KeyFrameInterval is not acceptable'],
];
