// A player of broadcasts: hls.js or dash.js, whichever the page has loaded, in the page's only video element.
import type HlsClass from 'hls.js';
import type { ErrorData } from 'hls.js';
import type * as Dash from 'dashjs';
import type { Rgb } from '../harness/colours';

declare global {
  interface Window {
    Hls?: typeof HlsClass;
    dashjs?: typeof Dash;
    player: Player;
  }
}

/** 23 Hz a bin at 48 kHz. */
const FFT_SIZE = 2048;

export interface Seen {
  colours: Rgb[];
  /** Frames that were shown so far. */
  frames: number;
  /** Seconds that are played behind the newest that there is, as the player knows it. */
  behind: number;
  /** How many parts of segments were fetched. */
  parts: number;
  /** How many playlists were asked for with a part to wait for. */
  waits: number;
  errors: string[];
}

export class Player {
  readonly #video = document.createElement('video');
  readonly #audio = new AudioContext({ sampleRate: 48_000 });
  readonly #analyser = new AnalyserNode(this.#audio, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
  readonly #errors: string[] = [];
  #parts = 0;
  #behind: () => number = () => Number.NaN;

  play(url: string, lowLatency: boolean): void {
    Object.assign(this.#video, { autoplay: true, playsInline: true });
    document.body.append(this.#video);
    new MediaElementAudioSourceNode(this.#audio, { mediaElement: this.#video }).connect(this.#analyser);
    if (window.Hls) this.#playHls(window.Hls, url, lowLatency);
    else if (window.dashjs) this.#playDash(window.dashjs, url);
    else throw new Error('no player');
  }

  #playHls(Hls: typeof HlsClass, url: string, lowLatencyMode: boolean): void {
    const hls = new Hls({ lowLatencyMode, enableWorker: false });
    hls.on(Hls.Events.ERROR, (_, { type, details, fatal }: ErrorData) => {
      this.#errors.push(`${type} ${details}`);
      // As its documentation tells players to.
      if (fatal && type === Hls.ErrorTypes.NETWORK_ERROR) hls.startLoad();
      else if (fatal && type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    });
    hls.on(Hls.Events.FRAG_LOADED, (_, { part }) => {
      if (part) this.#parts += 1;
    });
    this.#behind = () => hls.latency;
    hls.loadSource(url);
    hls.attachMedia(this.#video);
  }

  #playDash(dashjs: typeof Dash, url: string): void {
    const player = dashjs.MediaPlayer().create();
    player.on('error', (event) => this.#errors.push(JSON.stringify((event as { error: unknown }).error)));
    // The one that it would ask for the time is on the internet.
    player.updateSettings({ streaming: { utcSynchronization: { enabled: false } } });
    this.#behind = () => player.getCurrentLiveLatency();
    player.initialize(this.#video, url, true);
  }

  /** Points are fractions of the width and height. */
  see(points: readonly (readonly [number, number])[]): Seen {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (width === 0) throw new Error(`no picture yet; ${this.#errors.join(', ')}`);
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    if (!context) throw new Error('no canvas');
    context.drawImage(this.#video, 0, 0);
    const colours = points.map(([x, y]): Rgb => {
      const [red = 0, green = 0, blue = 0] = context.getImageData(Math.round(x * (width - 1)), Math.round(y * (height - 1)), 1, 1).data;
      return [red, green, blue];
    });
    const frames = this.#video.getVideoPlaybackQuality().totalVideoFrames;
    const waits = performance.getEntriesByType('resource').filter(({ name }) => name.includes('_HLS_part=')).length;
    return { colours, frames, behind: this.#behind(), parts: this.#parts, waits, errors: this.#errors };
  }

  /** How loud each frequency is at the moment, in dB of full scale. */
  levels(tones: readonly number[]): number[] {
    const bins = new Float32Array(this.#analyser.frequencyBinCount);
    this.#analyser.getFloatFrequencyData(bins);
    return tones.map((tone) => {
      const bin = Math.round((tone * FFT_SIZE) / this.#audio.sampleRate);
      return Math.round(Math.max(...bins.subarray(bin - 1, bin + 2)));
    });
  }
}

window.player = new Player();
