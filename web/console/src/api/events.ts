import type { Api } from './client.js';
import { ApiError, readError } from './error.js';
import { EventStreamParser } from './sse.js';

/** Something that happened, as webhooks and event streams tell it. */
export interface KaigiEvent {
  id: string;
  type: string;
  /** Unix ms, or RFC 3339. */
  time: number | string;
  service?: string;
  room?: string;
  data: Record<string, unknown>;
}

/** How the stream does: `live`, or what the page has to live with meanwhile. */
export type StreamState = 'connecting' | 'live' | 'broken' | 'absent';

export interface EventListener {
  event(event: KaigiEvent): void;
  state(state: StreamState): void;
}

/** Pauses between attempts, in ms: the first, and the longest. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** A stream that lasted so long, in ms, ended as it should. */
const LASTING = 10_000;
/** Comments come every 15 s; a stream that is silent for so long is dead, in ms. */
const SILENCE = 40_000;

/** How far somebody has followed: the id of the last event, empty before the first. */
export interface Cursor {
  last: string;
}

/**
 * Follows the events of a room until `signal` is aborted, beginning with those that the server still keeps. A broken stream is taken up again after the last event that came;
 * a server that has no events ends it with `absent`.
 */
export async function followEvents(api: Api, room: string, listener: EventListener, signal: AbortSignal, cursor: Cursor = { last: '' }): Promise<void> {
  let pause = FIRST_PAUSE;
  /** The last stream came to its end, as each does when its token is too old: nobody needs to know. */
  let isSeamless = false;
  while (!signal.aborted) {
    if (!isSeamless) listener.state('connecting');
    const wasSeamless = isSeamless;
    isSeamless = false;
    let opened: number | undefined;
    let hasTold = false;
    try {
      await readStream(api, room, cursor.last, signal, {
        opened: () => {
          opened = Date.now();
          if (!wasSeamless) pause = FIRST_PAUSE;
          listener.state('live');
        },
        event: (event) => {
          // Of the time before, something is always missing.
          if (event.type === 'gap' && cursor.last === '') return;
          cursor.last = event.id || cursor.last;
          pause = FIRST_PAUSE;
          hasTold = true;
          listener.event(event);
        },
      });
      isSeamless = hasTold || (opened !== undefined && Date.now() - opened > LASTING);
    } catch (failure) {
      if (signal.aborted) return;
      if (failure instanceof ApiError && (failure.isAbsent || failure.status === 404 || failure.isUnauthorized)) {
        listener.state('absent');
        return;
      }
    }
    if (signal.aborted) return;
    if (!isSeamless) listener.state('broken');
    await sleep(pause * (0.75 + Math.random() / 2), signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

async function readStream(
  api: Api,
  room: string,
  after: string,
  signal: AbortSignal,
  to: { opened(): void; event(event: KaigiEvent): void },
): Promise<void> {
  const query = new URLSearchParams({ room, after: after || '0' });
  const silence = new AbortController();
  const give = AbortSignal.any([signal, silence.signal]);
  let watch = setTimeout(() => silence.abort(), SILENCE);
  try {
    const response = await api.fetch(`/v1/events?${query}`, { headers: { Accept: 'text/event-stream' }, signal: give });
    if (!response.ok || !response.body) throw readError(response.status, await response.text());
    to.opened();
    const parser = new EventStreamParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(() => silence.abort(), SILENCE);
      for (const message of parser.push(value)) {
        // Some were not kept for long enough: what is shown has to be looked up.
        const event = message.type === 'gap' ? { id: '', type: 'gap', time: Date.now(), data: {} } : readEvent(message.data);
        if (event) to.event({ ...event, id: message.id || event.id });
      }
    }
  } finally {
    clearTimeout(watch);
  }
}

/** An event's JSON; nothing for what is none. */
export function readEvent(text: string): KaigiEvent | undefined {
  try {
    const event = JSON.parse(text) as Partial<KaigiEvent> | null;
    if (typeof event?.type !== 'string') return undefined;
    return { ...event, id: event.id ?? '', type: event.type, time: event.time ?? Date.now(), data: event.data ?? {} };
  } catch {
    return undefined;
  }
}

/** Waits for some ms, or until it is given up. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
