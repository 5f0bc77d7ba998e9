import { useSignal } from '@preact/signals';
import type { Decision, Subscription, SubscriptionTrack } from '../model/live.js';
import { formatName } from '../model/room.js';
import * as format from '../ui/format.js';
import { useLive } from './panel.js';
import { StatsRow } from './stats-row.js';

const LIMITS: Record<string, string> = {
  none: 'nothing limits it',
  bandwidth: 'limited by bandwidth',
  asked: 'as it was asked for',
  paused: 'paused',
  source: 'limited by the source',
};
const SERVED: Record<string, string> = { forward: 'forwarded', mixed: 'mixed', transcoded: 'transcoded' };
/** Decisions shown of each track. */
const MOST_DECISIONS = 20;

/** Subscriptions shown at a time: of a large room there are thousands. */
const MOST_SHOWN = 30;

/** Who gets what, and why so. */
export function Subscriptions() {
  const { store } = useLive();
  const of = useSignal('');
  const all = store.subscriptions.value;
  if (all.length === 0) return null;
  const owners = [...new Set(all.map((subscription) => subscription.participant))];
  const wanted = owners.includes(of.value) ? all.filter((subscription) => subscription.participant === of.value) : all;
  return (
    <section class="section">
      <div class="section-head">
        <h2>
          Subscriptions <span class="badge">{all.length}</span>
        </h2>
        {owners.length > 1 && (
          <label>
            <span class="unseen">Whose subscriptions</span>
            <select value={of} onChange={(event) => (of.value = event.currentTarget.value)}>
              <option value="">Everybody’s</option>
              {owners.map((owner) => (
                <option key={owner} value={owner}>
                  {store.nameOf(owner)}
                </option>
              ))}
            </select>
          </label>
        )}
      </div>
      <ul class="stack">
        {wanted.slice(0, MOST_SHOWN).map((subscription) => (
          <SubscriptionCard key={subscription.id} subscription={subscription} />
        ))}
      </ul>
      {wanted.length > MOST_SHOWN && <p class="soft">The first {MOST_SHOWN} of {wanted.length}. Choose whose you want to see.</p>}
    </section>
  );
}

function SubscriptionCard({ subscription }: { subscription: Subscription }) {
  const { store } = useLive();
  const name = store.nameOf(subscription.participant);
  const sources = [...new Set(subscription.tracks.map((track) => store.streamName(track.from)))].join(', ');
  return (
    <li class="card subscription" data-testid="subscription" data-subscription={subscription.id}>
      <div class="stream-head">
        <h3>
          {name} <span class="soft">gets</span> {sources}
        </h3>
        <span class="chips push">
          {subscription.estimatedBitrate !== undefined && <span class="badge">room for {format.bitrate(subscription.estimatedBitrate)}</span>}
          {subscription.rtt !== undefined && <span class="badge">{format.ms(subscription.rtt)}</span>}
        </span>
      </div>
      <ul class="why">
        {subscription.tracks.map((track) => (
          <TrackLine key={`${track.kind}-${track.from}`} track={track} />
        ))}
      </ul>
      <StatsRow id={subscription.id} />
      <Decisions tracks={subscription.tracks} />
    </li>
  );
}

/** What of a track is sent, and what keeps it from being more. */
function TrackLine({ track }: { track: SubscriptionTrack }) {
  const layer = track.layer && [track.layer.rid && `layer ${track.layer.rid}`, track.layer.resolution && format.size(track.layer.resolution)].filter(Boolean).join(', ');
  const asked = track.asked && [track.asked.resolution && format.size(track.asked.resolution), track.asked.framerate && `${track.asked.framerate} fps`, track.asked.bitrate].filter(Boolean).join(', ');
  const limit = track.limit ?? 'none';
  return (
    <li>
      <strong>{track.kind}</strong>
      <span>
        {[track.format && formatName(track.format), track.served && SERVED[track.served], layer, asked && `asked for ${asked}`].filter(Boolean).join(' · ')}
      </span>
      <span class={`badge ${limit === 'bandwidth' || limit === 'paused' ? 'warning' : ''}`} data-testid="limit" data-limit={limit}>
        {LIMITS[limit] ?? limit}
      </span>
      {track.sent?.bitrate !== undefined && <span class="soft">{format.bitrate(track.sent.bitrate)}</span>}
    </li>
  );
}

function Decisions({ tracks }: { tracks: SubscriptionTrack[] }) {
  const { store } = useLive();
  const all = tracks.flatMap((track) => (track.decisions ?? []).map((decision): Decision & { kind: string } => ({ ...decision, kind: track.kind })));
  const latest = all.sort((a, b) => b.time - a.time).slice(0, MOST_DECISIONS);
  if (latest.length === 0) return null;
  return (
    <details>
      <summary>Last decisions</summary>
      <ol class="decisions">
        {latest.map((decision, i) => (
          <li key={i}>
            <time>{format.clock(decision.time)}</time> <span class="soft">{decision.kind}</span> <strong>{store.trackName(decision.what)}</strong> {decision.why}
          </li>
        ))}
      </ol>
    </details>
  );
}
