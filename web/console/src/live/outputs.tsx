import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ApiError, explain } from '../api/error.js';
import { tell } from '../state/notices.js';
import { Action } from '../ui/buttons.js';
import { Confirm } from '../ui/dialog.js';
import { OUTPUTS, type OutputKind, OutputForm } from './output-form.js';
import { useLive } from './panel.js';

/** Ms between two looks at what runs. */
const INTERVAL = 5000;

interface Output {
  id: string;
  url?: string;
  storage?: { host?: string; file?: string };
  analytics?: { algorithm?: string };
  media?: Record<string, { from?: string; status?: string } | undefined>;
}

/** What leaves the room for elsewhere: streaming, recordings, analytics. */
export function Outputs() {
  const { store } = useLive();
  const running = useSignal<Partial<Record<OutputKind, Output[]>>>({});
  const unavailable = useSignal<Partial<Record<OutputKind, string>>>({});
  const starting = useSignal<OutputKind | undefined>(undefined);
  const stopping = useSignal<{ kind: OutputKind; output: Output } | undefined>(undefined);
  const round = useSignal(0);
  useEffect(() => {
    const end = new AbortController();
    const look = async (kind: OutputKind) => {
      try {
        const listed = await store.api.get<Output[]>(`${store.path}/${kind}`, end.signal);
        running.value = { ...running.value, [kind]: listed };
        unavailable.value = { ...unavailable.value, [kind]: undefined };
      } catch (failure) {
        if (failure instanceof ApiError && failure.isAbsent) unavailable.value = { ...unavailable.value, [kind]: explain(failure) };
      }
    };
    const all = () => !document.hidden && void Promise.all((Object.keys(OUTPUTS) as OutputKind[]).map(look));
    all();
    const timer = setInterval(all, INTERVAL);
    return () => {
      clearInterval(timer);
      end.abort();
    };
  }, [store, round.value]);
  return (
    <section class="section" data-testid="outputs">
      <h2>Outputs</h2>
      <div class="cards">
        {(Object.keys(OUTPUTS) as OutputKind[]).map((kind) => (
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
                  </span>
                  <Action class="plain" icon="close" label={`Stop ${output.url ?? output.id}`} onClick={() => (stopping.value = { kind, output })} />
                </li>
              ))}
              {running.value[kind]?.length === 0 && <li class="soft">None</li>}
            </ul>
          </div>
        ))}
      </div>
      {starting.value && <OutputForm kind={starting.value} onClose={() => (starting.value = undefined)} onStarted={() => (round.value += 1)} />}
      {stopping.value && (
        <Confirm
          title="Stop it?"
          action="Stop"
          onConfirm={async () => {
            const now = stopping.value;
            if (!now) return;
            await store.api.call('DELETE', `${store.path}/${now.kind}/${encodeURIComponent(now.output.id)}`);
            tell('Stopped.');
            round.value += 1;
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
