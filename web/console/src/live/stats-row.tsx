import * as format from '../ui/format.js';
import { useLive } from './panel.js';
import { Sparkline } from './sparkline.js';

/** The four lines of a stream or a subscription. */
export function StatsRow({ id }: { id: string }) {
  const { store } = useLive();
  // Each look moves the lines.
  void store.round.value;
  if (!store.counts.value) return null;
  const now = Date.now();
  const series = (measure: Parameters<typeof store.history.get>[1]) => store.history.get(id, measure);
  return (
    <div class="sparks" data-testid="sparks">
      <Sparkline label="Bitrate" series={series('bitrate')} format={format.bitrate} least={100_000} now={now} testId="spark-bitrate" />
      <Sparkline label="Loss" series={series('loss')} format={format.percent} least={0.05} now={now} testId="spark-loss" />
      <Sparkline label="Round trip" series={series('rtt')} format={format.ms} least={50} now={now} testId="spark-rtt" />
      <Sparkline label="Frame rate" series={series('frameRate')} format={format.fps} least={30} now={now} testId="spark-fps" />
    </div>
  );
}
