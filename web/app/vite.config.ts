import { defineConfig } from 'vite';

/** Where `npm run dev` finds a running portal. */
const PORTAL = 'http://localhost:8080';

export default defineConfig({
  root: new URL('.', import.meta.url).pathname,
  base: './',
  build: { target: 'es2022', outDir: '../dist', emptyOutDir: true, assetsInlineLimit: 0 },
  server: { proxy: { '/sample': PORTAL, '/socket.io': { target: PORTAL, ws: true } } },
});
