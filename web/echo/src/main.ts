import { message } from './door.js';
import { type Sent, capture } from './media.js';
import { Session } from './session.js';
import { log, show, showState, view } from './view.js';

let sent: Sent | undefined;
let session: Session | undefined;

const fields = [view.source, view.sound, view.transform];

function begins(): void {
  for (const field of fields) field.disabled = true;
  view.start.textContent = 'Stop';
  view.start.setAttribute('aria-pressed', 'true');
}

/** The state that stands there stays, as it may say why. */
function ends(): void {
  session?.close();
  sent?.stop();
  session = sent = undefined;
  for (const video of [view.own, view.back]) show(video, null);
  for (const field of fields) field.disabled = false;
  view.start.textContent = 'Start';
  view.start.setAttribute('aria-pressed', 'false');
}

async function start(): Promise<void> {
  begins();
  showState('Connecting');
  try {
    const media = await capture(view.source.value, view.sound.value);
    sent = media;
    show(view.own, media.stream);
    session = await Session.begin(media.stream, view.transform.value, {
      back: (stream) => show(view.back, stream),
      state(state) {
        log(`connection ${state}`);
        if (state === 'connected') showState('Connected');
        if (state === 'failed') {
          showState('The connection is lost', true);
          ends();
        }
      },
      channel: (isOpen) => log(isOpen ? 'data channel open' : 'data channel closed'),
      said: (text) => log(`< ${text}`),
    });
    log(`session ${session.id}`);
  } catch (error) {
    ends();
    throw error;
  }
}

function attempt(what: () => Promise<void>): void {
  what().catch((error: unknown) => {
    const text = error instanceof Error ? error.message : String(error);
    log(`error: ${text}`);
    showState(text, true);
  });
}

view.form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (sent || session) {
    ends();
    showState('Not connected');
    log('ended');
  } else {
    attempt(start);
  }
});
view.message.addEventListener('submit', (event) => {
  event.preventDefault();
  const text = view.text.value;
  log(session?.say(text) ? `> ${text}` : 'error: there is no open data channel');
});
view.post.addEventListener('click', () => {
  attempt(async () => {
    if (!session) throw new Error('There is no session');
    await message(session.id, view.text.value);
  });
});

// What is asked for in the address is chosen.
const query = new URLSearchParams(location.search);
for (const field of fields) {
  const wanted = query.get(field.id);
  if ([...field.options].some((option) => option.value === wanted)) field.value = wanted ?? field.value;
}
