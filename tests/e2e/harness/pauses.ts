import type { Participant } from './browser';

/** Looks at a picture from now on; gives what tells how long it stood still at most, in ms. */
export function watchFrames(page: Participant, subscription: string): () => Promise<number> {
  let [last, since, longest, watching] = [0, Date.now(), 0, true];
  const watched = (async () => {
    while (watching) {
      const count = await page.frames(subscription);
      if (count > last) [last, since] = [count, Date.now()];
      longest = Math.max(longest, Date.now() - since);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  return async () => {
    watching = false;
    await watched;
    return longest;
  };
}
