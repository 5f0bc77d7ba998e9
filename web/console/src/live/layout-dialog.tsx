import { useSignal } from '@preact/signals';
import { explain } from '../api/error.js';
import { Bench } from '../layout/bench.js';
import type { LayoutEntry, Stream } from '../model/live.js';
import type { Template } from '../model/room.js';
import { flaw, tidied } from '../model/templates.js';
import { tell } from '../state/notices.js';
import { Dialog } from '../ui/dialog.js';
import { useLive } from './panel.js';

/** Which stream is in which region, by the region's id. */
export type Seats = Record<string, string>;

/**
 * The layout as the server takes it: regions with a stream come first, each stream once. The order of regions is kept otherwise.
 *
 * @returns why it would be refused, or the layout
 */
export function requestedLayout(template: Template, seats: Seats): { error: string } | { layout: LayoutEntry[] } {
  const error = flaw(template);
  if (error) return { error };
  const entries = tidied(template).region.map((region): LayoutEntry => {
    const stream = seats[region.id];
    return { region, ...(stream && { stream }) };
  });
  const named = entries.flatMap(({ stream }) => stream ?? []);
  if (new Set(named).size < named.length) return { error: 'One stream is in two regions.' };
  return { layout: [...entries.filter(({ stream }) => stream), ...entries.filter(({ stream }) => !stream)] };
}

/** Draws another layout for a view that runs, and says who is where in it. It lasts until the room ends. */
export function LayoutDialog({ stream, onClose }: { stream: Stream; onClose: () => void }) {
  const { store, room } = useLive();
  const layout = stream.info.layout ?? [];
  const template = useSignal<Template>(tidied({ region: layout.map((entry) => entry.region) }));
  const seats = useSignal<Seats>(Object.fromEntries(layout.flatMap((entry) => (entry.stream ? [[entry.region.id, entry.stream]] : []))));
  const error = useSignal('');
  const isBusy = useSignal(false);
  const view = room.views.find((one) => one.label === stream.info.label);
  const { width, height } = stream.media.video?.parameters?.resolution ?? (view?.video ? view.video.parameters.resolution : { width: 16, height: 9 });
  const label = stream.info.label ?? '';
  const inView = store.forward.value.filter((one) => one.media.video && one.info.inViews?.includes(label));
  const apply = async () => {
    const wanted = requestedLayout(template.value, seats.value);
    if ('error' in wanted) return void (error.value = wanted.error);
    error.value = '';
    isBusy.value = true;
    try {
      await store.patch(stream.id, [{ op: 'replace', path: '/info/layout', value: wanted.layout }]);
      tell(`The layout of ${label} is changed, until the room ends.`);
      onClose();
    } catch (failure) {
      error.value = explain(failure);
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <Dialog title={`Layout of ${label}`} onClose={onClose} wide testId="layout-dialog">
      <div class="stack">
        <p class="soft">It takes the place of all layouts of this view until the room ends. Those who are named are shown first, the others fill what is left.</p>
        <Bench
          template={template.value}
          onChange={(next) => (template.value = next)}
          aspect={width / height}
          background={view?.video ? view.video.bgColor : { r: 0, g: 0, b: 0 }}
          caption={(i) => {
            const seat = seats.value[template.value.region[i]?.id ?? ''];
            return seat && store.streamName(seat);
          }}
          extra={(i) => {
            const id = template.value.region[i]?.id ?? '';
            return (
              <label class="seat">
                <span>Shows</span>
                <select
                  value={seats.value[id] ?? ''}
                  onChange={(event) => {
                    const { [id]: _, ...others } = seats.value;
                    seats.value = event.currentTarget.value ? { ...others, [id]: event.currentTarget.value } : others;
                  }}
                  data-testid={`seat-${i}`}
                >
                  <option value="">whoever is next</option>
                  {inView.map((one) => (
                    <option key={one.id} value={one.id}>
                      {store.streamName(one.id)}
                    </option>
                  ))}
                </select>
              </label>
            );
          }}
        />
        {error.value && (
          <p class="error" role="alert" data-testid="layout-error">
            {error}
          </p>
        )}
        <div class="buttons end">
          <button type="button" class="plain" onClick={onClose}>
            Cancel
          </button>
          <button type="button" class="primary" onClick={() => void apply()} aria-busy={isBusy.value || undefined} data-testid="apply-layout">
            Apply
          </button>
        </div>
      </div>
    </Dialog>
  );
}
