import { useEffect, useRef } from 'preact/hooks';

/**
 * Asks again and again while the page is seen: at once, and `interval` ms after each answer. `ask` gets a signal that is aborted when the
 * answer is not needed any more; whether it is asked again at all is what it resolves to (`false`: no).
 */
export function usePolling(ask: (signal: AbortSignal) => Promise<boolean | void>, interval: number, active: boolean, key: unknown): void {
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    if (!active) return undefined;
    const end = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isAsking = false;
    const turn = async () => {
      if (isAsking || end.signal.aborted || document.hidden) return;
      isAsking = true;
      const goesOn = await latest.current(end.signal).catch(() => true);
      isAsking = false;
      if (goesOn === false) end.abort();
      else if (!end.signal.aborted) timer = setTimeout(() => void turn(), interval);
    };
    const onVisible = () => {
      clearTimeout(timer);
      void turn();
    };
    document.addEventListener('visibilitychange', onVisible);
    void turn();
    return () => {
      end.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onVisible);
    };
  }, [interval, active, key]);
}
