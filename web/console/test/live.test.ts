import { describe, expect, it } from 'vitest';
import { History, sentSummary, SPAN, summary } from '../src/live/history.js';
import { requestedLayout } from '../src/live/layout-dialog.js';
import type { RoomStats, TrackStats } from '../src/model/live.js';
import type { Template } from '../src/model/room.js';
import { ago, bitrate, percent } from '../src/ui/format.js';

const track = (kind: 'audio' | 'video', change: Partial<TrackStats>): TrackStats => ({
  id: kind, kind, flowing: true, bitrate: 0, packets: 0, bytes: 0, packetsLost: 0, fractionLost: 0, frames: 0, keyFrames: 0, retransmitted: 0, nacks: 0, plis: 0, firs: 0, takers: 0,
  ...change,
});

function stats(rate: number): RoomStats {
  return {
    time: 1,
    streams: [{ id: 's', time: 1, rtt: 20, subscriptions: 1, tracks: [track('audio', { bitrate: 30_000, fractionLost: 0.02 }), track('video', { bitrate: rate, frameRate: 15 }), track('video', { bitrate: rate, frameRate: 30 })] }],
    subscriptions: [],
  };
}

describe('statistics', () => {
  it('of a stream are those of all its tracks', () => {
    expect(summary(stats(500_000).streams[0]!)).toEqual({ bitrate: 1_030_000, loss: 0.02, rtt: 20, frameRate: 30 });
  });

  it('of a subscription are of what is sent', () => {
    const subscription = { id: 'x', participant: 'p', tracks: [{ kind: 'video', from: 's', sent: { bitrate: 7, fractionLost: 0.5 } }, { kind: 'audio', from: 's' }] } as const;
    expect(sentSummary(subscription as never)).toEqual({ bitrate: 7, loss: 0.5, rtt: undefined, frameRate: undefined });
  });

  it('are kept for three minutes, and not of what is gone', () => {
    const history = new History();
    for (let now = 0; now <= SPAN + 10_000; now += 1000) history.add(stats(now), now);
    const { times, values } = history.get('s', 'bitrate');
    expect(times[0]).toBeGreaterThan(10_000 - 1);
    expect(values.at(-1)).toBe(2 * (SPAN + 10_000) + 30_000);
    history.add({ time: 2, streams: [], subscriptions: [] }, SPAN + 11_000);
    expect(history.get('s', 'bitrate').values).toEqual([]);
  });

  it('are told in words', () => {
    expect([bitrate(1_240_000), bitrate(30_400), bitrate(undefined), percent(0.031), percent(0), percent(0.5)]).toEqual(['1.24 Mbit/s', '30 kbit/s', '–', '3.1 %', '0 %', '50 %']);
    expect([ago(0, 5000), ago(0, 90_000), ago(0, 3_700_000), ago(0, 90_000_000)]).toEqual(['5 s ago', '1 min ago', '1 h 1 min ago', '1 d 1 h ago']);
  });
});

describe('a layout for a view that runs', () => {
  const region = (id: string) => ({ id, shape: 'rectangle' as const, area: { left: '0', top: '0', width: '2/4', height: '1' } });
  const template: Template = { region: [region('a'), region('b'), region('c')] };

  it('has those who are named first, as the server wants it', () => {
    const wanted = requestedLayout(template, { c: 'stream-1' });
    expect('layout' in wanted && wanted.layout.map(({ region: { id, area }, stream }) => [id, stream, area.width])).toEqual([
      ['c', 'stream-1', '1/2'],
      ['a', undefined, '1/2'],
      ['b', undefined, '1/2'],
    ]);
  });

  it('is not sent if the server would refuse it', () => {
    expect(requestedLayout(template, { a: 's', b: 's' })).toEqual({ error: 'One stream is in two regions.' });
    expect(requestedLayout({ region: [region('a'), region('a')] }, {})).toHaveProperty('error');
  });
});
