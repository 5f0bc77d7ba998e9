import { defineConfig } from 'vite';

/** Where `npm run dev:console` finds a running portal. */
const PORTAL = 'http://localhost:8080';

export default defineConfig({
  root: new URL('.', import.meta.url).pathname,
  base: './',
  build: { target: 'es2022', outDir: '../dist/console', emptyOutDir: true, assetsInlineLimit: 0, modulePreload: false },
  server: { proxy: { '/config.json': { target: PORTAL, rewrite: (path) => `/console${path}` } } },
});
