import { Call } from './call.js';
import { capture, listDevices } from './devices.js';
import { Tile, log, showState, view } from './view.js';

/** What the portal says of itself; without it there are no servers besides. */
interface Config {
  iceServers: RTCIceServer[];
  token: boolean;
}

const query = new URLSearchParams(location.search);
let config: Config = { iceServers: [], token: false };
let call: Call | undefined;
let own: { stream: MediaStream; tile: Tile } | undefined;

const randomName = (): string => `guest-${crypto.getRandomValues(new Uint32Array(1))[0]?.toString(36) ?? '0'}`;

function address(): string {
  const url = new URL(`../signaling/${encodeURIComponent(view.room.value)}/${encodeURIComponent(view.name.value)}`, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  if (view.token.value) url.searchParams.set('token', view.token.value);
  return url.href;
}

function connect(): void {
  call = new Call(address(), view.name.value, config.iceServers, disconnect);
  for (const field of [view.room, view.name, view.token]) field.readOnly = true;
  view.connect.textContent = 'Disconnect';
  view.connect.setAttribute('aria-pressed', 'true');
  if (own) void call.show(own.stream);
}

/** The state that stands there stays, as it may say why. */
function disconnect(): void {
  call?.close();
  call = undefined;
  for (const field of [view.room, view.name, view.token]) field.readOnly = false;
  view.connect.textContent = 'Connect';
  view.connect.setAttribute('aria-pressed', 'false');
}

async function start(): Promise<void> {
  const stream = await capture();
  if (!stream) {
    log('neither camera nor microphone is chosen');
    return;
  }
  const tile = new Tile('You', true);
  tile.show(stream);
  own = { stream, tile };
  view.start.textContent = 'Stop';
  view.start.setAttribute('aria-pressed', 'true');
  log('picture and sound are sent');
  await call?.show(stream);
}

async function stop(): Promise<void> {
  own?.stream.getTracks().forEach((track) => track.stop());
  own?.tile.remove();
  own = undefined;
  view.start.textContent = 'Start';
  view.start.setAttribute('aria-pressed', 'false');
  log('nothing is sent any more');
  await call?.show(undefined);
}

/** Another device takes the place of the one before. */
async function change(): Promise<void> {
  if (!own) return;
  await stop();
  await start();
}

function attempt(what: () => Promise<void>): void {
  what().catch((error: unknown) => {
    log(`error: ${String(error)}`);
    showState(String(error), true);
  });
}

view.form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (call) {
    disconnect();
    showState('Not connected');
    log('disconnected');
  } else {
    connect();
  }
});
view.start.addEventListener('click', () => attempt(own ? stop : start));
for (const select of [view.camera, view.microphone]) select.addEventListener('change', () => attempt(change));

view.room.value = query.get('room') ?? '';
view.name.value = query.get('name') ?? randomName();
attempt(async () => {
  const answer = await fetch('./config.json');
  if (answer.ok) config = (await answer.json()) as Config;
  view.tokenField.hidden = !config.token;
});
attempt(listDevices);
