import type { RoomStats, StreamStats, Subscription, TrackStats } from '../model/live.js';

/** For how long the past is kept, in ms. */
export const SPAN = 180_000;
/** Values of one series that are kept at most. */
const MOST = 400;

/** One value after another; `NaN` where there was none. */
export interface Series {
  times: number[];
  values: number[];
}

export type Measure = 'bitrate' | 'loss' | 'rtt' | 'frameRate';

/** What all tracks of a stream come to. */
export interface Summary {
  bitrate: number;
  /** 0 to 1, of the packets of late. */
  loss: number;
  /** ms */
  rtt: number | undefined;
  frameRate: number | undefined;
}

/** The sum of the tracks; the frame rate is that of the best layer. */
export function summary(stats: StreamStats): Summary {
  const tracks = stats.tracks ?? [];
  const rates = tracks.map((track) => track.frameRate).filter((rate): rate is number => rate !== undefined);
  return { bitrate: sum(tracks, (track) => track.bitrate), loss: worst(tracks), rtt: stats.rtt, frameRate: rates.length > 0 ? Math.max(...rates) : undefined };
}

/** What a subscription gets in all. */
export function sentSummary(subscription: Subscription): Summary {
  const sent = (subscription.tracks ?? []).map((track) => track.sent ?? {});
  const rates = sent.map((one) => one.frameRate).filter((rate): rate is number => rate !== undefined);
  return {
    bitrate: sent.reduce((all, one) => all + (one.bitrate ?? 0), 0),
    loss: Math.max(0, ...sent.map((one) => one.fractionLost ?? 0)),
    rtt: subscription.rtt,
    frameRate: rates.length > 0 ? Math.max(...rates) : undefined,
  };
}

function sum(tracks: TrackStats[], of: (track: TrackStats) => number): number {
  return tracks.reduce((all, track) => all + (of(track) || 0), 0);
}

function worst(tracks: TrackStats[]): number {
  return Math.max(0, ...tracks.map((track) => track.fractionLost || 0));
}

/** The last minutes of everything that is counted. */
export class History {
  readonly #series = new Map<string, Series>();

  /** Takes in what was counted at one moment; forgets what is gone and what is too long ago. */
  add(stats: RoomStats, now: number): void {
    const seen = new Set<string>();
    const take = (id: string, { bitrate, loss, rtt, frameRate }: Summary) => {
      seen.add(id);
      for (const [measure, value] of Object.entries({ bitrate, loss, rtt, frameRate })) this.#push(`${id} ${measure}`, now, value ?? Number.NaN);
    };
    for (const stream of stats.streams ?? []) take(stream.id, summary(stream));
    for (const subscription of stats.subscriptions ?? []) take(subscription.id, sentSummary(subscription));
    for (const key of this.#series.keys()) if (!seen.has(key.slice(0, key.lastIndexOf(' ')))) this.#series.delete(key);
  }

  get(id: string, measure: Measure): Series {
    return this.#series.get(`${id} ${measure}`) ?? { times: [], values: [] };
  }

  #push(key: string, time: number, value: number): void {
    const { times, values } = this.#series.get(key) ?? { times: [], values: [] };
    const from = Math.max(times.findIndex((at) => at > time - SPAN), times.length >= MOST ? times.length - MOST + 1 : 0, 0);
    // New lists: what shows the old ones is not changed under its feet.
    this.#series.set(key, { times: [...times.slice(from), time], values: [...values.slice(from), value] });
  }
}
