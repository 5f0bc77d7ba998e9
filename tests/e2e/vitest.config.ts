import { defineConfig } from 'vitest/config';

/** Browsers and servers on a busy machine, in ms. */
const limits = { testTimeout: 60_000, hookTimeout: 60_000, teardownTimeout: 10_000 };

// One file after the other: the machines that run this have two cores, and each file has a conference server and a browser of its own.
// Those in `patience` wait most of their time and run beside the others: each pool is one worker.
export default defineConfig({
  test: {
    fileParallelism: false,
    reporters: ['default'],
    projects: [
      { test: { name: 'specs', pool: 'forks', include: ['specs/**/*.test.ts'], exclude: ['specs/patience/**'], ...limits } },
      { test: { name: 'patience', pool: 'threads', include: ['specs/patience/**/*.test.ts'], ...limits } },
    ],
  },
});
