/** What a page sends, and what it holds while it does. */
export interface Sent {
  stream: MediaStream;
  stop(): void;
}

const WIDTH = 640;
const HEIGHT = 480;
/** Frames per second of a drawn picture. */
const RATE = 15;
/** Of the tone, in Hz. */
const PITCH = 440;

/** Four fields of different colours, so that one sees how it is turned, and something that moves. */
function draw(context: CanvasRenderingContext2D, time: number): void {
  const [w, h] = [WIDTH / 2, HEIGHT / 2];
  const fields: readonly [string, number, number][] = [['#d02020', 0, 0], ['#20b020', w, 0], ['#2040d0', 0, h], ['#e0d020', w, h]];
  for (const [colour, x, y] of fields) {
    context.fillStyle = colour;
    context.fillRect(x, y, w, h);
  }
  const angle = time / 500;
  context.fillStyle = 'white';
  context.beginPath();
  context.arc(w + Math.cos(angle) * 60, h + Math.sin(angle) * 60, 16, 0, 2 * Math.PI);
  context.fill();
}

function drawn(): Sent {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const context = canvas.getContext('2d');
  if (!context) throw new Error('This browser can not draw');
  draw(context, 0);
  const timer = setInterval(() => draw(context, performance.now()), 1000 / RATE);
  return { stream: canvas.captureStream(RATE), stop: () => clearInterval(timer) };
}

function tone(): Sent {
  const context = new AudioContext();
  const [source, volume, out] = [context.createOscillator(), context.createGain(), context.createMediaStreamDestination()];
  source.frequency.value = PITCH;
  volume.gain.value = 0.2;
  source.connect(volume).connect(out);
  source.start();
  return { stream: out.stream, stop: () => void context.close() };
}

/** Picture and sound as they are chosen. */
export async function capture(picture: string, sound: string): Promise<Sent> {
  const parts: Sent[] = [];
  const devices = { video: picture === 'camera' && { width: WIDTH, height: HEIGHT }, audio: sound === 'microphone' };
  if (devices.video || devices.audio) {
    // Pages without HTTPS have no devices, except on localhost.
    if (!navigator.mediaDevices) throw new Error('Cameras and microphones need HTTPS, or localhost');
    parts.push({ stream: await navigator.mediaDevices.getUserMedia(devices), stop: () => undefined });
  }
  if (picture === 'drawn') parts.push(drawn());
  if (sound === 'tone') parts.push(tone());
  const stream = new MediaStream(parts.flatMap((part) => part.stream.getTracks()));
  return {
    stream,
    stop() {
      for (const track of stream.getTracks()) track.stop();
      for (const part of parts) part.stop();
    },
  };
}
