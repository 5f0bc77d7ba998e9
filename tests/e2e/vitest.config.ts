import { defineConfig } from 'vitest/config';
import { SLACK } from './harness/until';

/**
 * Browsers and servers on a busy machine, in ms. In continuous integration a test that fails is run again, and marked so in the report:
 * shared machines stand still for seconds at times, of which a real conference takes notice.
 */
const limits = { testTimeout: 90_000 * SLACK, hookTimeout: 60_000 * SLACK, teardownTimeout: 10_000, retry: process.env.CI ? 2 : 0 };

/**
 * Those that wait most of their time, for losses to be told of, for a live server to come back, for limits to pass; and those to whom it is all the same how
 * busy the machine is.
 */
const patient = ['specs/{patience/*,chaos,drain,events,gateway-document,redundancy,rest/document,stats,streaming}.test.ts'];

// Each file has a conference server and a browser of its own, and the machines that run this have two cores. So there is one file at a time that works, and
// beside it one of the patient, which take a fifth of a machine: each pool is one worker.
export default defineConfig({
  test: {
    fileParallelism: false,
    reporters: ['default'],
    projects: [
      { test: { name: 'specs', pool: 'forks', include: ['specs/**/*.test.ts'], exclude: patient, maxConcurrency: 3, ...limits } },
      { test: { name: 'patience', pool: 'threads', include: patient, ...limits } },
    ],
  },
});
