import { useSignal } from '@preact/signals';
import { valueOf } from '../model/fraction.js';
import type { Stream } from '../model/live.js';
import { formatName } from '../model/room.js';
import { rectangle } from '../model/templates.js';
import { Action } from '../ui/buttons.js';
import * as format from '../ui/format.js';
import { LayoutDialog } from './layout-dialog.js';
import { useLive } from './panel.js';
import { StatsRow } from './stats-row.js';

/** The mixed streams of a running room: who is where, and the tools to change that. */
export function MixedStreams() {
  const { store } = useLive();
  if (store.mixed.value.length === 0) return null;
  return (
    <section class="section">
      <h2>
        Views <span class="badge">{store.mixed.value.length}</span>
      </h2>
      <ul class="stack">
        {store.mixed.value.map((stream) => (
          <MixedCard key={stream.id} stream={stream} />
        ))}
      </ul>
    </section>
  );
}

function MixedCard({ stream }: { stream: Stream }) {
  const { store } = useLive();
  const isEditing = useSignal(false);
  const label = stream.info.label ?? stream.id;
  const layout = stream.info.layout ?? [];
  const filter = stream.info.filter && stream.info.filter !== 'none' ? stream.info.filter : 'none';
  const hasVideo = stream.media.video !== undefined;
  return (
    <li class="card mixed" data-testid="mixed" data-label={label}>
      <div class="stream-head">
        <h3>{label}</h3>
        <span class="chips">
          {stream.media.video?.parameters?.resolution && <span class="badge">{format.size(stream.media.video.parameters.resolution)}</span>}
          {stream.media.video?.format && <span class="badge">{formatName(stream.media.video.format)}</span>}
          {stream.media.audio?.format && <span class="badge">{stream.media.audio.format.codec}</span>}
        </span>
        {hasVideo && (
          <span class="buttons push">
            <Action
              class={filter === 'none' ? 'plain' : 'plain off'}
              icon="filter"
              pressed={filter !== 'none'}
              label={`Edge filter on ${label}`}
              onClick={() => store.patch(stream.id, [{ op: 'replace', path: '/info/filter', value: filter === 'none' ? 'edgedetect' : 'none' }])}
              testId="filter"
            />
            <Action class="plain" icon="mix" onClick={() => (isEditing.value = true)} testId="edit-layout" disabled={layout.length === 0}>
              Edit layout
            </Action>
          </span>
        )}
      </div>
      {hasVideo && (
        <div class="mixed-body">
          <LayoutPicture stream={stream} />
          <Places stream={stream} />
        </div>
      )}
      <StatsRow id={stream.id} isMade />
      {isEditing.value && <LayoutDialog stream={stream} onClose={() => (isEditing.value = false)} />}
    </li>
  );
}

/** The regions of now, with who is in them. */
function LayoutPicture({ stream }: { stream: Stream }) {
  const { store, room } = useLive();
  const view = room.views.find((one) => one.label === stream.info.label);
  const { width = 16, height = 9 } = stream.media.video?.parameters?.resolution ?? (view?.video ? view.video.parameters.resolution : {});
  const background = view?.video ? view.video.bgColor : { r: 0, g: 0, b: 0 };
  const layout = stream.info.layout ?? [];
  const shown = layout.filter((entry) => entry.stream).map((entry) => store.streamName(entry.stream));
  return (
    <div
      class="mini"
      role="img"
      aria-label={shown.length > 0 ? `In the picture: ${shown.join(', ')}` : 'Nobody is in the picture'}
      style={{ aspectRatio: `${width} / ${height}`, backgroundColor: `rgb(${background.r} ${background.g} ${background.b})` }}
      data-testid="mini"
    >
      {layout.map((entry, i) => {
        const sides = rectangle(entry.region);
        if (!sides) return null;
        const percent = (value: number) => `${value * 100}%`;
        return (
          <div
            key={entry.region.id}
            class={entry.stream ? 'mini-region filled' : 'mini-region'}
            data-stream={entry.stream}
            style={{
              left: percent(valueOf(sides.left)),
              top: percent(valueOf(sides.top)),
              width: percent(valueOf(sides.width)),
              height: percent(valueOf(sides.height)),
              '--hue': String((i * 47 + 165) % 360),
            }}
          >
            <span>{entry.stream ? store.streamName(entry.stream) : entry.region.id}</span>
          </div>
        );
      })}
    </div>
  );
}

/** Puts a stream into a region; the one that was there takes the other's place. */
function Places({ stream }: { stream: Stream }) {
  const { store } = useLive();
  const layout = stream.info.layout ?? [];
  const label = stream.info.label ?? '';
  const inView = store.forward.value.filter((one) => one.media.video && one.info.inViews?.includes(label));
  // Only a region that shows someone can be given to another.
  const filled = layout.flatMap((entry, i) => (entry.stream ? [{ ...entry, i }] : []));
  if (filled.length === 0) return <p class="soft">Nobody is in the picture.</p>;
  return (
    <ul class="places">
      {filled.map(({ region, stream: there, i }) => (
        <li key={region.id}>
          <label>
            <span>
              Region {region.id}
              {i === 0 && <span class="badge">primary</span>}
            </span>
            <select
              value={there}
              data-testid={`place-${i}`}
              onChange={(event) => {
                const wanted = event.currentTarget.value;
                if (wanted !== there) void assign(i, wanted);
              }}
            >
              {!inView.some((one) => one.id === there) && <option value={there}>{store.streamName(there)}</option>}
              {inView.map((one) => (
                <option key={one.id} value={one.id}>
                  {store.streamName(one.id)}
                </option>
              ))}
            </select>
          </label>
        </li>
      ))}
    </ul>
  );

  function assign(index: number, wanted: string): Promise<void> {
    return store.patch(stream.id, [{ op: 'replace', path: `/info/layout/${index}/stream`, value: wanted }]).catch((failure: unknown) => {
      store.error.value = failure instanceof Error ? failure.message : String(failure);
    });
  }
}
