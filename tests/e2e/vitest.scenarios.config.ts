import { defineConfig, mergeConfig } from 'vitest/config';
import tests from './vitest.config';

// Measurements, run by `make bench` and not by `make test`.
export default mergeConfig({ ...tests, test: { ...tests.test, include: [] } }, defineConfig({ test: { include: ['scenarios/**/*.test.ts'] } }));
