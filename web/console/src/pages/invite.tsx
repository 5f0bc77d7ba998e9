import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { explain } from '../api/error.js';
import type { Room } from '../model/room.js';
import { session, useApi } from '../state/session.js';
import { SelectField, TextField } from '../ui/fields.js';
import { Secret } from '../ui/secret.js';

/** For how long a token lets in, in seconds. */
const LIFE = 180;

interface Made {
  token: string;
  link: string;
  at: number;
}

/** Lets people in: a token for one's own application, or a link to the sample application. */
export function InvitePanel({ room }: { room: Room }) {
  const api = useApi();
  const user = useSignal('guest');
  const role = useSignal(room.roles[0]?.role ?? '');
  const made = useSignal<Made | undefined>(undefined);
  const error = useSignal('');
  const left = useSignal(0);
  useEffect(() => {
    if (!made.value) return undefined;
    const { at } = made.value;
    const tick = () => (left.value = Math.max(0, Math.round(LIFE - (Date.now() - at) / 1000)));
    tick();
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, [made.value]);
  const make = async (event: Event) => {
    event.preventDefault();
    error.value = '';
    try {
      const token = await api.call<string>('POST', `/v1/rooms/${room._id}/tokens`, { body: { user: user.value.trim(), role: role.value } });
      made.value = { token, link: appLink(room._id, user.value.trim(), role.value, token), at: Date.now() };
    } catch (failure) {
      error.value = explain(failure);
    }
  };
  const open = appLink(room._id, '', role.value);
  return (
    <div class="columns">
      <form class="card group" onSubmit={(event) => void make(event)}>
        <header>
          <div>
            <h2>A token</h2>
            <p class="hint">It lets one person in once, within three minutes.</p>
          </div>
        </header>
        <div class="stack">
          <TextField label="User" value={user.value} onChange={(value) => (user.value = value)} testId="token-user" />
          <SelectField label="Role" value={role.value} onChange={(value) => (role.value = value)} options={room.roles.map((one) => ({ value: one.role, label: one.role }))} testId="token-role" />
          {error.value && (
            <p class="error" role="alert">
              {error}
            </p>
          )}
          <div class="buttons">
            <button type="submit" class="primary" data-testid="make-token">
              Make a token
            </button>
          </div>
          {made.value && (
            <div class="stack" data-testid="made-token">
              <p class={left.value > 0 ? 'hint' : 'problem'} role="status">
                {left.value > 0 ? `Good for ${left.value} s more, once.` : 'This token is too old by now.'}
              </p>
              <Secret label="Link into the sample application" text={made.value.link} testId="token-link" />
              <Secret label="Token" text={made.value.token} testId="token-text" />
              <a class="plain" href={made.value.link} target="_blank" rel="noreferrer noopener">
                Open it here
              </a>
            </div>
          )}
        </div>
      </form>
      {session.value?.config.sample !== false && (
        <section class="card group">
          <header>
            <div>
              <h2>An open link</h2>
              <p class="hint">For everybody who can reach this server, as often as they like: the sample application gets its tokens by itself.</p>
            </div>
          </header>
          <div class="stack">
            <Secret label="Link" text={open} testId="open-link" />
            <a class="plain" href={open} target="_blank" rel="noreferrer noopener">
              Open it here
            </a>
          </div>
        </section>
      )}
    </div>
  );
}

/** The sample application's address; what comes after `#` never leaves the browser. */
function appLink(room: string, name: string, role: string, token?: string): string {
  const url = new URL('../', location.href);
  url.search = '';
  url.hash = '';
  url.searchParams.set('room', room);
  if (role && role !== 'presenter') url.searchParams.set('role', role);
  if (name) url.searchParams.set('name', name);
  if (token) url.hash = `token=${encodeURIComponent(token)}`;
  return url.href;
}
