import { defineConfig } from 'vite';

/** Where `vite --config webrtc/vite.config.ts` finds a running portal. */
const PORTAL = 'http://localhost:8080';

export default defineConfig({
  root: new URL('.', import.meta.url).pathname,
  base: './',
  build: { target: 'es2022', outDir: '../dist/webrtc/client', emptyOutDir: true, assetsInlineLimit: 0, modulePreload: false },
  server: {
    proxy: {
      '/webrtc/signaling': { target: PORTAL, ws: true },
      '/config.json': { target: PORTAL, rewrite: (path) => `/webrtc/client${path}` },
    },
  },
});
