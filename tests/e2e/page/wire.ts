// Requests in the shapes of the protocol's versions; used by pages and by clients outside of browsers.

/** Versions of the client–portal protocol. */
export type Protocol = '1.0' | '1.1' | '1.2';

export type Kind = 'audio' | 'video';

/** A subscription's wish for one kind. */
export interface Wish {
  from: string;
  format?: object;
  parameters?: object;
  /** One layer of the stream, in 1.0 and 1.1. */
  simulcastRid?: string;
}

const SOURCES = { audio: 'mic', video: 'camera' };

/** Mids as browsers number the first m-lines. */
const MIDS = ['0', '1', '2', '3'];

/** What is asked for to publish these kinds, without a transport. */
export function publishing(protocol: Protocol, kinds: Kind[], mids = MIDS): object {
  if (protocol === '1.2') {
    const tracks = kinds.map((type, i) => ({ type, mid: mids[i], source: SOURCES[type] }));
    return { media: tracks.length > 0 ? { tracks } : null };
  }
  const of = (kind: Kind): object | false => kinds.includes(kind) && { source: SOURCES[kind] };
  return { media: { audio: of('audio'), video: of('video') } };
}

/** What is asked for to subscribe these kinds, without a transport. */
export function subscribing(protocol: Protocol, wishes: Partial<Record<Kind, Wish>>, mids = MIDS): object {
  if (protocol === '1.2') {
    const tracks = Object.entries(wishes).map(([type, wish], i) => ({ type, mid: mids[i], ...wish }));
    return { media: tracks.length > 0 ? { tracks } : null };
  }
  return { media: { audio: wishes.audio ?? false, video: wishes.video ?? false } };
}
