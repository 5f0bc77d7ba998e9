import { h } from '../../app/src/dom.js';
import { view } from './view.js';

/** Stands for "none of them". */
const NONE = 'none';

/** Lists cameras and microphones; what was chosen stays chosen. */
export async function listDevices(): Promise<void> {
  // Pages without HTTPS have no devices, except on localhost.
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  for (const [select, kind, name] of [[view.camera, 'videoinput', 'camera'], [view.microphone, 'audioinput', 'microphone']] as const) {
    const chosen = select.value;
    const known = devices.filter((device) => device.kind === kind && device.deviceId !== '' && device.deviceId !== 'default');
    const options = known.map(({ deviceId, label }, i) => h('option', { value: deviceId }, label || `${name} ${i + 1}`));
    select.replaceChildren(h('option', { value: '' }, `Any ${name}`), ...options, h('option', { value: NONE }, `No ${name}`));
    if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
  }
}

const wish = (select: HTMLSelectElement): boolean | MediaTrackConstraints =>
  select.value === NONE ? false : select.value === '' ? true : { deviceId: { exact: select.value } };

/** Picture and sound of what is chosen; nothing if nothing is. */
export async function capture(): Promise<MediaStream | undefined> {
  const [video, audio] = [wish(view.camera), wish(view.microphone)];
  if (!video && !audio) return undefined;
  if (!navigator.mediaDevices) throw new Error('Cameras and microphones need HTTPS, or localhost');
  const stream = await navigator.mediaDevices.getUserMedia({ video, audio });
  await listDevices();
  return stream;
}
