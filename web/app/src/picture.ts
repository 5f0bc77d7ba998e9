import { hueOf, initials } from './dom.js';

const WIDTH = 640;
const HEIGHT = 360;
const FRAMERATE = 15;

/** A drawn picture for those without a camera: their initials on a slowly drifting ground. */
export function generatePicture(name: () => string): MediaStreamTrack {
  const canvas = document.createElement('canvas');
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext('2d');
  const track = canvas.captureStream(FRAMERATE).getVideoTracks()[0];
  if (!context || !track) throw new Error('This browser can’t draw a picture.');
  const started = performance.now();
  const draw = () => {
    const hue = hueOf(name());
    const seconds = (performance.now() - started) / 1000;
    const x = WIDTH * (0.5 + 0.35 * Math.sin(seconds / 3));
    const y = HEIGHT * (0.5 + 0.35 * Math.cos(seconds / 4));
    const ground = context.createRadialGradient(x, y, 20, x, y, WIDTH);
    ground.addColorStop(0, `hsl(${hue} 45% 42%)`);
    ground.addColorStop(1, `hsl(${hue} 50% 16%)`);
    context.fillStyle = ground;
    context.fillRect(0, 0, WIDTH, HEIGHT);
    context.fillStyle = 'rgb(255 255 255 / 0.92)';
    context.font = '500 132px system-ui, sans-serif';
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    context.fillText(initials(name()), WIDTH / 2, HEIGHT / 2 + 6);
  };
  draw();
  const timer = setInterval(() => (track.readyState === 'live' ? draw() : clearInterval(timer)), 1000 / FRAMERATE);
  return track;
}
