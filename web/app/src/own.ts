import { type ConferenceClient, ConferenceError, LocalStream, type MediaKind, type Publication, type PublishOptions } from '../../sdk/src/kaigi.js';
import { DEFAULT, explain, type LocalMedia, NONE } from './media.js';

/** Waits between attempts to publish again, in milliseconds; after the last it is left to the participant. */
const RETRY_MS = [1_000, 3_000, 9_000];

/** What the server says to those whose role doesn't allow something. */
const UNAUTHORIZED = 'unauthorized';

export interface OwnMediaEvents {
  /** Something about one's own media changed. */
  changed: () => void;
  /** The server doesn't let this participant publish. */
  refused: (reason: string) => void;
  /** Something went wrong that the participant should know. */
  problem: (message: string) => void;
}

/** One's own camera, microphone and screen in the conference. Changes are made one after another. */
export class OwnMedia {
  publication: Publication | undefined;
  screen: Publication | undefined;
  #work: Promise<void> = Promise.resolve();
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(
    private readonly client: ConferenceClient,
    private readonly media: LocalMedia,
    private readonly name: string,
    private readonly simulcast: boolean,
    private readonly events: OwnMediaEvents,
  ) {}

  /** Whether the microphone is on, published or not. */
  get audible(): boolean {
    return this.media.audio?.enabled ?? false;
  }

  get visible(): boolean {
    return this.media.video !== undefined;
  }

  get sharing(): boolean {
    return this.screen !== undefined;
  }

  may(kind: MediaKind): boolean {
    return this.client.info?.permission.publish[kind] ?? false;
  }

  /** Publishes what is on. */
  start(): void {
    this.#do(() => this.#publish());
  }

  toggleMicrophone(): void {
    this.#do(async () => {
      if (this.media.audio) await this.#setAudible(!this.media.audio.enabled);
      else await this.#open('audio');
    });
  }

  toggleCamera(): void {
    this.#do(async () => {
      if (!this.media.video) return this.#open('video');
      // Stopped and not only disabled, so that the camera's light goes out.
      this.media.stopVideo();
      this.events.changed();
      if (!this.#publishes('video')) return;
      await this.publication?.replaceTrack('video', null);
      await this.publication?.mute('video');
    });
  }

  /** Must be called from a click: browsers ask what to share only then. */
  async toggleScreen(): Promise<void> {
    if (this.screen) return this.stopScreen();
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: true });
    } catch (error) {
      // Who closes the browser's dialog has changed their mind.
      if ((error as Error).name !== 'NotAllowedError') this.events.problem(explain(error, 'screen'));
      return;
    }
    this.#do(() => this.#publishScreen(stream));
  }

  stopScreen(): void {
    this.#do(async () => {
      this.screen?.stream.mediaStream.getTracks().forEach((track) => track.stop());
      await this.screen?.stop();
    });
  }

  /** Lets go of the conference; the camera and the microphone stay open. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.screen?.stream.mediaStream.getTracks().forEach((track) => track.stop());
  }

  #do(task: () => Promise<void>): void {
    this.#work = this.#work
      .then(() => (this.#closed ? undefined : task()))
      .catch((error: unknown) => {
        if (!this.#closed && this.client.info) this.events.problem(error instanceof Error ? error.message : String(error));
      })
      .then(() => this.events.changed());
  }

  #publishes(kind: MediaKind): boolean {
    return this.publication?.stream.mediaStream.getTracks().some((track) => track.kind === kind) ?? false;
  }

  async #setAudible(audible: boolean): Promise<void> {
    if (!this.media.audio) return;
    this.media.audio.enabled = audible;
    this.events.changed();
    if (!this.#publishes('audio')) return;
    await (audible ? this.publication?.unmute('audio') : this.publication?.mute('audio'));
  }

  /** Turns a device on that was off. */
  async #open(kind: MediaKind): Promise<void> {
    const device = kind === 'video' ? 'camera' : 'microphone';
    if (this.media[device] === NONE) this.media[device] = DEFAULT;
    let track: MediaStreamTrack | undefined;
    try {
      track = kind === 'video' ? await this.media.startVideo() : await this.media.startAudio();
    } catch (error) {
      return this.events.problem(explain(error, device));
    }
    this.events.changed();
    if (!track) return;
    if (!this.#publishes(kind)) return this.#publish();
    await this.publication?.replaceTrack(kind, track);
    await this.publication?.unmute(kind);
  }

  /** Publishes what is on and allowed, in the place of what was published before. */
  async #publish(): Promise<void> {
    clearTimeout(this.#retry);
    const stream = new MediaStream(this.media.stream().getTracks().filter((track) => this.may(track.kind as MediaKind)));
    const before = this.publication;
    this.publication = undefined;
    await before?.stop();
    if (stream.getTracks().length === 0) return;
    const options: PublishOptions = this.simulcast ? { video: { simulcast: true } } : {};
    try {
      const publication = await this.client.publish(new LocalStream(stream, { attributes: { name: this.name } }), options);
      this.publication = publication;
      this.#failures = 0;
      publication.on('error', ({ error }) => this.#failed(error));
      publication.on('ended', () => {
        if (this.publication === publication) this.publication = undefined;
        this.events.changed();
      });
    } catch (error) {
      return this.#failed(error);
    }
    if (this.media.audio?.enabled === false) await this.#setAudible(false);
  }

  async #publishScreen(stream: MediaStream): Promise<void> {
    const stop = () => stream.getTracks().forEach((track) => track.stop());
    if (this.screen) return stop();
    const local = new LocalStream(stream, {
      sources: { audio: 'screen-cast', video: 'screen-cast' },
      attributes: { name: this.name },
    });
    try {
      const publication = await this.client.publish(local);
      this.screen = publication;
      publication.on('ended', () => {
        stop();
        if (this.screen === publication) this.screen = undefined;
        this.events.changed();
      });
      // The browser has its own button to end sharing.
      stream.getVideoTracks()[0]?.addEventListener('ended', () => void publication.stop());
    } catch (error) {
      stop();
      throw error;
    }
  }

  #failed(error: unknown): void {
    if (this.#closed || !this.client.info) return;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof ConferenceError && error.message === UNAUTHORIZED) return this.events.refused(message);
    const wait = RETRY_MS[this.#failures++];
    if (wait === undefined) return this.events.problem(`Your picture and sound can’t be sent: ${message}`);
    this.#retry = setTimeout(() => this.start(), wait);
  }
}
