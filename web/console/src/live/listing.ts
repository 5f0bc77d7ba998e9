import { type Signal, useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ApiError, explain } from '../api/error.js';
import type { LiveStore } from './store.js';

/** Ms between two looks at what runs. */
const INTERVAL = 5000;

/** How something that runs is. */
export interface Condition {
  state?: 'starting' | 'active' | 'trouble' | 'failed';
  reason?: string;
}

/** Lists of a room that no event tells of, by the last part of their paths. */
export interface Listings<K extends string, T> {
  found: Signal<Partial<Record<K, T[]>>>;
  /** Why the server has none. */
  unavailable: Signal<Partial<Record<K, string>>>;
  /** Looks again. */
  refresh: () => void;
}

/** Looks at them again and again while the page is seen. */
export function useListings<K extends string, T>(store: LiveStore, kinds: readonly K[]): Listings<K, T> {
  const found = useSignal<Partial<Record<K, T[]>>>({});
  const unavailable = useSignal<Partial<Record<K, string>>>({});
  const round = useSignal(0);
  useEffect(() => {
    const end = new AbortController();
    const look = async (kind: K) => {
      try {
        const listed = await store.api.get<T[]>(`${store.path}/${kind}`, end.signal);
        found.value = { ...found.value, [kind]: listed };
        unavailable.value = { ...unavailable.value, [kind]: undefined };
      } catch (failure) {
        if (failure instanceof ApiError && failure.isAbsent) unavailable.value = { ...unavailable.value, [kind]: explain(failure) };
      }
    };
    const all = () => !document.hidden && void Promise.all(kinds.map(look));
    all();
    const timer = setInterval(all, INTERVAL);
    return () => {
      clearInterval(timer);
      end.abort();
    };
  }, [store, round.value]);
  return { found, unavailable, refresh: () => (round.value += 1) };
}
