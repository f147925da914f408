/** What hpc_flows/server/exporting.py puts into an exported file, and how it is read back. */

import type { GraphAnswer } from "../run/graph/layout";
import type { TimelineAnswer, TimelineBins, TimelineRow } from "../run/timeline/shape";
import { inOrder } from "../run/timeline/stretch";

/**
 * An attempt in few characters: number of its lane, its name (0: that of the row before), index of
 * its task, attempt, when it was made (from `base`), then how long after that it was queued,
 * started and ended, index of its state, and its walltime.
 */
type Packed = [
  number,
  string | 0,
  number,
  number,
  number | null,
  number | null,
  number | null,
  number | null,
  number,
  number | null,
];

interface PackedRows {
  mode: "packed";
  base: number;
  begin: number | null;
  end: number | null;
  tasks: string[];
  states: [string, string][];
  rows: Packed[];
}

export interface Exported {
  /** Until when what has not ended is drawn: when the file was made, or the run's end. */
  now: number;
  timeline: PackedRows | TimelineBins;
  graph: GraphAnswer;
}

/** Read what stands in the file as text. */
export function readExported(): Exported {
  const text = document.getElementById("exported-data")?.textContent;
  if (!text) throw new Error("This file holds no data: it was cut when it was copied.");
  return JSON.parse(text) as Exported;
}

export function timelineOf({ timeline }: Exported): TimelineAnswer {
  if (timeline.mode === "bins") return inOrder(timeline);
  const { base, begin, end, tasks, states } = timeline;
  let name = "";
  const rows = timeline.rows.map((packed): TimelineRow => {
    const [lane, given, task, attempt, made, queued, started, ended, state, walltime] = packed;
    name = given === 0 ? name : given;
    const created = made === null ? null : base + made;
    const after = (gap: number | null): number | null => (gap === null ? null : (created ?? base) + gap);
    return {
      id: String(lane),
      name,
      task: tasks[task] ?? "",
      attempt,
      created,
      queued: after(queued),
      started: after(started),
      ended: after(ended),
      state_type: states[state]?.[0] ?? "PENDING",
      state_name: states[state]?.[1] ?? "",
      walltime,
    };
  });
  return { mode: "rows", rows, begin, end };
}
