import { ConferenceClient, Encryption } from '../../sdk/src/kaigi.js';
import { ConferenceScreen } from './conference.js';
import { LocalMedia } from './media.js';
import { readParameters, tokenOf } from './params.js';
import { type Choice, StartScreen } from './start.js';
import { type Admission, requestToken } from './token.js';

const DEFAULT_NAME = 'Guest';
const DEFAULT_ROOM_NAME = 'Default room';

const root = document.getElementById('app')!;
const parameters = readParameters(location.search);
let start: StartScreen | undefined;
let conference: ConferenceScreen | undefined;
let client: ConferenceClient | undefined;
let encryption: Encryption | undefined;
let name = parameters.name ?? '';
/** Brought by the link; used up by joining with it. */
let brought = tokenOf(location.hash);
if (brought) history.replaceState(history.state, '', location.pathname + location.search);
const media = new LocalMedia(() => start?.name ?? name);

function showStart(): StartScreen {
  start = new StartScreen(media, { ...parameters, name: name || parameters.name }, enter);
  root.replaceChildren(start.element);
  document.title = 'Kaigi';
  start.focus();
  return start;
}

/** Joins and shows the conference in the place of what is shown now. Fails with a reason for people. */
async function enter(choice: Choice): Promise<void> {
  name = choice.name;
  const ask = async (): Promise<Admission> => {
    const token = brought;
    brought = undefined;
    if (token) return { token, room: choice.room ?? '' };
    return requestToken({ name: choice.name, room: choice.room, role: parameters.role });
  };
  const admission = await ask();
  encryption?.close();
  encryption = choice.passphrase === undefined ? undefined : new Encryption();
  client = new ConferenceClient({ tokenProvider: async () => (await ask()).token, ...(encryption && { encryption }) });
  const { roomId } = await client.join(admission.token);
  await encryption?.setKey({ passphrase: choice.passphrase ?? '', salt: roomId });
  start?.close();
  start = undefined;
  conference?.close();
  const roomName = choice.room ?? DEFAULT_ROOM_NAME;
  conference = new ConferenceScreen({
    client,
    media,
    name,
    room: admission.room,
    roomName,
    view: parameters.view,
    speaker: choice.speaker,
    simulcast: parameters.simulcast,
    encrypted: encryption !== undefined,
    debug: parameters.debug,
    left: leave,
    rejoin: () => enter(choice),
  });
  root.replaceChildren(conference.element);
  document.title = `${roomName} – Kaigi`;
  conference.focus();
}

function leave(): void {
  conference?.close();
  conference = undefined;
  void client?.leave();
  client = undefined;
  encryption?.close();
  encryption = undefined;
  media.stopVideo();
  media.stopAudio();
  void showStart().prepare();
}

// Tells the server at once, where a closed connection would tell it late.
addEventListener('pagehide', () => void client?.leave());
addEventListener('pageshow', ({ persisted }) => persisted && location.reload());

async function begin(): Promise<void> {
  if (parameters.join) name ||= DEFAULT_NAME;
  const screen = showStart();
  await screen.prepare();
  if (parameters.join) await screen.submit();
}

void begin();
