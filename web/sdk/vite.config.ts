import { defineConfig } from 'vite';

// One self-contained ES module: pages import it by URL, so the Socket.IO client is bundled in.
export default defineConfig({
  root: new URL('.', import.meta.url).pathname,
  build: {
    target: 'es2022',
    outDir: '../dist/sdk',
    emptyOutDir: true,
    sourcemap: true,
    lib: { entry: 'src/kaigi.ts', formats: ['es'], fileName: () => 'kaigi.js' },
  },
});
