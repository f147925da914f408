/// <reference types="vitest/config" />
import { defineConfig } from "vite";

// `HPC_FLOWS_API_URL` names a running server for `npm run dev`, which has no API of its own.
const server = (globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env
  .HPC_FLOWS_API_URL;

export default defineConfig({
  // Relative addresses: the page works under any prefix of a proxy.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    // No data: addresses, which the content security policy refuses for all but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  // The server refuses requests that another origin's page makes: here Vite speaks for its page.
  server:
    server === undefined
      ? {}
      : { proxy: { "/api": { target: server, changeOrigin: true, headers: { origin: server } } } },
  test: { include: ["src/**/*.test.ts"] },
});
