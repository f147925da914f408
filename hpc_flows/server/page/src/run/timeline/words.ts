import { duration, plainDuration } from "../../clock";
import { words } from "../../parts/state";
import type { Bar, Lane } from "./shape";

const DOING = { waiting: "waited", queued: "queued", running: "ran" } as const;

/** What a bar shows, as a sentence: for tooltips and for people who hear the page. */
export function barWords(lane: Lane, bar: Bar): string {
  const parts = bar.segments.map((s) => `${DOING[s.stage]} ${duration(s.to - s.from)}`);
  const attempt = lane.bars.length > 1 ? `, attempt ${bar.row.attempt}` : "";
  const limit = bar.row.walltime ? `, of ${plainDuration(bar.row.walltime)} asked for` : "";
  return `${lane.name}: ${words(bar.row.state_name ?? "Pending")}${attempt}, ${parts.join(", ")}${limit}`;
}
