export type View = 'mix' | 'grid';

/** What the page's address asks for. */
export interface PageParameters {
  /** `name`: the participant's name. */
  name: string | undefined;
  /** `room`: the room's id or name; without it the server's default room. */
  room: string | undefined;
  /** `role`: the role in the room. */
  role: string;
  /** `view`: the mixed picture or everyone's own. */
  view: View;
  /** `join=1`: join without waiting for the button. */
  join: boolean;
  /** `camera`, `microphone`: `off` joins without, `generated` (camera only) sends a drawn picture. */
  camera: 'on' | 'off' | 'generated';
  microphone: 'on' | 'off';
  /** `simulcast=1`: send the camera in three sizes. */
  simulcast: boolean;
  /** `debug=1`: show the statistics from the start. */
  debug: boolean;
}

const DEFAULT_ROLE = 'presenter';

export function readParameters(search: string): PageParameters {
  const query = new URLSearchParams(search);
  const text = (name: string) => query.get(name)?.trim() || undefined;
  const flag = (name: string) => ['1', 'true', ''].includes(query.get(name) ?? 'no');
  const camera = query.get('camera');
  return {
    name: text('name'),
    room: text('room'),
    role: text('role') ?? DEFAULT_ROLE,
    view: query.get('view') === 'grid' ? 'grid' : 'mix',
    join: flag('join'),
    camera: camera === 'off' || camera === 'generated' ? camera : 'on',
    microphone: query.get('microphone') === 'off' ? 'off' : 'on',
    simulcast: flag('simulcast'),
    debug: flag('debug'),
  };
}

/** The token that a link brings behind its `#`, where servers don't see it. It lets in once. */
export function tokenOf(hash: string): string | undefined {
  return new URLSearchParams(hash.replace(/^#/, '')).get('token') || undefined;
}

/** The address that invites someone else into the room. */
export function inviteLink(page: string, room: string): string {
  const url = new URL(page);
  url.search = '';
  url.hash = '';
  url.searchParams.set('room', room);
  return url.href;
}
