import { useSignal } from '@preact/signals';
import { type Participant, userName } from '../model/live.js';
import { attempt, tell } from '../state/notices.js';
import { Action } from '../ui/buttons.js';
import { Confirm } from '../ui/dialog.js';
import { Toggle } from '../ui/fields.js';
import { useLive } from './panel.js';

const RIGHTS = [
  ['publish', 'audio'],
  ['publish', 'video'],
  ['subscribe', 'audio'],
  ['subscribe', 'video'],
] as const;

/** Who is in the room, and what each may do. */
export function People() {
  const { store } = useLive();
  const leaving = useSignal<Participant | undefined>(undefined);
  const drop = async (participant: Participant) => {
    await store.api.call('DELETE', `${store.path}/participants/${encodeURIComponent(participant.id)}`);
    tell(`${userName(participant.user)} was dropped.`);
    store.refresh();
  };
  return (
    <section class="card people" data-testid="people">
      <header>
        <h2>
          People <span class="badge">{store.participants.value.length}</span>
        </h2>
      </header>
      <ul>
        {store.participants.value.map((participant) => {
          const name = userName(participant.user);
          return (
            <li key={participant.id} data-testid="participant" data-user={name}>
              <div class="person">
                <span class="avatar" style={{ '--hue': String(hueOf(name)) }} aria-hidden="true">
                  {[...name][0]?.toUpperCase()}
                </span>
                <span class="person-name">
                  <strong>{name}</strong>
                  <span class="soft">{participant.role}</span>
                </span>
                <Action class="plain" icon="drop" label={`Drop ${name}`} onClick={() => (leaving.value = participant)} testId="drop" />
              </div>
              <details>
                <summary>Permissions</summary>
                <div class="permissions">
                  {RIGHTS.map(([action, kind]) => (
                    <Toggle
                      key={`${action}/${kind}`}
                      label={`${action} ${kind}`}
                      value={participant.permission?.[action]?.[kind] === true}
                      onChange={(value) => void attempt(`Changing the permissions of ${name}`, () => store.permit(participant.id, `${action}/${kind}`, value)).then(() => store.refresh())}
                      testId={`permit-${action}-${kind}`}
                    />
                  ))}
                </div>
              </details>
            </li>
          );
        })}
      </ul>
      {leaving.value && (
        <Confirm title={`Drop ${userName(leaving.value.user)}?`} action="Drop" onConfirm={() => drop(leaving.value as Participant)} onClose={() => (leaving.value = undefined)}>
          <p>The participant is put out of the room, with all streams. Only a new token lets in again.</p>
        </Confirm>
      )}
    </section>
  );
}

/** A hue, 0 to 359, that stays the same for a name. */
function hueOf(name: string): number {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 997;
  return (hash * 47) % 360;
}
