import { defineConfig } from 'vite';

/** Where `vite --config echo/vite.config.ts` finds a running portal. */
const PORTAL = 'http://localhost:8080';
const proxied = { target: PORTAL, rewrite: (path: string) => `/echo${path}` };

export default defineConfig({
  root: new URL('.', import.meta.url).pathname,
  // The page is at /echo/ of the portal, and at the root of a port of its own.
  base: './',
  build: { target: 'es2022', outDir: '../dist/echo', emptyOutDir: true, assetsInlineLimit: 0, modulePreload: false },
  server: { proxy: { '/health': proxied, '/offer': proxied, '/message': proxied } },
});
