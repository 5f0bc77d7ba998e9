import { describe, expect, it } from 'vitest';
import { put } from '../src/model/draft.js';
import type { Room } from '../src/model/room.js';
import { newView } from '../src/model/room.js';
import { fieldOf, problemsOf } from '../src/model/validate.js';

const OPUS = { codec: 'opus', sampleRate: 48000, channelNum: 2 };
const EMPTY: Room = {
  _id: '1', name: 'room', inputLimit: -1, participantLimit: -1, selectActiveAudio: false, enableBandwidthAdaptation: false, views: [],
  roles: [{ role: 'presenter', publish: { audio: true, video: true }, subscribe: { audio: true, video: true } }],
  mediaIn: { audio: [], video: [] },
  mediaOut: { audio: [OPUS], video: { format: [{ codec: 'vp8' }], parameters: { resolution: [], framerate: [], bitrate: [], keyFrameInterval: [] } } },
  transcoding: { audio: true, video: false }, notifying: { participantActivities: true, streamChange: true },
};
const ROOM: Room = { ...EMPTY, views: [newView(EMPTY)] };

describe('settings', () => {
  it('as they come are right', () => {
    expect(problemsOf(ROOM)).toEqual({});
  });

  it('that are wrong are told at their fields', () => {
    const wrong = (path: (string | number)[], value: unknown) => Object.keys(problemsOf(put(ROOM, path, value)));
    expect(wrong(['name'], ' ')).toEqual(['name']);
    expect(wrong(['inputLimit'], Number.NaN)).toEqual(['inputLimit']);
    expect(wrong(['roles', 1], { ...ROOM.roles[0] })).toEqual(['roles.1.role']);
    expect(wrong(['views', 0, 'label'], 'a b')).toEqual(['views.0.label']);
    expect(wrong(['views', 1], ROOM.views[0])).toEqual(['views.1.label']);
    expect(wrong(['views', 0, 'video', 'maxInput'], 257)).toEqual(['views.0.video.maxInput']);
    expect(wrong(['views', 0, 'video', 'parameters', 'framerate'], 0)).toEqual(['views.0.video.parameters.framerate']);
    expect(wrong(['views', 0, 'video', 'format'], { codec: 'av1' })).toEqual(['views.0.video.format']);
    expect(wrong(['mediaOut', 'audio'], [])).toEqual(['views.0.audio.format']);
    expect(wrong(['views', 0, 'video', 'layout', 'templates', 'custom'], [{ region: [] }])).toEqual(['views.0.video.layout.templates.custom.0']);
  });

  it('of what is drawn over a view are told at their fields', () => {
    const wrong = (member: string, value: unknown) => Object.keys(problemsOf(put(ROOM, ['views', 0, 'video', 'decoration', ...member.split('.')], value)));
    const path = 'views.0.video.decoration';
    expect(wrong('animation', 2001)).toEqual([`${path}.animation`]);
    expect(wrong('animation', 300)).toEqual([]);
    expect(['../secret.png', '.hidden', 'a b.png', '*-*.png'].map((name) => wrong('avatarPicture', name))).toEqual(Array(4).fill([`${path}.avatarPicture`]));
    expect(['*.png', 'face-*.jpg', 'nobody.png'].map((name) => wrong('avatarPicture', name))).toEqual([[], [], []]);
    expect(wrong('logo', { picture: '*.png', corner: 'topLeft', height: 10 })).toEqual([`${path}.logo.picture`]);
    expect(wrong('logo', { picture: 'a.png', corner: 'topLeft', height: 51 })).toEqual([`${path}.logo.height`]);
    expect(wrong('logo', { picture: 'a.png', corner: 'topLeft', height: 50 })).toEqual([]);
  });

  it('need no picture', () => {
    expect(problemsOf(put(ROOM, ['views', 0, 'video'], false))).toEqual({});
  });
});

describe('what the server refuses', () => {
  it('belongs to the field that it names', () => {
    expect(fieldOf('ValidationError views.0.video.maxInput: 0 is not in 1..256')).toEqual({ path: 'views.0.video.maxInput', text: '0 is not in 1..256' });
    expect(fieldOf('ValidationError views[0].label: too long')).toEqual({ path: 'views.0.label', text: 'too long' });
  });

  it('belongs to the whole if it names none', () => {
    expect(fieldOf('MediaOut conflicts with View Setting')).toBeUndefined();
    expect(fieldOf('ValidationError invalid type: string "many", expected i64')).toBeUndefined();
  });
});
