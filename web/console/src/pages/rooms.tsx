import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { explain } from '../api/error.js';
import type { Room } from '../model/room.js';
import { link } from '../state/router.js';
import { useApi } from '../state/session.js';
import { Icon } from '../ui/icons.js';
import { CreateRoom } from './create-room.js';
import { DeleteRoom } from './delete-room.js';

/** Rooms shown at a time. */
const PER_PAGE = 20;
/** Rooms asked for at a time in a search, and looked through at most. */
const SEARCH_PAGE = 100;
const MOST_SEARCHED = 10_000;
/** Matches shown at most. */
const MOST_FOUND = 100;

/** All rooms of the service. */
export function RoomsPage() {
  const api = useApi();
  const page = useSignal(1);
  const query = useSignal('');
  const rooms = useSignal<Room[] | undefined>(undefined);
  const hasMore = useSignal(false);
  const remark = useSignal('');
  const error = useSignal('');
  const isCreating = useSignal(false);
  const doomed = useSignal<Room | undefined>(undefined);
  const round = useSignal(0);

  useEffect(() => {
    const end = new AbortController();
    const load = async () => {
      const wanted = query.value.trim().toLowerCase();
      remark.value = '';
      if (wanted === '') {
        const found = await api.get<Room[]>(`/v1/rooms?page=${page.value}&per_page=${PER_PAGE}`, end.signal);
        if (found.length === 0 && page.value > 1) return void (page.value -= 1);
        rooms.value = found;
        hasMore.value = found.length === PER_PAGE;
        return;
      }
      const found: Room[] = [];
      hasMore.value = false;
      for (let from = 1; (from - 1) * SEARCH_PAGE < MOST_SEARCHED; from++) {
        const some = await api.get<Room[]>(`/v1/rooms?page=${from}&per_page=${SEARCH_PAGE}`, end.signal);
        found.push(...some.filter((room) => room.name.toLowerCase().includes(wanted) || room._id.includes(wanted)));
        rooms.value = found.slice(0, MOST_FOUND);
        remark.value = found.length > MOST_FOUND ? `The first ${MOST_FOUND} matches.` : `${found.length} found.`;
        if (some.length < SEARCH_PAGE || found.length > MOST_FOUND) return;
      }
      remark.value = `The first ${MOST_SEARCHED} rooms were looked through.`;
    };
    // Not with every key.
    const timer = setTimeout(() => {
      error.value = '';
      load().catch((failure: unknown) => !end.signal.aborted && (error.value = explain(failure)));
    }, query.value ? 250 : 0);
    return () => {
      clearTimeout(timer);
      end.abort();
    };
  }, [api, page.value, query.value, round.value]);

  return (
    <div class="page">
      <header class="page-head">
        <h1 tabIndex={-1}>Rooms</h1>
        <div class="page-tools">
          <div class="search">
            <Icon name="search" />
            <input type="search" aria-label="Search rooms" placeholder="Search by name or id" value={query} onInput={(event) => (query.value = event.currentTarget.value)} data-testid="room-search" />
          </div>
          <button type="button" class="primary" onClick={() => (isCreating.value = true)} data-testid="create-room">
            <Icon name="plus" />
            New room
          </button>
        </div>
      </header>
      {error.value && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      <p class="unseen" role="status">
        {remark}
      </p>
      <RoomList rooms={rooms.value} isSearch={query.value.trim() !== ''} onDelete={(room) => (doomed.value = room)} />
      {(page.value > 1 || hasMore.value) && query.value.trim() === '' && (
        <nav class="pager" aria-label="Pages of rooms">
          <button type="button" class="plain" disabled={page.value === 1} onClick={() => (page.value -= 1)}>
            <Icon name="back" /> Earlier
          </button>
          <span>Page {page}</span>
          <button type="button" class="plain" disabled={!hasMore.value} onClick={() => (page.value += 1)} data-testid="next-page">
            Later <Icon name="forward" />
          </button>
        </nav>
      )}
      {remark.value && <p class="soft">{remark}</p>}
      {isCreating.value && <CreateRoom onClose={() => (isCreating.value = false)} />}
      {doomed.value && <DeleteRoom room={doomed.value} onClose={() => (doomed.value = undefined)} onDeleted={() => (round.value += 1)} />}
    </div>
  );
}

function RoomList({ rooms, isSearch, onDelete }: { rooms: Room[] | undefined; isSearch: boolean; onDelete: (room: Room) => void }) {
  if (!rooms) return <p class="waiting">Loading…</p>;
  if (rooms.length === 0) {
    return <p class="empty">{isSearch ? 'No room is called so.' : 'There is no room yet.'}</p>;
  }
  return (
    <div class="table-wrap card">
      <table class="rooms" data-testid="rooms">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Views</th>
            <th scope="col">Limits</th>
            <th scope="col">
              <span class="unseen">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rooms.map((room) => (
            <tr key={room._id} data-testid="room-row">
              <th scope="row">
                <a href={link('rooms', room._id, 'live')}>{room.name}</a>
                <code class="soft">{room._id}</code>
              </th>
              <td>
                <span class="chips">
                  {room.views.map((view) => (
                    <span class="badge" key={view.label}>
                      {view.label}
                      {view.video ? ` ${view.video.parameters.resolution.width}×${view.video.parameters.resolution.height}` : ' audio'}
                    </span>
                  ))}
                  {room.views.length === 0 && <span class="soft">no mixing</span>}
                </span>
              </td>
              <td class="soft">
                {limit(room.participantLimit, 'participants')}, {limit(room.inputLimit, 'inputs', 0)}
              </td>
              <td>
                <div class="buttons end nowrap">
                  <a class="plain" href={link('rooms', room._id, 'settings')}>
                    Settings
                  </a>
                  <button type="button" class="plain icon-only" aria-label={`Delete ${room.name}`} title="Delete" onClick={() => onDelete(room)}>
                    <Icon name="trash" />
                  </button>
                </div>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Limits below `least` are none. */
function limit(value: number, of: string, least = 1): string {
  return value >= least ? `${value} ${of}` : `any ${of}`;
}
