// What pages publish, which is easy to recognise, and how they measure what arrives.
import type { Rgb } from '../harness/colours';

const WIDTH = 320;
const HEIGHT = 240;
const FRAMERATE = 15;
/** 23 Hz a bin at 48 kHz. */
const FFT_SIZE = 2048;

/** A picture of one colour, in which a small mark moves along the lower edge so that each frame differs from the last. */
export function paint(colour: Rgb, { width = WIDTH, height = HEIGHT, framerate = FRAMERATE, noise = false } = {}): MediaStreamTrack {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d');
  if (!context) throw new Error('no canvas');
  let frame = 0;
  const draw = (): void => {
    context.fillStyle = `rgb(${colour.join(' ')})`;
    context.fillRect(0, 0, width, height);
    if (noise) scatter(context, width, height);
    context.fillStyle = 'white';
    context.fillRect((frame++ * 4) % width, height - 16, 12, 12);
  };
  draw();
  setInterval(draw, 1000 / framerate);
  const track = canvas.captureStream(framerate).getVideoTracks()[0];
  if (!track) throw new Error('no canvas track');
  return track;
}

/** Something that costs an encoder many bits, and fewer if it has to: squares of random grey around the middle, which keeps its colour. */
function scatter(context: CanvasRenderingContext2D, width: number, height: number): void {
  const size = 16;
  for (let y = 0; y < height; y += size) {
    if (y > height / 3 && y < (height * 2) / 3) continue;
    for (let x = 0; x < width; x += size) {
      context.fillStyle = `hsl(0 0% ${40 + Math.random() * 20}%)`;
      context.fillRect(x, y, size, size);
    }
  }
}

const audio = new AudioContext({ sampleRate: 48_000 });

export function hum(frequency: number): MediaStreamTrack {
  return voice(frequency, 0.2).track;
}

/** A tone of that amplitude, which can be changed; 1 is as loud as there is. */
export function voice(frequency: number, amplitude: number): { track: MediaStreamTrack; volume: GainNode } {
  const oscillator = new OscillatorNode(audio, { frequency });
  const volume = new GainNode(audio, { gain: amplitude });
  const destination = new MediaStreamAudioDestinationNode(audio);
  oscillator.connect(volume).connect(destination);
  oscillator.start();
  const track = destination.stream.getAudioTracks()[0];
  if (!track) throw new Error('no tone track');
  return { track, volume };
}

/** Plays a stream, and looks and listens at it. */
export class Screen {
  readonly #video: HTMLVideoElement;
  readonly #analyser: AnalyserNode | undefined;

  constructor(stream: MediaStream) {
    this.#video = document.createElement('video');
    Object.assign(this.#video, { autoplay: true, playsInline: true, muted: true, srcObject: stream });
    document.body.append(this.#video);
    void this.#video.play();
    if (stream.getAudioTracks().length > 0) {
      this.#analyser = new AnalyserNode(audio, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
      new MediaStreamAudioSourceNode(audio, { mediaStream: stream }).connect(this.#analyser);
    }
  }

  remove(): void {
    this.#video.remove();
  }

  /** Resolves when a frame is shown. */
  shown(): Promise<void> {
    return new Promise((resolve) => this.#video.requestVideoFrameCallback(() => resolve()));
  }

  /** How many frames were shown so far. */
  frames(): number {
    return this.#video.getVideoPlaybackQuality().totalVideoFrames;
  }

  /** The colours at points that are fractions of the width and height: each the mean of a few pixels around it. */
  colours(points: readonly (readonly [number, number])[]): Rgb[] {
    const { width, height, data } = this.#frame();
    return points.map(([x, y]) => {
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

  picture(): { width: number; height: number; rgba: string } {
    const { width, height, data } = this.#frame();
    let binary = '';
    for (let i = 0; i < data.length; i += 0x8000) binary += String.fromCharCode(...data.subarray(i, i + 0x8000));
    return { width, height, rgba: btoa(binary) };
  }

  /** How loud each frequency is at the moment, in dB of full scale. */
  levels(tones: readonly number[]): number[] {
    const analyser = this.#analyser;
    if (!analyser) throw new Error('no sound');
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    return tones.map((tone) => {
      const bin = Math.round((tone * FFT_SIZE) / audio.sampleRate);
      return Math.round(Math.max(...bins.subarray(bin - 1, bin + 2)));
    });
  }

  #frame(): ImageData {
    const video = this.#video;
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
