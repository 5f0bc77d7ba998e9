/** How often a condition is looked at, in ms. */
const INTERVAL = 50;

/**
 * By how much waiting is longer in continuous integration. Machines there are shared and stand still at times; who waits for a condition loses nothing by
 * patience, as it ends with the condition.
 */
export const SLACK = process.env.CI ? 3 : 1;

/** How long conditions are waited for unless told otherwise, in ms, before {@link SLACK}. */
export const PATIENCE = 15_000;

type Falsy = false | undefined | null;

/**
 * Waits until `probe` returns something, and returns that. A probe that throws counts as "not yet"; what it threw last is
 * told when the deadline passes: after `patience` ms, or {@link SLACK} times that. It is looked every `interval` ms.
 */
export async function until<T>(what: string, probe: () => Promise<T | Falsy> | T | Falsy, patience = PATIENCE, interval = INTERVAL): Promise<T> {
  const limit = patience * SLACK;
  const deadline = Date.now() + limit;
  let last: unknown = 'never true';
  for (;;) {
    try {
      const found = await probe();
      if (found !== false && found !== undefined && found !== null) return found;
      last = 'not so';
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`waited ${limit} ms for: ${what}; last: ${last instanceof Error ? last.message : String(last)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}
