// The room document, as the management API has it. What is not named here is kept as it came.

import type { Decoration } from './decoration.js';

export interface KindFlags {
  audio: boolean;
  video: boolean;
}

export interface Role {
  role: string;
  publish: KindFlags;
  subscribe: KindFlags;
}

export interface AudioFormat {
  codec: string;
  sampleRate?: number;
  channelNum?: number;
}

export interface VideoFormat {
  codec: string;
  profile?: string;
}

export interface Resolution {
  width: number;
  height: number;
}

/** Fractions of the picture, as texts: `0`, `1`, `1/3`, `0.25`. */
export interface Area {
  left: string;
  top: string;
  width: string;
  height: string;
}

export interface Region {
  id: string;
  shape: 'rectangle';
  area: Area;
}

export interface Template {
  primary?: string;
  region: Region[];
}

export type BaseTemplate = 'fluid' | 'lecture' | 'void';
export type FitPolicy = 'letterbox' | 'crop';

export interface BgColor {
  r: number;
  g: number;
  b: number;
}

export interface ViewVideo {
  format: VideoFormat;
  parameters: { resolution: Resolution; framerate: number; bitrate?: number; keyFrameInterval: number };
  maxInput: number;
  motionFactor: number;
  bgColor: BgColor;
  keepActiveInputPrimary: boolean;
  layout: { fitPolicy: FitPolicy; templates: { base: BaseTemplate; custom: Template[] } };
  /** Left out where all of it is the default. */
  decoration?: Partial<Decoration>;
}

export interface View {
  label: string;
  audio: { format: AudioFormat; vad: boolean };
  /** `false`: a view that is only heard. */
  video: ViewVideo | false;
}

export interface VideoParameterLists {
  resolution: string[];
  framerate: number[];
  bitrate: string[];
  keyFrameInterval: number[];
}

export type VideoParameterFlags = Record<keyof VideoParameterLists, boolean>;

export interface Room {
  _id: string;
  id?: string;
  name: string;
  inputLimit: number;
  participantLimit: number;
  selectActiveAudio: boolean;
  enableBandwidthAdaptation: boolean;
  autoMix?: boolean;
  roles: Role[];
  views: View[];
  mediaIn: { audio: AudioFormat[]; video: VideoFormat[] };
  mediaOut: { audio: AudioFormat[]; video: { format: VideoFormat[]; parameters: VideoParameterLists } };
  transcoding: { audio: boolean; video: { format: boolean; parameters: VideoParameterFlags | false } | false };
  notifying: { participantActivities: boolean; streamChange: boolean };
  sip?: { sipServer?: string; username?: string; password?: string };
}

/** A view as the server makes one of `{}`, with the formats that this room offers. */
export function newView(room: Room): View {
  const labels = new Set(room.views.map((view) => view.label));
  let label = labels.size === 0 ? 'common' : 'view';
  for (let n = 2; labels.has(label); n++) label = `view-${n}`;
  return {
    label,
    audio: { format: room.mediaOut.audio[0] ?? { codec: 'opus', sampleRate: 48000, channelNum: 2 }, vad: true },
    video: newViewVideo(room),
  };
}

export function newViewVideo(room: Room): ViewVideo {
  return {
    format: room.mediaOut.video.format[0] ?? { codec: 'vp8' },
    parameters: { resolution: { width: 1280, height: 720 }, framerate: 24, keyFrameInterval: 100 },
    maxInput: 16,
    motionFactor: 0.8,
    bgColor: { r: 0, g: 0, b: 0 },
    keepActiveInputPrimary: false,
    layout: { fitPolicy: 'letterbox', templates: { base: 'fluid', custom: [] } },
  };
}

/** The words for a format: `opus · 48 kHz · stereo`, `h264 CB`. */
export function formatName(format: AudioFormat & VideoFormat): string {
  const rate = format.sampleRate ? ` · ${format.sampleRate / 1000} kHz` : '';
  const channels = format.channelNum ? ` · ${format.channelNum === 1 ? 'mono' : format.channelNum === 2 ? 'stereo' : `${format.channelNum} channels`}` : '';
  return `${format.codec}${format.profile ? ` ${format.profile}` : ''}${rate}${channels}`;
}

/** Whether two formats are the same to the server. */
export function sameFormat(a: AudioFormat & VideoFormat, b: AudioFormat & VideoFormat): boolean {
  return a.codec === b.codec && a.profile === b.profile && a.sampleRate === b.sampleRate && a.channelNum === b.channelNum;
}
