import type { Condition } from './listing.js';

const TONES = { starting: 'soft', active: 'good', trouble: 'warn', failed: 'bad' } as const;

/** How something that runs is, with the reason of what is not as it should be. */
export function ConditionLine({ state, reason }: Condition) {
  if (!state) return null;
  return (
    <span class={`state ${TONES[state]}`} data-testid="condition" data-state={state}>
      <span class="state-dot" aria-hidden="true" />
      {reason ? `${state}: ${reason}` : state}
    </span>
  );
}
