import { useSignal } from '@preact/signals';
import { explain } from '../api/error.js';
import type { Webhook } from '../model/admin.js';
import { useApi } from '../state/session.js';
import { Dialog, FormEnd } from '../ui/dialog.js';
import { Segments, TextField } from '../ui/fields.js';

/** Families of events, and what is in them. */
export const EVENT_FAMILIES: Record<string, string> = {
  'room.*': 'Rooms: created, changed, deleted; started, ended',
  'participant.*': 'People: joined, left, changed',
  'stream.*': 'Streams: added, changed, removed',
  'subscription.*': 'Subscriptions: added, removed',
};

interface Props {
  /** The one that is edited; a new one without. */
  hook: Webhook | undefined;
  base: string;
  onClose: () => void;
  onSaved: (hook: Webhook) => void;
}

/** Address and events of a webhook. */
export function WebhookForm({ hook, base, onClose, onSaved }: Props) {
  const api = useApi();
  const url = useSignal(hook?.url ?? 'https://');
  const which = useSignal(hook?.events?.length ? 'some' : 'all');
  const events = useSignal<string[]>(hook?.events ?? []);
  const urlError = useSignal('');
  const error = useSignal('');
  const listed = [...new Set([...Object.keys(EVENT_FAMILIES), ...(hook?.events ?? [])])];
  const submit = async (event: Event) => {
    event.preventDefault();
    urlError.value = isWebAddress(url.value) ? '' : 'An address that begins with https:// or http://.';
    error.value = which.value === 'some' && events.value.length === 0 ? 'Choose one kind of events at least.' : '';
    if (urlError.value || error.value) return;
    const body = { url: url.value.trim(), events: which.value === 'all' ? [] : events.value };
    try {
      onSaved(hook ? await api.call<Webhook>('PUT', `${base}/${hook.id}`, { body }) : await api.call<Webhook>('POST', base, { body }));
    } catch (failure) {
      error.value = explain(failure);
    }
  };
  return (
    <Dialog title={hook ? 'Webhook' : 'New webhook'} onClose={onClose} testId="webhook-dialog">
      <form class="stack" onSubmit={(event) => void submit(event)} noValidate>
        <TextField label="Address" type="url" value={url.value} onChange={(value) => (url.value = value)} error={urlError.value || undefined} testId="webhook-url" />
        <Segments
          label="Which events"
          value={which.value}
          onChange={(value) => (which.value = value)}
          options={[
            { value: 'all', label: 'All events' },
            { value: 'some', label: 'Only some' },
          ]}
        />
        {which.value === 'some' && (
          <fieldset class="checks">
            <legend class="unseen">Events</legend>
            {listed.map((type) => (
              <label key={type}>
                <input
                  type="checkbox"
                  checked={events.value.includes(type)}
                  onChange={(change) =>
                    (events.value = change.currentTarget.checked ? [...events.value, type] : events.value.filter((other) => other !== type))
                  }
                />
                <span>
                  <code>{type}</code> <span class="soft">{EVENT_FAMILIES[type]}</span>
                </span>
              </label>
            ))}
          </fieldset>
        )}
        <FormEnd error={error.value} onClose={onClose} action={hook ? 'Save' : 'Create'} testId="webhook-save" />
      </form>
    </Dialog>
  );
}

function isWebAddress(text: string): boolean {
  try {
    return ['http:', 'https:'].includes(new URL(text.trim()).protocol);
  } catch {
    return false;
  }
}
