import { defineConfig } from 'vitest/config';

/**
 * Browsers and servers on a busy machine, in ms. In continuous integration a test that fails is run once more, and marked so in the report:
 * shared machines stand still for seconds at times, of which a real conference takes notice.
 */
const limits = { testTimeout: 60_000, hookTimeout: 60_000, teardownTimeout: 10_000, retry: process.env.CI ? 1 : 0 };

// One file after the other: the machines that run this have two cores, and each file has a conference server and a browser of its own.
// Those in `patience` wait most of their time and run beside the others: each pool is one worker.
export default defineConfig({
  test: {
    fileParallelism: false,
    reporters: ['default'],
    projects: [
      { test: { name: 'specs', pool: 'forks', include: ['specs/**/*.test.ts'], exclude: ['specs/patience/**'], maxConcurrency: 3, ...limits } },
      { test: { name: 'patience', pool: 'threads', include: ['specs/patience/**/*.test.ts'], ...limits } },
    ],
  },
});
