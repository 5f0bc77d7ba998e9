import { generatePicture } from './picture.js';

/** What a `<select>` of devices chose: a device's id, the default device, a drawn picture, or nothing. */
export const DEFAULT = 'default';
export const GENERATED = 'generated';
export const NONE = 'none';

const CAMERA: MediaTrackConstraints = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
const MICROPHONE: MediaTrackConstraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export interface Devices {
  cameras: MediaDeviceInfo[];
  microphones: MediaDeviceInfo[];
  speakers: MediaDeviceInfo[];
}

/** Browsers offer capture to secure pages only. */
export function canCapture(): boolean {
  return navigator.mediaDevices?.getUserMedia !== undefined;
}

export function canShareScreen(): boolean {
  return navigator.mediaDevices?.getDisplayMedia !== undefined;
}

export function canChooseSpeaker(): boolean {
  return 'setSinkId' in HTMLMediaElement.prototype;
}

export async function listDevices(): Promise<Devices> {
  const all = canCapture() ? await navigator.mediaDevices.enumerateDevices().catch(() => []) : [];
  const of = (kind: MediaDeviceKind) => all.filter((device) => device.kind === kind);
  return { cameras: of('videoinput'), microphones: of('audioinput'), speakers: of('audiooutput') };
}

/** Why a device couldn't be opened, and what to do about it. */
export function explain(error: unknown, device: 'camera' | 'microphone' | 'screen'): string {
  switch ((error as { name?: string } | null)?.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return `The browser doesn’t allow the ${device}; you can allow it in the address bar.`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return `No ${device} was found.`;
    case 'NotReadableError':
    case 'AbortError':
      return `The ${device} is in use by another program, or it doesn’t answer.`;
    default:
      return `The ${device} can’t be used: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function constraints(base: MediaTrackConstraints, choice: string): MediaTrackConstraints {
  return choice === DEFAULT ? base : { ...base, deviceId: { exact: choice } };
}

async function open(kind: 'audio' | 'video', choice: string): Promise<MediaStreamTrack> {
  const wish = constraints(kind === 'video' ? CAMERA : MICROPHONE, choice);
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ [kind]: wish });
    return stream.getTracks()[0]!;
  } catch (error) {
    // A remembered device may be unplugged: then any other is better than none.
    const gone = choice !== DEFAULT && ['OverconstrainedError', 'NotFoundError'].includes((error as Error).name);
    if (!gone) throw error;
    return open(kind, DEFAULT);
  }
}

/** The participant's own camera and microphone. A track is held only while its device is on. */
export class LocalMedia {
  camera = DEFAULT;
  microphone = DEFAULT;
  video: MediaStreamTrack | undefined;
  audio: MediaStreamTrack | undefined;
  #videoTurn = 0;
  #audioTurn = 0;

  constructor(private readonly name: () => string) {}

  /** Opens the chosen camera, or draws a picture. `NONE` opens nothing. A later start or stop overrules this one. */
  async startVideo(): Promise<MediaStreamTrack | undefined> {
    this.stopVideo();
    if (this.camera === NONE) return undefined;
    if (this.camera === GENERATED) return (this.video = generatePicture(this.name));
    requireCapture();
    const turn = this.#videoTurn;
    const track = await open('video', this.camera);
    if (turn === this.#videoTurn) this.video = track;
    else track.stop();
    return this.video;
  }

  async startAudio(): Promise<MediaStreamTrack | undefined> {
    this.stopAudio();
    if (this.microphone === NONE) return undefined;
    requireCapture();
    const turn = this.#audioTurn;
    const track = await open('audio', this.microphone);
    if (turn === this.#audioTurn) this.audio = track;
    else track.stop();
    return this.audio;
  }

  stopVideo(): void {
    this.#videoTurn++;
    this.video?.stop();
    this.video = undefined;
  }

  stopAudio(): void {
    this.#audioTurn++;
    this.audio?.stop();
    this.audio = undefined;
  }

  /** The tracks held now, as one stream. */
  stream(): MediaStream {
    return new MediaStream([this.audio, this.video].filter((track): track is MediaStreamTrack => track !== undefined));
  }
}

function requireCapture(): void {
  if (!canCapture()) throw new DOMException('Capture needs https or localhost.', 'SecurityError');
}
