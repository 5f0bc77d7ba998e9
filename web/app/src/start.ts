import { Encryption } from '../../sdk/src/kaigi.js';
import { h, hueOf, iconButton, initials, setButton } from './dom.js';
import { canCapture, canChooseSpeaker, DEFAULT, explain, GENERATED, listDevices, type LocalMedia, NONE } from './media.js';
import { LevelMeter } from './meter.js';
import type { PageParameters } from './params.js';
import { loadPreferences, savePreferences } from './preferences.js';

/** What the start screen was filled in with. */
export interface Choice {
  name: string;
  room: string | undefined;
  speaker: string;
  /** Media is encrypted with it, end to end. */
  passphrase: string | undefined;
}

interface Option {
  value: string;
  label: string;
}

/** The first screen: who, where, and with which devices, with a look at oneself before others have it. */
export class StartScreen {
  readonly element: HTMLElement;
  readonly #media: LocalMedia;
  readonly #join: (choice: Choice) => Promise<void>;
  readonly #name: HTMLInputElement;
  readonly #room: HTMLInputElement;
  readonly #passphrase = h('input', {
    id: 'passphrase', type: 'password', maxlength: 200, autocomplete: 'off',
    placeholder: 'Nobody else sees and hears you', 'data-testid': 'passphrase-input',
  });
  readonly #camera = h('select', { id: 'camera', 'data-testid': 'camera-select', onchange: () => this.#chooseCamera() });
  readonly #microphone = h('select', { id: 'microphone', 'data-testid': 'microphone-select', onchange: () => this.#chooseMicrophone() });
  readonly #speaker = h('select', { id: 'speaker', 'data-testid': 'speaker-select' });
  readonly #video = h('video', { autoplay: true, playsinline: true, 'aria-label': 'Your own picture', 'data-testid': 'preview-video' });
  readonly #avatar = h('span', { class: 'avatar', 'aria-hidden': 'true' });
  readonly #hint = h('p', { class: 'preview-hint' });
  readonly #meterBar = h('div', {
    class: 'meter',
    role: 'meter',
    'aria-label': 'Microphone level',
    'aria-valuemin': 0,
    'aria-valuemax': 100,
    'aria-valuenow': 0,
    'data-testid': 'level-meter',
  });
  readonly #meter = new LevelMeter(this.#meterBar);
  readonly #cameraButton = iconButton('camera', 'Turn camera off', 'toggle-camera', () => this.#toggleCamera());
  readonly #microphoneButton = iconButton('microphone', 'Turn microphone off', 'toggle-microphone', () => this.#toggleMicrophone());
  readonly #problem = h('p', { class: 'problem', role: 'status', 'data-testid': 'device-problem', hidden: true });
  readonly #error = h('p', { class: 'error', role: 'alert', 'data-testid': 'start-error', hidden: true });
  readonly #submit = h('button', { type: 'submit', class: 'primary', 'data-testid': 'join-button' }, 'Join');
  readonly #onDeviceChange = () => void this.#listDevices();
  #cameraOn: boolean;
  #microphoneOn: boolean;
  #problems = new Map<string, string>();

  constructor(media: LocalMedia, parameters: PageParameters, join: (choice: Choice) => Promise<void>) {
    this.#media = media;
    this.#join = join;
    const remembered = loadPreferences();
    const name = parameters.name ?? remembered.name ?? '';
    this.#name = h('input', {
      id: 'name', value: name, required: true, maxlength: 60, autocomplete: 'name', placeholder: 'How others see you',
      'data-testid': 'name-input', oninput: () => this.#showPreview(),
    });
    this.#room = h('input', {
      id: 'room', value: parameters.room ?? '', maxlength: 80, autocomplete: 'off', spellcheck: 'false',
      placeholder: 'Default room', 'data-testid': 'room-input',
    });
    media.camera = parameters.camera === 'generated' ? GENERATED : (remembered.camera ?? DEFAULT);
    media.microphone = remembered.microphone ?? DEFAULT;
    this.#cameraOn = parameters.camera !== 'off' && media.camera !== NONE;
    this.#microphoneOn = parameters.microphone !== 'off' && media.microphone !== NONE;
    this.#video.muted = true;
    this.element = this.#build();
    fill(this.#speaker, [{ value: DEFAULT, label: 'Default' }], remembered.speaker ?? DEFAULT);
  }

  /** The name that a drawn picture bears. */
  get name(): string {
    return this.#name.value;
  }

  /** Opens the devices that are on and shows what there is. Never fails: a device that doesn't open is explained. */
  async prepare(): Promise<void> {
    if (!canCapture()) {
      this.#report('page', 'Camera and microphone need a secure page: open it with https, or on localhost. You can still watch, or send a drawn picture.');
      if (this.#media.camera !== GENERATED) this.#cameraOn = false;
      this.#microphoneOn = false;
    } else {
      navigator.mediaDevices.addEventListener?.('devicechange', this.#onDeviceChange);
    }
    await this.#listDevices();
    // One after the other: asked at once, browsers show two prompts on top of each other.
    await this.#startVideo();
    await this.#startAudio();
    await this.#listDevices();
  }

  /** Puts the cursor where typing starts. */
  focus(): void {
    (this.#name.value === '' ? this.#name : this.#submit).focus();
  }

  /** Presses the join button, so to speak. */
  async submit(): Promise<void> {
    const name = this.#name.value.trim();
    if (name === '') {
      this.#showError('Please tell the others your name.');
      this.#name.focus();
      return;
    }
    this.#showError('');
    this.#submit.disabled = true;
    this.#submit.textContent = 'Joining…';
    savePreferences({ name, camera: this.#media.camera, microphone: this.#media.microphone, speaker: this.#speaker.value });
    try {
      const room = this.#room.value.trim() || undefined;
      await this.#join({ name, room, speaker: this.#speaker.value, passphrase: this.#passphrase.value || undefined });
    } catch (error) {
      this.#showError(error instanceof Error ? error.message : String(error));
    } finally {
      this.#submit.disabled = false;
      this.#submit.textContent = 'Join';
    }
  }

  /** Lets go of everything but the tracks, which go on into the conference. */
  close(): void {
    navigator.mediaDevices?.removeEventListener?.('devicechange', this.#onDeviceChange);
    this.#meter.close();
    this.#video.srcObject = null;
    this.element.remove();
  }

  #build(): HTMLElement {
    const field = (label: string, control: HTMLElement, hint?: string) =>
      h('div', { class: 'field' }, h('label', { for: control.id }, label, hint ? h('span', { class: 'optional' }, hint) : undefined), control);
    const form = h(
      'form',
      { class: 'card form', novalidate: true, onsubmit: (event: Event) => (event.preventDefault(), void this.submit()) },
      h('h1', { tabindex: -1 }, 'Join the conference'),
      field('Your name', this.#name),
      field('Room', this.#room, 'optional'),
      Encryption.supported && field('Passphrase', this.#passphrase, 'optional'),
      this.#error,
      this.#submit,
    );
    const preview = h(
      'section',
      { class: 'preview', 'aria-label': 'Preview' },
      h('div', { class: 'preview-picture' }, this.#video, this.#avatar, this.#hint, h('div', { class: 'preview-controls' }, this.#microphoneButton, this.#cameraButton)),
      h('div', { class: 'preview-sound' }, this.#meterBar),
      this.#problem,
    );
    const devices = h(
      'section',
      { class: 'devices', 'aria-label': 'Devices' },
      field('Camera', this.#camera),
      field('Microphone', this.#microphone),
      canChooseSpeaker() && field('Speaker', this.#speaker),
    );
    return h(
      'main',
      { class: 'start', 'data-testid': 'start' },
      h('header', { class: 'brand' }, h('img', { src: './icon.svg', alt: '', width: 36, height: 36 }), h('span', {}, 'Kaigi')),
      h('div', { class: 'start-columns' }, preview, form, devices),
    );
  }

  async #listDevices(): Promise<void> {
    const { cameras, microphones, speakers } = await listDevices();
    const named = (devices: MediaDeviceInfo[], what: string) =>
      devices
        .filter(({ deviceId }) => deviceId !== '' && deviceId !== DEFAULT)
        .map(({ deviceId, label }, index) => ({ value: deviceId, label: label || `${what} ${index + 1}` }));
    const camera = { value: DEFAULT, label: cameras.length > 0 ? 'Default' : 'None found' };
    const microphone = { value: DEFAULT, label: microphones.length > 0 ? 'Default' : 'None found' };
    fill(this.#camera, [camera, ...named(cameras, 'Camera'), { value: GENERATED, label: 'Drawn picture' }, { value: NONE, label: 'No camera' }], this.#media.camera);
    fill(this.#microphone, [microphone, ...named(microphones, 'Microphone'), { value: NONE, label: 'No microphone' }], this.#media.microphone);
    fill(this.#speaker, [{ value: DEFAULT, label: 'Default' }, ...named(speakers, 'Speaker')], this.#speaker.value);
  }

  #chooseCamera(): void {
    this.#media.camera = this.#camera.value;
    this.#cameraOn = this.#camera.value !== NONE;
    void this.#startVideo();
  }

  #chooseMicrophone(): void {
    this.#media.microphone = this.#microphone.value;
    this.#microphoneOn = this.#microphone.value !== NONE;
    void this.#startAudio();
  }

  #toggleCamera(): void {
    this.#cameraOn = !this.#cameraOn;
    if (this.#cameraOn && this.#media.camera === NONE) this.#camera.value = this.#media.camera = DEFAULT;
    void this.#startVideo();
  }

  #toggleMicrophone(): void {
    this.#microphoneOn = !this.#microphoneOn;
    if (this.#microphoneOn && this.#media.microphone === NONE) this.#microphone.value = this.#media.microphone = DEFAULT;
    void this.#startAudio();
  }

  async #startVideo(): Promise<void> {
    this.#report('camera', '');
    try {
      if (this.#cameraOn) await this.#media.startVideo();
      else this.#media.stopVideo();
    } catch (error) {
      this.#cameraOn = false;
      this.#report('camera', explain(error, 'camera'));
    }
    this.#showPreview();
  }

  async #startAudio(): Promise<void> {
    this.#report('microphone', '');
    try {
      if (this.#microphoneOn) await this.#media.startAudio();
      else this.#media.stopAudio();
    } catch (error) {
      this.#microphoneOn = false;
      this.#report('microphone', explain(error, 'microphone'));
    }
    this.#meter.watch(this.#media.audio);
    this.#showPreview();
  }

  #showPreview(): void {
    const { video, audio, camera } = this.#media;
    const shown = (this.#video.srcObject as MediaStream | null)?.getVideoTracks()[0];
    if (shown !== video) this.#video.srcObject = video ? new MediaStream([video]) : null;
    this.#video.hidden = !video;
    this.#video.classList.toggle('mirrored', camera !== GENERATED);
    const name = this.#name.value.trim();
    this.#avatar.hidden = video !== undefined;
    this.#avatar.textContent = name === '' ? '·' : initials(name);
    this.#avatar.style.setProperty('--hue', String(hueOf(name)));
    this.#hint.textContent = video ? '' : this.#cameraOn ? 'Opening the camera…' : 'Your camera is off';
    this.#meterBar.classList.toggle('silent', !audio);
    setButton(this.#cameraButton, this.#cameraOn ? 'camera' : 'cameraOff', this.#cameraOn ? 'Turn camera off' : 'Turn camera on');
    setButton(this.#microphoneButton, this.#microphoneOn ? 'microphone' : 'microphoneOff', this.#microphoneOn ? 'Turn microphone off' : 'Turn microphone on');
    this.#cameraButton.classList.toggle('off', !this.#cameraOn);
    this.#microphoneButton.classList.toggle('off', !this.#microphoneOn);
  }

  #report(about: string, problem: string): void {
    if (problem === '') this.#problems.delete(about);
    else this.#problems.set(about, problem);
    const devices = [...this.#problems.values()].map((text) => `${text} `).join('');
    this.#problem.textContent = this.#problems.get('page') ?? (devices && `${devices}You can join all the same.`);
    this.#problem.hidden = this.#problem.textContent === '';
  }

  #showError(message: string): void {
    this.#error.textContent = message;
    this.#error.hidden = message === '';
  }
}

/** Sets a select's options and keeps `value` chosen if it is among them. */
function fill(select: HTMLSelectElement, options: Option[], value: string): void {
  select.replaceChildren(...options.map(({ value, label }) => h('option', { value }, label)));
  select.value = options.some((option) => option.value === value) ? value : DEFAULT;
}
