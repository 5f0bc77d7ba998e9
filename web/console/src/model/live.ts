import type { Area, AudioFormat, KindFlags, Resolution, VideoFormat } from './room.js';

// What is going on in a room, as the management API tells it.

export interface Participant {
  id: string;
  user: unknown;
  role: string;
  permission: { publish: KindFlags; subscribe: KindFlags };
}

export interface LayoutEntry {
  stream?: string;
  region: { id: string; shape: 'rectangle'; area: Area };
}

export interface StreamMedia {
  status?: 'active' | 'inactive';
  source?: string;
  format?: AudioFormat & VideoFormat;
  parameters?: { resolution?: Resolution; framerate?: number; bitrate?: number; keyFrameInterval?: number };
}

export interface Stream {
  id: string;
  type: 'forward' | 'mixed';
  media: { audio?: StreamMedia; video?: StreamMedia };
  info: {
    owner?: string;
    type?: string;
    label?: string;
    inViews?: string[];
    attributes?: unknown;
    activeInput?: string;
    layout?: LayoutEntry[];
    filter?: string;
  };
}

/** What has passed by on one way, since its beginning. */
export interface Counters {
  bitrate: number;
  frameRate?: number;
  resolution?: Resolution;
  packets: number;
  bytes: number;
  packetsLost: number;
  fractionLost: number;
  jitter?: number;
  frames: number;
  keyFrames: number;
  retransmitted: number;
  nacks: number;
  plis: number;
  firs: number;
}

export interface TrackStats extends Counters {
  id: string;
  kind: 'audio' | 'video';
  mid?: string;
  rid?: string;
  flowing: boolean;
  takers: number;
}

export interface StreamStats {
  id: string;
  time: number;
  rtt?: number;
  subscriptions: number;
  tracks: TrackStats[];
}

export interface Decision {
  time: number;
  what: string;
  why: string;
}

export interface SubscriptionTrack {
  kind: 'audio' | 'video';
  from: string;
  format?: AudioFormat & VideoFormat;
  asked?: { resolution?: Resolution; framerate?: number; bitrate?: number | string; keyFrameInterval?: number };
  served?: 'forward' | 'mixed' | 'transcoded';
  layer?: { track?: string; rid?: string; resolution?: Resolution };
  limit?: 'none' | 'bandwidth' | 'asked' | 'paused' | 'source';
  sent?: Partial<Counters>;
  decisions?: Decision[];
}

export interface Subscription {
  id: string;
  participant: string;
  transport?: string;
  rtt?: number;
  estimatedBitrate?: number;
  tracks: SubscriptionTrack[];
}

/** Everything that is counted in a room, at one moment. */
export interface RoomStats {
  time: number;
  streams: StreamStats[];
  subscriptions: Subscription[];
}

/** Who is called what: users may be any JSON. */
export function userName(user: unknown): string {
  if (typeof user === 'string') return user;
  const name = (user as { name?: unknown } | null)?.name;
  return typeof name === 'string' ? name : JSON.stringify(user);
}
