import { defineConfig } from 'vitest/config';

// One file after the other: the machines that run this have two cores, and each file has a conference server and a browser of its own.
export default defineConfig({
  test: {
    include: ['specs/**/*.test.ts'],
    fileParallelism: false,
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    reporters: ['verbose'],
  },
});
