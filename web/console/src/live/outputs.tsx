import { useSignal } from '@preact/signals';
import { tell } from '../state/notices.js';
import { Action } from '../ui/buttons.js';
import { Confirm } from '../ui/dialog.js';
import { ConditionLine } from './condition.js';
import { type Condition, useListings } from './listing.js';
import { OUTPUTS, type OutputKind, OutputForm } from './output-form.js';
import { useLive } from './panel.js';

const KINDS = Object.keys(OUTPUTS) as OutputKind[];

interface Output extends Condition {
  id: string;
  url?: string;
  storage?: { host?: string; file?: string };
  analytics?: { algorithm?: string };
  media?: Record<string, { from?: string; status?: string } | undefined>;
}

/** What leaves the room for elsewhere: streaming, recordings, analytics. */
export function Outputs() {
  const { store } = useLive();
  const { found: running, unavailable, refresh } = useListings<OutputKind, Output>(store, KINDS);
  const starting = useSignal<OutputKind | undefined>(undefined);
  const stopping = useSignal<{ kind: OutputKind; output: Output } | undefined>(undefined);
  return (
    <section class="section" data-testid="outputs">
      <h2>Outputs</h2>
      <div class="cards">
        {KINDS.map((kind) => (
          <div class="card output" key={kind} data-testid={kind}>
            <div class="stream-head">
              <h3>{OUTPUTS[kind].title}</h3>
              <span class="push">
                <Action class="plain" icon="plus" onClick={() => (starting.value = kind)} testId={`start-${kind}`}>
                  Start
                </Action>
              </span>
            </div>
            {unavailable.value[kind] && <p class="soft">{unavailable.value[kind]}</p>}
            <ul>
              {running.value[kind]?.map((output) => (
                <li key={output.id}>
                  <span class="output-words">
                    <strong>{output.url ?? output.storage?.file ?? output.analytics?.algorithm ?? output.id}</strong>
                    <span class="soft">
                      {Object.entries(output.media ?? {})
                        .map(([media, { from, status } = {}]) => `${media} of ${store.streamName(from)}${status === 'inactive' ? ', paused' : ''}`)
                        .join(', ')}
                    </span>
                    <ConditionLine state={output.state} reason={output.reason} />
                  </span>
                  <Action class="plain" icon="close" label={`Stop ${output.url ?? output.id}`} onClick={() => (stopping.value = { kind, output })} />
                </li>
              ))}
              {running.value[kind]?.length === 0 && <li class="soft">None</li>}
            </ul>
          </div>
        ))}
      </div>
      {starting.value && <OutputForm kind={starting.value} onClose={() => (starting.value = undefined)} onStarted={refresh} />}
      {stopping.value && (
        <Confirm
          title="Stop it?"
          action="Stop"
          onConfirm={async () => {
            const now = stopping.value;
            if (!now) return;
            await store.api.call('DELETE', `${store.path}/${now.kind}/${encodeURIComponent(now.output.id)}`);
            tell('Stopped.');
            refresh();
          }}
          onClose={() => (stopping.value = undefined)}
        >
          <p>
            {OUTPUTS[stopping.value.kind].title}: <code>{stopping.value.output.url ?? stopping.value.output.id}</code>
          </p>
        </Confirm>
      )}
    </section>
  );
}
