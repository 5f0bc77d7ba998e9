import { describe, expect, it } from 'vitest';
import { StatsReader } from '../src/stats.js';

type Entry = Record<string, unknown> & { id: string; type: string };

const report = (...entries: Entry[]) => new Map(entries.map((entry) => [entry.id, entry as unknown as RTCStats]));

const codec: Entry = { id: 'c', type: 'codec', mimeType: 'video/VP8' };

const received = (second: number, bytes: number, packets: number, lost: number): Entry => ({
  id: 'in', type: 'inbound-rtp', kind: 'video', codecId: 'c', timestamp: second * 1000, bytesReceived: bytes,
  packetsReceived: packets, packetsLost: lost, frameWidth: 640, frameHeight: 360, framesPerSecond: 25,
});

const layer = (rid: string, second: number, bytes: number, height: number): Entry => ({
  id: rid, type: 'outbound-rtp', kind: 'video', codecId: 'c', timestamp: second * 1000, bytesSent: bytes,
  packetsSent: bytes / 1000, frameWidth: (height * 16) / 9, frameHeight: height, framesPerSecond: 30,
});

describe('statistics', () => {
  it('of a first look have no rates', () => {
    const [video] = new StatsReader().read(report(codec, received(1, 100_000, 100, 0)));
    expect(video).toMatchObject({ kind: 'video', codec: 'VP8', width: 640, height: 360, framesPerSecond: 25 });
    expect(video?.bitrate).toBeUndefined();
    expect(video?.loss).toBeUndefined();
  });

  it('of a second look have rates of the time between', () => {
    const reader = new StatsReader();
    const pair: Entry = { id: 'p', type: 'candidate-pair', currentRoundTripTime: 0.04 };
    const transport: Entry = { id: 't', type: 'transport', selectedCandidatePairId: 'p' };
    reader.read(report(codec, received(1, 100_000, 100, 50)));
    const [video] = reader.read(report(codec, pair, transport, received(3, 350_000, 190, 60)));
    expect(video).toMatchObject({ bitrate: 1000, loss: 0.1, roundTrip: 0.04 });
  });

  it('of a simulcast track are the sum of its layers and the size of the largest', () => {
    const reader = new StatsReader();
    reader.read(report(codec, layer('q', 1, 0, 180), layer('f', 1, 0, 720)));
    const remote: Entry = { id: 'r', type: 'remote-inbound-rtp', kind: 'video', localId: 'f', packetsLost: 5, roundTripTime: 0.1 };
    const [video] = reader.read(report(codec, remote, layer('q', 2, 25_000, 180), layer('f', 2, 225_000, 720)));
    expect(video).toMatchObject({ bitrate: 2000, height: 720, loss: 0.02, roundTrip: 0.1 });
  });

  it('of nothing are nothing', () => {
    expect(new StatsReader().read(new Map())).toEqual([]);
  });
});
