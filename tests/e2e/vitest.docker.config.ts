import { defineConfig } from 'vitest/config';

// On a Docker engine, run by tests/docker/run.sh and not by `make test`. One after the other: they use the same ports.
export default defineConfig({
  test: {
    include: ['docker/**/*.test.ts'],
    fileParallelism: false,
    pool: 'forks',
    testTimeout: 120_000,
    hookTimeout: 240_000,
    reporters: ['verbose'],
  },
});
