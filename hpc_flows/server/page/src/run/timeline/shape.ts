/** What the timeline is drawn from: the answer of `/flow-runs/{id}/timeline`. */

/** One attempt of a task run; times in seconds since 1970. */
export interface TimelineRow {
  id: string;
  name: string;
  task: string;
  attempt: number;
  created: number | null;
  queued: number | null;
  started: number | null;
  ended: number | null;
  state_type: string;
  state_name: string;
  /** What was asked for, in seconds. */
  walltime: number | null;
}

export interface TimelineRows {
  mode: "rows";
  rows: TimelineRow[];
  begin: number | null;
  end: number | null;
}

/** How many runs of one task were in each stage, by bin of `step` seconds. */
export interface TaskBins {
  task: string;
  waiting: number[];
  queued: number[];
  running: number[];
  ended: number[];
}

export interface TimelineBins {
  mode: "bins";
  begin: number;
  end: number;
  step: number;
  tasks: TaskBins[];
}

export type TimelineAnswer = TimelineRows | TimelineBins;

/** The three stages of an attempt, in their order. */
export type Stage = "waiting" | "queued" | "running";

export interface Segment {
  stage: Stage;
  from: number;
  to: number;
}

/** One attempt as it is drawn. */
export interface Bar {
  row: TimelineRow;
  segments: Segment[];
  /** End of the time that was asked for, if the attempt has started and has asked for one. */
  limit: number | null;
}

/** One task run: its attempts from left to right. */
export interface Lane {
  id: string;
  name: string;
  task: string;
  bars: Bar[];
  from: number;
  to: number;
}
