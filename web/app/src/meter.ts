/** Shows a microphone's loudness as the CSS variable `--level`, 0 to 1, of an element. */
export class LevelMeter {
  #context: AudioContext | undefined;
  #source: MediaStreamAudioSourceNode | undefined;
  #frame = 0;

  constructor(private readonly element: HTMLElement) {}

  watch(track: MediaStreamTrack | undefined): void {
    this.stop();
    if (!track) return;
    const context = (this.#context ??= new AudioContext());
    const analyser = new AnalyserNode(context, { fftSize: 512 });
    this.#source = context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let shown = 0;
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      // -60 dB is silence, -10 dB as loud as speech gets; the fall is slower than the rise, as eyes like it.
      const level = Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-9) + 60) / 50));
      shown = level > shown ? level : shown * 0.92 + level * 0.08;
      this.element.style.setProperty('--level', shown.toFixed(3));
      this.element.setAttribute('aria-valuenow', String(Math.round(shown * 100)));
      this.#frame = requestAnimationFrame(draw);
    };
    draw();
    // Without a gesture on the page the context may wait for one.
    if (context.state === 'suspended') {
      void context.resume();
      addEventListener('pointerdown', () => void this.#context?.resume(), { once: true });
    }
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    this.#source?.disconnect();
    this.#source = undefined;
    this.element.style.setProperty('--level', '0');
  }

  close(): void {
    this.stop();
    void this.#context?.close();
    this.#context = undefined;
  }
}
