import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Api } from '../src/api/client.js';
import { followEvents, type KaigiEvent, readEvent, type StreamState } from '../src/api/events.js';
import { EventStreamParser } from '../src/api/sse.js';

const message = (id: string, type: string) => `id: ${id}\nevent: ${type}\ndata: ${JSON.stringify({ id, type, time: 1, data: {} })}\n\n`;

describe('an event stream', () => {
  it('is read in whatever pieces it comes', () => {
    const text = `: hello\n\nid: 7\nevent: a\ndata: 1\ndata: 2\n\n${message('8', 'b')}`;
    for (let size = 1; size < 20; size++) {
      for (const ends of ['\n', '\r\n', '\r']) {
        const parser = new EventStreamParser();
        const bytes = text.replaceAll('\n', ends);
        const events = [];
        for (let i = 0; i < bytes.length; i += size) events.push(...parser.push(bytes.slice(i, i + size)));
        expect(events.map(({ id, type }) => [id, type]), `${size} ${JSON.stringify(ends)}`).toEqual([['7', 'a'], ['8', 'b']]);
        expect(events[0]!.data).toBe('1\n2');
      }
    }
  });

  it('does not fill the memory with one line', () => {
    const parser = new EventStreamParser();
    expect(() => parser.push('x'.repeat(1_000_001))).toThrow();
  });

  it('tells nothing of what is no event', () => {
    expect(readEvent('no json')).toBeUndefined();
    expect(readEvent('null')).toBeUndefined();
    expect(readEvent('{"type":1}')).toBeUndefined();
    expect(readEvent('{"type":"room.started"}')).toMatchObject({ type: 'room.started', data: {} });
  });
});

describe('following a room', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  /** Answers one request after the other; a text is a stream that ends with it. */
  function server(...answers: (string | number)[]) {
    const asked: string[] = [];
    const api = {
      fetch: (path: string) => {
        asked.push(path);
        const answer = answers.shift() ?? 404;
        return Promise.resolve(typeof answer === 'number' ? new Response('', { status: answer }) : new Response(answer));
      },
    };
    return { api: api as unknown as Api, asked };
  }

  it('goes on after the last event that came, and ends where there are no events', async () => {
    const { api, asked } = server(message('1', 'a') + message('2', 'b'), message('3', 'c'), 404);
    const events: KaigiEvent[] = [];
    const states: StreamState[] = [];
    const done = followEvents(api, 'r', { event: (event) => events.push(event), state: (state) => states.push(state) }, new AbortController().signal);
    await vi.advanceTimersByTimeAsync(60_000);
    await done;
    expect(events.map(({ id }) => id)).toEqual(['1', '2', '3']);
    expect(asked).toEqual(['/v1/events?room=r&after=0', '/v1/events?room=r&after=2', '/v1/events?room=r&after=3']);
    // That a stream ended and went on is nobody's business.
    expect(states).toEqual(['connecting', 'live', 'live', 'absent']);
  });

  it('tells that events were missed, but not of the time before it began', async () => {
    const { api } = server(`event: gap\ndata: {}\n\n${message('1', 'a')}`, 'event: gap\ndata: {}\n\n', 404);
    const types: string[] = [];
    const done = followEvents(api, 'r', { event: ({ type }) => types.push(type), state: () => {} }, new AbortController().signal);
    await vi.advanceTimersByTimeAsync(10_000);
    await done;
    expect(types).toEqual(['a', 'gap']);
  });

  it('tries again, ever less often', async () => {
    const { api, asked } = server(...Array<number>(100).fill(503));
    const end = new AbortController();
    const done = followEvents(api, 'r', { event: () => {}, state: () => {} }, end.signal);
    await vi.advanceTimersByTimeAsync(2000);
    expect(asked.length).toBeGreaterThanOrEqual(2);
    const before = asked.length;
    await vi.advanceTimersByTimeAsync(120_000);
    expect(asked.length - before).toBeLessThan(18);
    end.abort();
    await vi.advanceTimersByTimeAsync(1000);
    await done;
  });
});
