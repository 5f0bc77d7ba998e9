import { useSignal } from '@preact/signals';
import { tell } from '../state/notices.js';
import { Action } from '../ui/buttons.js';
import { Confirm, Dialog } from '../ui/dialog.js';
import { Secret } from '../ui/secret.js';
import { ConditionLine } from './condition.js';
import { InputForm } from './input-form.js';
import { type Condition, useListings } from './listing.js';
import { useLive } from './panel.js';

const KIND = 'streaming-ins';

/** A stream from elsewhere, as the management API tells of it. */
export interface Input extends Condition {
  id: string;
  connection: { url: string; listen?: string; key?: string };
}

/** What comes into the room from elsewhere. */
export function Inputs() {
  const { store } = useLive();
  const { found, unavailable, refresh } = useListings<typeof KIND, Input>(store, [KIND]);
  const isStarting = useSignal(false);
  const begun = useSignal<Input | undefined>(undefined);
  const stopping = useSignal<Input | undefined>(undefined);
  return (
    <section class="section" data-testid="inputs">
      <h2>Inputs</h2>
      <div class="card output">
        <div class="stream-head">
          <h3>From cameras, servers and encoders</h3>
          <span class="push">
            <Action class="plain" icon="plus" onClick={() => (isStarting.value = true)} testId="start-input">
              Bring in
            </Action>
          </span>
        </div>
        {unavailable.value[KIND] && <p class="soft">{unavailable.value[KIND]}</p>}
        <ul>
          {found.value[KIND]?.map((input) => (
            <li key={input.id} data-testid="input">
              <span class="output-words">
                <strong>{named(input)}</strong>
                <ConditionLine state={input.state} reason={input.reason} />
              </span>
              <Action class="plain" icon="close" label={`End ${named(input)}`} onClick={() => (stopping.value = input)} />
            </li>
          ))}
          {found.value[KIND]?.length === 0 && <li class="soft">None</li>}
        </ul>
      </div>
      {isStarting.value && (
        <InputForm
          onClose={() => (isStarting.value = false)}
          onStarted={(input) => {
            begun.value = input;
            refresh();
          }}
        />
      )}
      {begun.value && (
        <Dialog title="Push to this room" onClose={() => (begun.value = undefined)} testId="push-dialog">
          <div class="stack">
            <p class="problem">The key is shown this once. Whoever has it can push the stream.</p>
            <Secret label="Server" text={begun.value.connection.url} testId="push-url" />
            <Secret label={begun.value.connection.listen === 'srt' ? 'Passphrase' : 'Stream key'} text={begun.value.connection.key ?? ''} testId="push-key" />
            <div class="buttons end">
              <button type="button" class="primary" onClick={() => (begun.value = undefined)}>
                Done
              </button>
            </div>
          </div>
        </Dialog>
      )}
      {stopping.value && (
        <Confirm
          title="End it?"
          action="End"
          onConfirm={async () => {
            const now = stopping.value;
            if (!now) return;
            await store.api.call('DELETE', `${store.path}/${KIND}/${encodeURIComponent(now.id)}`);
            tell('Ended.');
            refresh();
          }}
          onClose={() => (stopping.value = undefined)}
        >
          <p>
            <code>{named(stopping.value)}</code> leaves the room{stopping.value.connection.listen ? ', and its key is void' : ''}.
          </p>
        </Confirm>
      )}
    </section>
  );
}

function named({ id, connection }: Input): string {
  if (connection.listen) return `${id}, pushed by ${connection.listen.toUpperCase()}${connection.url && ` to ${connection.url}`}`;
  return connection.url;
}
