import type { Look } from './colours';
import { until } from './until';

/** Louder than this, in dB of full scale, is heard. The tones are published at about −14 dB, silence is below −100 dB. */
const AUDIBLE = -45;
/** Softer than this is not heard: what is left of a tone that is not there at all. */
const INAUDIBLE = -65;

/** Waits until of the tones exactly the expected are heard, at one moment. `levels` tells how loud tones are, in dB of full scale. */
export function hearsExactly(
  who: string,
  levels: (tones: number[]) => Promise<number[]>,
  expected: Look[],
  all: Look[],
): Promise<boolean> {
  return until(`${who} hears ${expected.map((look) => look.tone).join(', ') || 'nothing'} Hz`, async () => {
    const found = await levels(all.map((look) => look.tone));
    const right = all.every((look, i) => {
      const level = found[i] ?? -Infinity;
      return expected.includes(look) ? level > AUDIBLE : level < INAUDIBLE;
    });
    if (!right) throw new Error(`levels of ${all.map((look) => look.tone).join(', ')} Hz: ${found.join(', ')} dB`);
    return true;
  });
}
