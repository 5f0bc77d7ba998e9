// Runs in the browser: publishes what is easy to recognise, and measures what arrives.
import type { Look, Rgb } from '../harness/colours';
import type * as Sdk from '../../../web/sdk/src/kaigi';

const { ConferenceClient, LocalStream } = (await import(new URL('/sdk/kaigi.js', location.href).href)) as typeof Sdk;

const WIDTH = 320;
const HEIGHT = 240;
const FRAMERATE = 15;
/** 23 Hz a bin at 48 kHz. */
const FFT_SIZE = 2048;

export interface SubscribeWish {
  audio: boolean;
  video: boolean;
}

interface Received {
  subscription: Sdk.Subscription;
  video: HTMLVideoElement;
  analyser: AnalyserNode | undefined;
}

interface Region {
  area: Record<'left' | 'top' | 'width' | 'height', string>;
}

/** "1/2" → 0.5 */
function fraction(text: string): number {
  const [numerator = 0, denominator = 1] = text.split('/').map(Number);
  return numerator / denominator;
}

/** A picture of one colour, in which a small mark moves along the lower edge so that each frame differs from the last. */
function paint(colour: Rgb): MediaStreamTrack {
  const canvas = document.createElement('canvas');
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext('2d');
  if (!context) throw new Error('no canvas');
  let frame = 0;
  const draw = (): void => {
    context.fillStyle = `rgb(${colour.join(' ')})`;
    context.fillRect(0, 0, WIDTH, HEIGHT);
    context.fillStyle = 'white';
    context.fillRect((frame++ * 4) % WIDTH, HEIGHT - 16, 12, 12);
  };
  draw();
  setInterval(draw, 1000 / FRAMERATE);
  const track = canvas.captureStream(FRAMERATE).getVideoTracks()[0];
  if (!track) throw new Error('no canvas track');
  return track;
}

const audio = new AudioContext({ sampleRate: 48_000 });

function hum(frequency: number): MediaStreamTrack {
  const oscillator = new OscillatorNode(audio, { frequency });
  const volume = new GainNode(audio, { gain: 0.2 });
  const destination = new MediaStreamAudioDestinationNode(audio);
  oscillator.connect(volume).connect(destination);
  oscillator.start();
  const track = destination.stream.getAudioTracks()[0];
  if (!track) throw new Error('no tone track');
  return track;
}

function show(stream: MediaStream): HTMLVideoElement {
  const video = document.createElement('video');
  video.autoplay = true;
  video.playsInline = true;
  video.muted = true;
  video.srcObject = stream;
  document.body.append(video);
  void video.play();
  return video;
}

function listen(stream: MediaStream): AnalyserNode | undefined {
  if (stream.getAudioTracks().length === 0) return undefined;
  const analyser = new AnalyserNode(audio, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
  new MediaStreamAudioSourceNode(audio, { mediaStream: stream }).connect(analyser);
  return analyser;
}

export class Lab {
  readonly #client = new ConferenceClient();
  readonly #received = new Map<string, Received>();
  #publication: Sdk.Publication | undefined;

  async join(token: string): Promise<string> {
    return (await this.#client.join(token)).self.id;
  }

  async publish(look: Look): Promise<string> {
    const stream = new MediaStream([hum(look.tone), paint(look.colour)]);
    this.#publication = await this.#client.publish(new LocalStream(stream));
    return this.#publication.id;
  }

  /** Whether the server still holds this page for a participant. */
  hasJoined(): boolean {
    return this.#client.info !== undefined;
  }

  isPublishing(): boolean {
    return this.#publication !== undefined && !this.#publication.ended;
  }

  async unpublish(): Promise<void> {
    await this.#publication?.stop();
  }

  forwardStreams(): string[] {
    return this.#streams()
      .filter((stream) => stream.type === 'forward' && stream.id !== this.#publication?.id)
      .map((stream) => stream.id);
  }

  mixedStream(): string {
    const mixed = this.#streams().find((stream) => stream.type === 'mixed');
    if (!mixed) throw new Error('the room has no mixed stream');
    return mixed.id;
  }

  async subscribe(id: string, wish: SubscribeWish): Promise<string> {
    const subscription = await this.#client.subscribe(this.#stream(id), wish);
    const { stream } = subscription;
    this.#received.set(subscription.id, { subscription, video: show(stream), analyser: listen(stream) });
    return subscription.id;
  }

  async unsubscribe(id: string): Promise<void> {
    const { subscription, video } = this.#of(id);
    await subscription.stop();
    video.remove();
    this.#received.delete(id);
  }

  frames(id: string): number {
    return this.#of(id).video.getVideoPlaybackQuality().totalVideoFrames;
  }

  colours(id: string, points: readonly (readonly [number, number])[]): Rgb[] {
    const { width, height, data } = this.#frame(id);
    return points.map(([x, y]) => {
      // The mean of a few pixels around it.
      const sum: Rgb = [0, 0, 0];
      for (let dy = -2; dy <= 2; dy++) {
        for (let dx = -2; dx <= 2; dx++) {
          const at = (Math.round(y * (height - 1) + dy) * width + Math.round(x * (width - 1) + dx)) * 4;
          for (const part of [0, 1, 2] as const) sum[part] += (data[at + part] ?? 0) / 25;
        }
      }
      return sum.map(Math.round) as Rgb;
    });
  }

  picture(id: string): { width: number; height: number; rgba: string } {
    const { width, height, data } = this.#frame(id);
    let binary = '';
    for (let i = 0; i < data.length; i += 0x8000) binary += String.fromCharCode(...data.subarray(i, i + 0x8000));
    return { width, height, rgba: btoa(binary) };
  }

  levels(id: string, tones: readonly number[]): number[] {
    const analyser = this.#of(id).analyser;
    if (!analyser) throw new Error('no sound');
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    return tones.map((tone) => {
      const bin = Math.round((tone * FFT_SIZE) / audio.sampleRate);
      return Math.round(Math.max(...bins.subarray(bin - 1, bin + 2)));
    });
  }

  layout(id: string): { stream: string; left: number; top: number; width: number; height: number }[] {
    return this.#stream(id).layout.flatMap(({ stream, region }) => {
      if (stream === undefined) return [];
      const { left, top, width, height } = (region as Region).area;
      return [{ stream, left: fraction(left), top: fraction(top), width: fraction(width), height: fraction(height) }];
    });
  }

  async leave(): Promise<void> {
    await this.#client.leave();
  }

  #streams(): Sdk.RemoteStream[] {
    return [...(this.#client.info?.streams.values() ?? [])];
  }

  #stream(id: string): Sdk.RemoteStream {
    const stream = this.#streams().find((candidate) => candidate.id === id);
    if (!stream) throw new Error(`no stream ${id}`);
    return stream;
  }

  #of(id: string): Received {
    const received = this.#received.get(id);
    if (!received) throw new Error(`no subscription ${id}`);
    return received;
  }

  #frame(id: string): ImageData {
    const { video } = this.#of(id);
    if (video.videoWidth === 0) throw new Error('no picture yet');
    const canvas = document.createElement('canvas');
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    if (!context) throw new Error('no canvas');
    context.drawImage(video, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }
}

window.lab = new Lab();
