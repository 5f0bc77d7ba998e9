import { createContext } from 'preact';
import { useContext, useEffect, useMemo } from 'preact/hooks';
import type { Room } from '../model/room.js';
import { usePolling } from '../state/polling.js';
import { useApi } from '../state/session.js';
import { EventLog } from './event-log.js';
import { Inputs } from './inputs.js';
import { MixedStreams } from './mixed.js';
import { Outputs } from './outputs.js';
import { People } from './people.js';
import { LiveStore } from './store.js';
import { Streams } from './streams.js';
import { Subscriptions } from './subscriptions.js';

/** Ms between two looks at the statistics. */
const INTERVAL = 1500;

const LiveContext = createContext<{ store: LiveStore; room: Room } | undefined>(undefined);

export function useLive(): { store: LiveStore; room: Room } {
  const live = useContext(LiveContext);
  if (!live) throw new Error('no room is looked at here');
  return live;
}

const STATES = {
  connecting: ['soft', 'Connecting'],
  live: ['good', 'Live'],
  broken: ['warn', 'Reconnecting'],
  absent: ['soft', 'Looking every few seconds'],
} as const;

/** What is going on in a room. */
export function LivePanel({ room }: { room: Room }) {
  const api = useApi();
  const store = useMemo(() => new LiveStore(api, room._id), [api, room._id]);
  useEffect(() => {
    const end = new AbortController();
    void store.run(end.signal);
    return () => end.abort();
  }, [store]);
  const isRunning = store.participants.value.length > 0 || store.streams.value.length > 0;
  usePolling((signal) => store.count(signal), INTERVAL, store.isLoaded.value && isRunning, store);
  const [tone, words] = STATES[store.eventState.value];
  return (
    <LiveContext.Provider value={{ store, room }}>
      <div class="live-head">
        <p class={`state ${tone}`} data-testid="event-state" data-state={store.eventState.value}>
          <span class="state-dot" aria-hidden="true" />
          {words}
        </p>
        <p class="soft" data-testid="live-counts">
          {count(store.participants.value.length, 'participant')}, {count(store.forward.value.length, 'stream')}, {count(store.mixed.value.length, 'view')}
          {store.counts.value && `, ${count(store.subscriptions.value.length, 'subscription')}`}
        </p>
        {store.counts.value === false && <p class="soft">This server keeps no statistics.</p>}
      </div>
      {store.error.value && (
        <p class="error" role="alert">
          {store.error}
        </p>
      )}
      {store.isLoaded.value && !isRunning && (
        <p class="empty">
          Nobody is in this room, so it is not running. <a href={`#/rooms/${room._id}/invite`}>Invite someone</a>
        </p>
      )}
      <div class="live">
        <div class="live-main">
          <MixedStreams />
          <Streams />
          {store.counts.value && <Subscriptions />}
          <Inputs />
          {isRunning && <Outputs />}
        </div>
        <aside class="live-side" aria-label="People and events">
          <People />
          <EventLog />
        </aside>
      </div>
    </LiveContext.Provider>
  );
}

function count(n: number, of: string): string {
  return `${n} ${of}${n === 1 ? '' : 's'}`;
}
