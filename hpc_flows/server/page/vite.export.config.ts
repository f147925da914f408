import { defineConfig } from "vite";

// What is put into exported runs: one script without imports and one style. The page never loads
// them; hpc_flows/server/exporting.py writes them into each exported file, with their hashes.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    outDir: "dist/export",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: false,
    lib: {
      entry: "src/export/main.tsx",
      name: "hpcFlowsExport",
      formats: ["iife"],
      fileName: () => "export.js",
      cssFileName: "export",
    },
  },
});
