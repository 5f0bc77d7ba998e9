/** What the page knows about its own connectedness and visibility; tests play it. */
export interface Page {
  /** False if the browser is sure that there is no network. */
  readonly onLine: boolean;
  /** False while nobody can see the page. */
  readonly visible: boolean;
  /** Calls `listener` at each `name` event. Returns a function that stops it. */
  on(name: PageEvent, listener: () => void): () => void;
}

/** `online` and `offline` are the window's events, `visibility` the document's `visibilitychange`. */
export type PageEvent = 'online' | 'offline' | 'visibility';

/** The browser's page; outside of a page (a worker, a test) one that is online and seen, and never tells. */
export const browserPage: Page = {
  get onLine() {
    return globalThis.navigator?.onLine !== false;
  },
  get visible() {
    return globalThis.document?.visibilityState !== 'hidden';
  },
  on(name, listener) {
    const target: EventTarget | undefined = name === 'visibility' ? globalThis.document : globalThis;
    const event = name === 'visibility' ? 'visibilitychange' : name;
    target?.addEventListener?.(event, listener);
    return () => target?.removeEventListener?.(event, listener);
  },
};
