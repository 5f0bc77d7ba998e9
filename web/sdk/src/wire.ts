// What crosses the wire in protocol 1.2, read into types at the door: a malformed member becomes absent, a malformed
// message `undefined`.

/** A kind of media. */
export type MediaKind = 'audio' | 'video';
/** What a mute or unmute applies to; `av` is both. */
export type TrackKind = MediaKind | 'av';

/** @internal The kinds that a mute applies to. */
export function kindsOf(kind: TrackKind): MediaKind[] {
  return kind === 'av' ? ['audio', 'video'] : [kind];
}

/** A picture's size in pixels. */
export interface Resolution {
  /** Pixels. */
  width: number;
  /** Pixels. */
  height: number;
}

/** How a track is coded. */
export interface TrackFormat {
  /** In lower case, such as `opus` or `vp8`. */
  codec: string;
  /** Of H.264: `CB`, `B`, `M` or `H`. */
  profile?: string;
  /** Hertz. */
  sampleRate?: number;
  /** How many audio channels. */
  channelNum?: number;
}

/** A video track's measures. */
export interface VideoParameters {
  /** The picture's size. */
  resolution?: Resolution;
  /** Frames per second. */
  framerate?: number;
  /** Kilobits per second. */
  bitrate?: number;
  /** Seconds between key frames. */
  keyFrameInterval?: number;
}

/** What a subscriber may ask for besides a track's own measures. */
export interface VideoParameterChoices {
  /** Sizes. */
  resolution: Resolution[];
  /** Frames per second. */
  framerate: number[];
  /** Multipliers of the track's own rate, such as `x0.6`. */
  bitrate: string[];
  /** Seconds between key frames. */
  keyFrameInterval: number[];
}

/** A track of a stream in the conference. */
export interface TrackInfo {
  /** Names the track in `subscribe`; tracks of mixed streams have none. */
  id?: string;
  /** Audio or video. */
  kind: MediaKind;
  /** For example `mic`, `camera` or `screen-cast`. */
  source?: string;
  /** The simulcast layer's name. */
  rid?: string;
  /** False while its publisher has it muted. */
  active: boolean;
  /** How it is coded, as far as it is known. */
  format?: TrackFormat;
  /** A video's measures, as far as they are known. */
  parameters?: VideoParameters;
  /** Formats the server can turn the track into. */
  formatChoices: TrackFormat[];
  /** Measures the server can give a video. */
  parameterChoices: VideoParameterChoices;
}

/** A part of a mixed picture. */
export interface Region {
  /** Names it in its layout. */
  id: string;
  /** `rectangle`. */
  shape: string;
  /** Where it is, in fractions of the picture, such as `1/2`. */
  area: Record<'left' | 'top' | 'width' | 'height', string>;
}

/** Where in a mixed picture a stream is shown. */
export interface LayoutEntry {
  /** The stream in this region; absent if the region is empty. */
  stream?: string;
  /** Absent if the server's description can't be understood. */
  region?: Region;
}

export interface StreamFields {
  id: string;
  type: 'forward' | 'mixed';
  tracks: TrackInfo[];
  data: boolean;
  owner?: string;
  attributes: Record<string, unknown>;
  label?: string;
  layout: LayoutEntry[];
  activeInput?: string;
  /** Whoever speaks is in it. */
  selecting: boolean;
  volume?: Volume;
}

/** Of those who speak, the one who leads the conversation (`major`), or another one. */
export type Volume = 'major' | 'minor';

export interface ParticipantFields {
  id: string;
  user: string;
  role: string;
}

/** The kinds of media that a participant may publish or subscribe. */
export interface KindPermission {
  /** Whether audio is allowed. */
  audio: boolean;
  /** Whether video is allowed. */
  video: boolean;
}

/** What a participant's role allows. */
export interface Permission {
  /** What it may publish. */
  publish: KindPermission;
  /** What it may subscribe. */
  subscribe: KindPermission;
}

export interface LoginFields {
  id: string;
  user: string;
  role: string;
  permission: Permission;
  roomId: string;
  views: string[];
  participants: ParticipantFields[];
  streams: StreamFields[];
  /** STUN and TURN servers that the server names, with credentials. */
  iceServers: RTCIceServer[];
}

export type StreamUpdate =
  | { field: 'status'; kind: MediaKind; active: boolean }
  | { field: 'layout'; layout: LayoutEntry[] }
  | { field: 'activeInput'; stream: string; volume?: Volume }
  | { field: 'stream'; stream: StreamFields };

export type StreamMessage =
  | { status: 'add'; stream: StreamFields }
  | { status: 'update'; id: string; update: StreamUpdate }
  | { status: 'remove'; id: string };

export type ParticipantMessage = { action: 'join'; participant: ParticipantFields } | { action: 'leave'; id: string };

export interface TextFields {
  from: string;
  to: string;
  message: string;
}

export type Progress =
  | { transport: string; status: 'answer'; sdp: string }
  | { transport: string; status: 'candidate'; candidate: RTCIceCandidateInit }
  | { transport: string; status: 'ready'; session?: string }
  | { transport: string; status: 'error'; session?: string; reason: string }
  /** Its node is to end: what is on it is to be made anew elsewhere. */
  | { transport: string; status: 'moving' };

export interface SessionAck {
  id: string;
  transportId: string;
}

type Fields = Record<string, unknown>;

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

function present<T>(value: T | undefined): value is T {
  return value !== undefined;
}

/** A user is any JSON value that its token was made with; people see text. */
function userName(value: unknown): string {
  if (value === undefined || value === null) return '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function readResolution(value: unknown): Resolution | undefined {
  const width = number(fields(value).width);
  const height = number(fields(value).height);
  return width !== undefined && height !== undefined ? { width, height } : undefined;
}

function readFormat(value: unknown): TrackFormat | undefined {
  const { codec, profile, sampleRate, channelNum } = fields(value);
  const name = text(codec);
  if (name === undefined) return undefined;
  return { codec: name, profile: text(profile), sampleRate: number(sampleRate), channelNum: number(channelNum) };
}

function readParameters(value: unknown): VideoParameters | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { resolution, framerate, bitrate, keyFrameInterval } = fields(value);
  return {
    resolution: readResolution(resolution),
    framerate: number(framerate),
    bitrate: number(bitrate),
    keyFrameInterval: number(keyFrameInterval),
  };
}

function readTrack(value: unknown): TrackInfo | undefined {
  const track = fields(value);
  if (track.type !== 'audio' && track.type !== 'video') return undefined;
  const optional = fields(track.optional);
  const choices = fields(optional.parameters);
  return {
    id: text(track.id),
    kind: track.type,
    source: text(track.source),
    rid: text(track.rid),
    active: track.status !== 'inactive',
    format: readFormat(track.format),
    parameters: readParameters(track.parameters),
    formatChoices: list(optional.format).map(readFormat).filter(present),
    parameterChoices: {
      resolution: list(choices.resolution).map(readResolution).filter(present),
      framerate: list(choices.framerate).map(number).filter(present),
      bitrate: list(choices.bitrate).map(text).filter(present),
      keyFrameInterval: list(choices.keyFrameInterval).map(number).filter(present),
    },
  };
}

function readRegion(value: unknown): Region | undefined {
  const { id, shape, area } = fields(value);
  const { left, top, width, height } = fields(area);
  const sides = [left, top, width, height].map(text);
  if (!sides.every(present)) return undefined;
  const [l = '', t = '', w = '', h = ''] = sides;
  return { id: text(id) ?? '', shape: text(shape) ?? 'rectangle', area: { left: l, top: t, width: w, height: h } };
}

function readLayout(value: unknown): LayoutEntry[] {
  return list(value).map((entry) => ({ stream: text(fields(entry).stream), region: readRegion(fields(entry).region) }));
}

export function readStream(value: unknown): StreamFields | undefined {
  const { id, type, media, data, info } = fields(value);
  const streamId = text(id);
  if (streamId === undefined || (type !== 'forward' && type !== 'mixed')) return undefined;
  const { type: infoType, owner, attributes, label, layout, activeInput } = fields(info);
  return {
    id: streamId,
    type,
    tracks: list(fields(media).tracks).map(readTrack).filter(present),
    data: data === true,
    owner: text(owner),
    attributes: fields(attributes),
    label: text(label),
    layout: readLayout(layout),
    activeInput: text(activeInput),
    selecting: infoType === 'selecting',
  };
}

function readVolume(value: unknown): Volume | undefined {
  return value === 'major' || value === 'minor' ? value : undefined;
}

function readParticipant(value: unknown): ParticipantFields | undefined {
  const { id, user, role } = fields(value);
  const participantId = text(id);
  if (participantId === undefined) return undefined;
  return { id: participantId, user: userName(user), role: text(role) ?? '' };
}

function readKinds(value: unknown): KindPermission {
  const { audio, video } = fields(value);
  return { audio: audio === true, video: video === true };
}

export function readLogin(value: unknown): LoginFields | undefined {
  const login = fields(value);
  const self = readParticipant(login);
  const room = fields(login.room);
  const permission = fields(login.permission);
  if (self === undefined) return undefined;
  return {
    ...self,
    permission: { publish: readKinds(permission.publish), subscribe: readKinds(permission.subscribe) },
    roomId: text(room.id) ?? '',
    views: list(room.views).map(text).filter(present),
    participants: list(room.participants).map(readParticipant).filter(present),
    streams: list(room.streams).map(readStream).filter(present),
    iceServers: list(login.iceServers).map(readIceServer).filter(present),
  };
}

function readIceServer(value: unknown): RTCIceServer | undefined {
  const { urls, username, credential } = fields(value);
  if (typeof urls !== 'string') return undefined;
  return { urls, ...(text(username) !== undefined && { username: text(username), credential: text(credential) }) };
}

function readUpdate(value: unknown): StreamUpdate | undefined {
  const { field, value: content } = fields(value);
  switch (field) {
    case 'audio.status':
    case 'video.status':
      return { field: 'status', kind: field === 'audio.status' ? 'audio' : 'video', active: content !== 'inactive' };
    case 'video.layout':
      return { field: 'layout', layout: readLayout(content) };
    case 'activeInput': {
      const stream = text(content) ?? text(fields(content).id);
      return stream === undefined ? undefined : { field, stream, volume: readVolume(fields(content).volume) };
    }
    case '.': {
      const stream = readStream(content);
      return stream && { field: 'stream', stream };
    }
    default:
      return undefined;
  }
}

export function readStreamMessage(value: unknown): StreamMessage | undefined {
  const { id, status, data } = fields(value);
  const streamId = text(id);
  if (streamId === undefined) return undefined;
  switch (status) {
    case 'add': {
      const stream = readStream(data);
      return stream && { status, stream };
    }
    case 'update': {
      const update = readUpdate(data);
      return update && { status, id: streamId, update };
    }
    case 'remove':
      return { status, id: streamId };
    default:
      return undefined;
  }
}

export function readParticipantMessage(value: unknown): ParticipantMessage | undefined {
  const { action, data } = fields(value);
  if (action === 'join') {
    const participant = readParticipant(data);
    return participant && { action, participant };
  }
  const id = text(data);
  return action === 'leave' && id !== undefined ? { action, id } : undefined;
}

export function readText(value: unknown): TextFields | undefined {
  const { from, to, message } = fields(value);
  const sender = text(from);
  if (sender === undefined) return undefined;
  return { from: sender, to: text(to) ?? 'all', message: typeof message === 'string' ? message : JSON.stringify(message ?? '') };
}

export function readProgress(value: unknown): Progress | undefined {
  const { id, status, sessionId, data } = fields(value);
  const transport = text(id);
  if (transport === undefined) return undefined;
  switch (status) {
    case 'soac':
      return readSignal(transport, fields(data));
    case 'ready':
      return { transport, status, session: text(sessionId) };
    case 'moving':
      return { transport, status };
    case 'error':
      return { transport, status, session: text(sessionId), reason: text(data) ?? 'The server gave no reason.' };
    default:
      return undefined;
  }
}

/** @internal Which layers of a published picture somebody wants, by rid. */
export function readLayersMessage(value: unknown): { id: string; wanted: Map<string, boolean> } | undefined {
  const { id, layers } = fields(value);
  const stream = text(id);
  if (stream === undefined || !Array.isArray(layers)) return undefined;
  const wanted = new Map<string, boolean>();
  for (const layer of layers) {
    const { rid, wanted: isWanted } = fields(layer);
    const name = text(rid);
    if (name !== undefined && typeof isWanted === 'boolean') wanted.set(name, isWanted);
  }
  return { id: stream, wanted };
}

function readSignal(transport: string, signal: Fields): Progress | undefined {
  const sdp = text(signal.sdp);
  if (signal.type === 'answer' && sdp !== undefined) return { transport, status: 'answer', sdp };
  const { candidate, sdpMid, sdpMLineIndex } = fields(signal.candidate);
  const line = text(candidate);
  if (signal.type !== 'candidate' || line === undefined) return undefined;
  return {
    transport,
    status: 'candidate',
    candidate: { candidate: line.replace(/^a=/, ''), sdpMid: text(sdpMid) ?? null, sdpMLineIndex: number(sdpMLineIndex) ?? null },
  };
}

export function readSessionAck(value: unknown): SessionAck | undefined {
  const id = text(fields(value).id);
  return id === undefined ? undefined : { id, transportId: text(fields(value).transportId) ?? id };
}
