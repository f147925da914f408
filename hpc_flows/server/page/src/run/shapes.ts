/** Answers of the reading API that only the run's page asks for; times in seconds since 1970. */

import type { Counts, Reason, TaskRun } from "../api/types";
import type { StateType } from "../states";

export interface TaskCounts {
  task: string;
  total: number;
  states: { name: string; type: StateType; count: number }[];
  first_started: number | null;
  last_ended: number | null;
}

export interface CountsAnswer {
  tasks: TaskCounts[];
  version: number;
}

/** A task run beside the one that is looked at. */
export interface Neighbour {
  id: string;
  name: string;
  state_type: StateType;
  state_name: string;
}

export interface Attempt {
  attempt: number;
  created: number | null;
  queued: number | null;
  started: number | null;
  ended: number | null;
  state_type: StateType;
  state_name: string;
  message?: string | null;
  job?: string | null;
  node?: string | null;
  details?: Record<string, unknown> | null;
}

/** What the detail of a task run has more than its line in a list. */
export interface TaskRunDetail extends TaskRun {
  upstream_runs?: Neighbour[];
  downstream?: Neighbour[];
  attempts?: Attempt[];
  /** Whether the end of its job's output was sent. */
  has_output?: boolean;
}

export interface LogRecord {
  id: string | number;
  cursor?: string | number;
  t: number;
  level: number;
  message: string;
  logger: string;
  task_run: string | null;
  task_run_name?: string | null;
  flow_run: string | null;
}

export interface LogsAnswer {
  items: LogRecord[];
  next: string | number | null;
  previous: string | number | null;
  /** From where those that come later are asked for; a file that was exported has no later ones. */
  arrived?: string;
  /** Records that were lost while a disk was full. */
  dropped: number;
}

export interface Job {
  run: string;
  token: string;
  cluster: string;
  scheduler: string;
  job: string | null;
  array: unknown;
  intended: number | null;
  submitted: number | null;
  refusal: string | null;
  cancelled: string | null;
  resources: Record<string, unknown> | null;
  members: number;
  phases: Record<string, number>;
  reasons: Reason[];
  script?: string | null;
  task_runs?: TaskRun[];
}

export interface Output {
  text: string;
  updated: number | null;
}

/** Join the counts of names into counts of types. */
export function byType(states: TaskCounts["states"]): Counts {
  const counts: Counts = {};
  for (const state of states) counts[state.type] = (counts[state.type] ?? 0) + state.count;
  return counts;
}

/** What the jobs of a run took, in hours of one core. */
export interface Usage {
  task_runs: number;
  left_out: number;
  core_hours: number;
  asked_core_hours: number;
  busy_core_hours: number;
  told_core_hours: number;
}
