import { useSignal } from '@preact/signals';
import type { KaigiEvent } from '../api/events.js';
import { userName } from '../model/live.js';
import { clock } from '../ui/format.js';
import { useLive } from './panel.js';
import type { LiveStore } from './store.js';

/** What happened of late. Not read out as it comes: it comes often. */
export function EventLog() {
  const { store } = useLive();
  const family = useSignal('');
  const events = store.events.value.filter((event) => event.type.startsWith(family.value));
  return (
    <section class="card events" data-testid="event-log">
      <header>
        <h2>Events</h2>
        <label>
          <span class="unseen">Which events</span>
          <select value={family} onChange={(event) => (family.value = event.currentTarget.value)}>
            <option value="">All</option>
            <option value="room.">Room</option>
            <option value="participant.">People</option>
            <option value="stream.">Streams</option>
            <option value="subscription.">Subscriptions</option>
          </select>
        </label>
      </header>
      {store.eventState.value === 'absent' && <p class="soft">This server tells no events; what is shown is looked up every few seconds.</p>}
      {events.length === 0 && store.eventState.value !== 'absent' && <p class="soft">Nothing yet.</p>}
      <ol tabIndex={0} aria-label="Events, the latest first">
        {events.map((event) => (
          <li key={event.id || `${String(event.time)}${event.type}`}>
            <time>{clock(event.time)}</time>
            <span>
              <strong>{event.type}</strong> {words(event, store)}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** What an event is about, in a few words. */
function words(event: KaigiEvent, store: LiveStore): string {
  const { participant, stream, subscription, reason, change } = event.data as Record<string, Record<string, unknown> | string | undefined>;
  const id = (thing: unknown) => (typeof thing === 'object' && thing !== null ? String((thing as { id?: unknown }).id ?? '') : '');
  const parts: string[] = [];
  if (typeof participant === 'object') parts.push(participant.user !== undefined ? `${userName(participant.user)} (${String(participant.role ?? '')})` : store.nameOf(id(participant)));
  if (stream) parts.push(store.streamName(id(stream)));
  if (typeof subscription === 'object') parts.push(String(subscription.participant ? store.nameOf(String(subscription.participant)) : id(subscription)));
  if (reason) parts.push(String(reason));
  // “.” is everything else.
  if (typeof change === 'string' && change !== '.') parts.push(change);
  return parts.join(' · ');
}
