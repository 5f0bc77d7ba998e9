import type { MediaKind } from '../../sdk/src/kaigi.js';

/** What a stream's user wants to know about one kind of its media. */
export interface Measure {
  kind: MediaKind;
  codec: string | undefined;
  width: number | undefined;
  height: number | undefined;
  framesPerSecond: number | undefined;
  /** Kilobits per second since the last look. */
  bitrate: number | undefined;
  /** Packets lost since the last look, as a share of those sent, 0 to 1. */
  loss: number | undefined;
  /** Seconds. */
  roundTrip: number | undefined;
}

interface Totals {
  at: number;
  bytes: number;
  packets: number;
  lost: number;
}

type Stats = Record<string, any>;

/** Turns a session's statistics, taken again and again, into rates. */
export class StatsReader {
  readonly #before = new Map<MediaKind, Totals>();

  read(report: ReadonlyMap<string, RTCStats>): Measure[] {
    const all: Stats[] = [...report.values()];
    return (['audio', 'video'] as const).flatMap((kind) => {
      const rtp = all.filter((stats) => /^(in|out)bound-rtp$/.test(stats.type) && (stats.kind ?? stats.mediaType) === kind);
      return rtp.length > 0 ? [this.#measure(kind, rtp, all)] : [];
    });
  }

  /** A simulcast track has several RTP streams: they share the rate, and the largest is the picture. */
  #measure(kind: MediaKind, rtp: Stats[], all: Stats[]): Measure {
    const largest = rtp.reduce((a, b) => ((b.frameHeight ?? 0) > (a.frameHeight ?? 0) ? b : a));
    const outbound = largest.type === 'outbound-rtp';
    const remote = all.filter((stats) => stats.type === 'remote-inbound-rtp' && rtp.some(({ id }) => id === stats.localId));
    const lossOf = outbound ? remote : rtp;
    const lost = sum(lossOf, 'packetsLost');
    const now: Totals = {
      at: largest.timestamp,
      bytes: sum(rtp, outbound ? 'bytesSent' : 'bytesReceived'),
      packets: sum(rtp, outbound ? 'packetsSent' : 'packetsReceived') + (outbound ? 0 : lost),
      lost,
    };
    const before = this.#before.get(kind);
    this.#before.set(kind, now);
    const elapsed = before ? (now.at - before.at) / 1000 : 0;
    const packets = before ? now.packets - before.packets : 0;
    const codec = all.find((stats) => stats.id === largest.codecId)?.mimeType as string | undefined;
    return {
      kind,
      codec: codec?.replace(/^\w+\//, ''),
      width: largest.frameWidth,
      height: largest.frameHeight,
      framesPerSecond: kind === 'video' ? largest.framesPerSecond : undefined,
      bitrate: before && elapsed > 0 ? Math.max(0, ((now.bytes - before.bytes) * 8) / elapsed / 1000) : undefined,
      loss: before && packets > 0 ? Math.min(1, Math.max(0, (now.lost - before.lost) / packets)) : undefined,
      roundTrip: remote.find(({ roundTripTime }) => roundTripTime !== undefined)?.roundTripTime ?? pairOf(all)?.currentRoundTripTime,
    };
  }
}

function sum(stats: Stats[], member: string): number {
  return stats.reduce((total, entry) => total + (Number(entry[member]) || 0), 0);
}

/** The candidate pair in use: the transport names it, or, in browsers without transport statistics, it is marked. */
function pairOf(all: Stats[]): Stats | undefined {
  const selected = all.find((stats) => stats.type === 'transport')?.selectedCandidatePairId;
  const pairs = all.filter((stats) => stats.type === 'candidate-pair');
  return pairs.find(({ id }) => id === selected) ?? pairs.find((pair) => pair.selected || (pair.nominated && pair.state === 'succeeded'));
}
