import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { explain } from '../api/error.js';
import { LivePanel } from '../live/panel.js';
import type { Room } from '../model/room.js';
import { EditorContext, SettingsEditor } from '../settings/editor.js';
import { SettingsPanel } from '../settings/panel.js';
import { go, guardLeaving, link } from '../state/router.js';
import { useApi } from '../state/session.js';
import { Action } from '../ui/buttons.js';
import { Icon } from '../ui/icons.js';
import { Tabs } from '../ui/tabs.js';
import { DeleteRoom } from './delete-room.js';
import { InvitePanel } from './invite.js';

/** One room: who is in it, how it is set up, who may come in. */
export function RoomPage({ id, tab, rest }: { id: string; tab: string; rest: string[] }) {
  const api = useApi();
  const editor = useSignal<SettingsEditor | undefined>(undefined);
  const error = useSignal('');
  const isDeleting = useSignal(false);
  useEffect(() => {
    const end = new AbortController();
    api.exchange<Room>('GET', `/v1/rooms/${encodeURIComponent(id)}`, { signal: end.signal }).then(
      ({ value, etag }) => (editor.value = new SettingsEditor(api, value, etag)),
      (failure: unknown) => !end.signal.aborted && (error.value = explain(failure)),
    );
    return () => end.abort();
  }, [api, id]);
  useEffect(() => {
    const isDirty = () => editor.value?.isDirty.value ?? false;
    const leaves = () => !location.hash.startsWith(link('rooms', id));
    guardLeaving(() => !leaves() || !isDirty() || confirm('There are changes that are not saved. Leave without them?'));
    const beforeUnload = (event: BeforeUnloadEvent) => isDirty() && event.preventDefault();
    addEventListener('beforeunload', beforeUnload);
    return () => {
      guardLeaving(undefined);
      removeEventListener('beforeunload', beforeUnload);
    };
  }, [id]);
  const now = editor.value;
  if (!now) {
    return (
      <div class="page">
        <h1 tabIndex={-1}>Room</h1>
        {error.value ? (
          <p class="error" role="alert">
            {error}
          </p>
        ) : (
          <p class="waiting">Loading…</p>
        )}
        <a href="#/rooms">All rooms</a>
      </div>
    );
  }
  const room = now.base.value;
  return (
    <EditorContext.Provider value={now}>
      <div class="page">
        <header class="page-head">
          <div class="room-title">
            <a class="back" href="#/rooms">
              <Icon name="back" /> Rooms
            </a>
            <h1 tabIndex={-1}>{room.name}</h1>
            <code class="soft">{room._id}</code>
          </div>
          <div class="page-tools">
            <Action class="plain" icon="trash" onClick={() => (isDeleting.value = true)} testId="delete-room">
              Delete
            </Action>
          </div>
        </header>
        <Tabs
          label="Room"
          current={tab}
          onSelect={(next) => go(link('rooms', id, next))}
          tabs={[
            { id: 'live', label: 'Live' },
            { id: 'settings', label: 'Settings', flawed: now.isDirty.value && Object.keys(now.problems.value).length > 0 },
            { id: 'invite', label: 'Invite' },
          ]}
        />
        <section role="tabpanel" id={`panel-${tab}`} aria-labelledby={`tab-${tab}`}>
          {tab === 'settings' ? <SettingsPanel section={rest[0] ?? 'general'} /> : tab === 'invite' ? <InvitePanel room={room} /> : <LivePanel room={room} />}
        </section>
        {isDeleting.value && <DeleteRoom room={room} onClose={() => (isDeleting.value = false)} onDeleted={() => (now.revert(), go('#/rooms'))} />}
      </div>
    </EditorContext.Provider>
  );
}
