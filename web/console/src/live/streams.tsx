import { useSignal } from '@preact/signals';
import type { Stream, StreamStats } from '../model/live.js';
import { formatName } from '../model/room.js';
import { tell } from '../state/notices.js';
import { Action } from '../ui/buttons.js';
import { Confirm } from '../ui/dialog.js';
import * as format from '../ui/format.js';
import { useLive } from './panel.js';
import { StatsRow } from './stats-row.js';

/** What is published in the room. */
export function Streams() {
  const { store } = useLive();
  const doomed = useSignal<Stream | undefined>(undefined);
  const remove = async (stream: Stream) => {
    await store.api.call('DELETE', `${store.path}/streams/${encodeURIComponent(stream.id)}`);
    tell('The stream is ended.');
    store.refresh();
  };
  if (store.forward.value.length === 0) return null;
  return (
    <section class="section">
      <h2>
        Streams <span class="badge">{store.forward.value.length}</span>
      </h2>
      <ul class="stack">
        {store.forward.value.map((stream) => (
          <StreamCard key={stream.id} stream={stream} onRemove={() => (doomed.value = stream)} />
        ))}
      </ul>
      {doomed.value && (
        <Confirm title="End the stream?" action="End the stream" onConfirm={() => remove(doomed.value as Stream)} onClose={() => (doomed.value = undefined)}>
          <p>
            {store.streamName(doomed.value.id)} stops being sent to anybody. Its owner may publish again.
          </p>
        </Confirm>
      )}
    </section>
  );
}

function StreamCard({ stream, onRemove }: { stream: Stream; onRemove: () => void }) {
  const { store, room } = useLive();
  const name = store.streamName(stream.id);
  const stats = store.stats.value?.streams?.find((one) => one.id === stream.id);
  const views = store.mixed.value.map((mixed) => mixed.info.label ?? '').filter(Boolean);
  const labels = views.length > 0 ? views : room.views.map((view) => view.label);
  return (
    <li class="card stream" data-testid="stream" data-stream={stream.id} data-owner={name}>
      <div class="stream-head">
        <h3>{name}</h3>
        <span class="chips">
          {stream.media.video?.parameters?.resolution && <span class="badge">{format.size(stream.media.video.parameters.resolution)}</span>}
          {stream.media.video?.format && <span class="badge">{formatName(stream.media.video.format)}</span>}
          {stream.media.audio?.format && <span class="badge">{stream.media.audio.format.codec}</span>}
          {stats && stats.subscriptions > 0 && <span class="badge">{stats.subscriptions === 1 ? '1 subscription' : `${stats.subscriptions} subscriptions`}</span>}
        </span>
        <span class="buttons nowrap push">
          <MuteButton stream={stream} kind="audio" />
          <MuteButton stream={stream} kind="video" />
          <Action class="plain" icon="trash" label={`End the stream of ${name}`} onClick={onRemove} testId="remove-stream" />
        </span>
      </div>
      {labels.length > 0 && (
        <div class="mix-row" role="group" aria-label={`Views that ${name} is in`}>
          <span class="soft">In view</span>
          {labels.map((label) => {
            const isIn = stream.info.inViews?.includes(label) ?? false;
            return (
              <Action
                key={label}
                what={isIn ? 'Unmixing' : 'Mixing'}
                class="chip"
                icon={isIn ? 'check' : 'plus'}
                pressed={isIn}
                onClick={() => store.patch(stream.id, [{ op: isIn ? 'remove' : 'add', path: '/info/inViews', value: label }])}
                testId={`mix-${label}`}
              >
                {label}
              </Action>
            );
          })}
        </div>
      )}
      <StatsRow id={stream.id} />
      {stats && stats.tracks.length > 0 && <TrackTable stats={stats} name={name} />}
    </li>
  );
}

function MuteButton({ stream, kind }: { stream: Stream; kind: 'audio' | 'video' }) {
  const { store } = useLive();
  const media = stream.media[kind];
  if (!media) return null;
  const isOff = media.status === 'inactive';
  const name = store.streamName(stream.id);
  const icon = kind === 'audio' ? (isOff ? 'microphoneOff' : 'microphone') : isOff ? 'cameraOff' : 'camera';
  return (
    <Action
      class={isOff ? 'plain off' : 'plain'}
      icon={icon}
      label={`${isOff ? 'Unmute' : 'Mute'} the ${kind} of ${name}`}
      onClick={() => store.patch(stream.id, [{ op: 'replace', path: `/media/${kind}/status`, value: isOff ? 'active' : 'inactive' }])}
      testId={`mute-${kind}`}
    />
  );
}

/** Each track, and each layer of a simulcast video. */
function TrackTable({ stats, name }: { stats: StreamStats; name: string }) {
  return (
    <details class="tracks">
      <summary>
        {stats.tracks.length === 1 ? '1 track' : `${stats.tracks.length} tracks and layers`}
      </summary>
      <div class="table-wrap" tabIndex={0} role="group" aria-label={`Tracks of ${name}`}>
        <table class="numbers" data-testid="tracks">
          <thead>
            <tr>
              {['Track', 'Bitrate', 'Frames', 'Size', 'Lost', 'Jitter', 'Key frames', 'NACK', 'PLI', 'Taken by'].map((title) => (
                <th scope="col" key={title}>
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {stats.tracks.map((track) => (
              <tr key={track.id} class={track.flowing ? undefined : 'still'}>
                <th scope="row">
                  {track.kind}
                  {track.rid && ` ${track.rid}`}
                  {!track.flowing && <span class="badge">still</span>}
                </th>
                <td>{format.bitrate(track.bitrate)}</td>
                <td>{track.kind === 'video' ? format.fps(track.frameRate) : ''}</td>
                <td>{track.kind === 'video' ? format.size(track.resolution) : ''}</td>
                <td>{format.percent(track.fractionLost)}</td>
                <td>{format.ms(track.jitter)}</td>
                <td>{track.kind === 'video' ? track.keyFrames : ''}</td>
                <td>{track.nacks}</td>
                <td>{track.kind === 'video' ? track.plis : ''}</td>
                <td>{track.takers}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
