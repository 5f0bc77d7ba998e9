import { defineConfig } from 'vitest/config';

// Measurements, run by `make bench` and not by `make test`.
export default defineConfig({
  test: {
    include: ['scenarios/**/*.test.ts'],
    fileParallelism: false,
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['verbose'],
  },
});
