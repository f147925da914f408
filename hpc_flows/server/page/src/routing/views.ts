/** The places of the page: the first piece of the address, and what shows it. */

import type { ComponentType } from "preact";

type View = ComponentType<{ id: string }>;

export interface Place {
  load: () => Promise<View>;
  /** Whether the address needs a second piece, an id. */
  takesId?: boolean;
}

export const VIEWS: Readonly<Record<string, Place>> = {
  "": { load: () => import("../pages/Dashboard").then((m) => m.Dashboard) },
  runs: { load: () => import("../pages/Runs").then((m) => m.Runs) },
  "flow-runs": { load: () => import("../run/RunPage").then((m) => m.default), takesId: true },
  clusters: { load: () => import("../pages/Clusters").then((m) => m.Clusters) },
  events: { load: () => import("../pages/Events").then((m) => m.Events) },
  artifacts: { load: () => import("../pages/Artifacts").then((m) => m.Artifacts) },
  variables: { load: () => import("../pages/Variables").then((m) => m.Variables) },
  settings: { load: () => import("../pages/Settings").then((m) => m.Settings) },
};

/** Places that the rail at the left names, in its order, with the key after `g`. */
export const RAIL: readonly { path: string; word: string; key: string; strokes: string }[] = [
  { path: "", word: "Dashboard", key: "d", strokes: "M2.5 9.5h4v4h-4zM2.5 2.5h4v4h-4zM9.5 2.5h4v7h-4zM9.5 12.5h4v1h-4z" },
  { path: "runs", word: "Runs", key: "r", strokes: "M2.5 4h7M5.5 8h8M3.5 12h6" },
  { path: "clusters", word: "Clusters", key: "c", strokes: "M2.5 2.8h11v4h-11zM2.5 9.2h11v4h-11zM5 4.8h.01M5 11.2h.01" },
  { path: "artifacts", word: "Artifacts", key: "a", strokes: "M3.5 2.5h6l3 3v8h-9zM9.5 2.5v3h3M5.8 9h4.4M5.8 11.2h4.4" },
  { path: "events", word: "Events", key: "e", strokes: "M2.5 8h2.5l2-5 2.5 10 2-5h2" },
  { path: "variables", word: "Variables", key: "v", strokes: "M5 2.5c-3 3-3 8 0 11M11 2.5c3 3 3 8 0 11M6.2 6l3.6 4M9.8 6l-3.6 4" },
  { path: "settings", word: "Settings", key: "s", strokes: "M2.5 4.5h6M11.5 4.5h2M2.5 11.5h2M7.5 11.5h6M10 3v3M6 10v3" },
];
