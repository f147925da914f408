/** The shapes of the reading API; times are seconds since 1970. */

import type { StateType } from "../states";

export type Counts = Partial<Record<StateType, number>>;

/** One page of a list. */
export interface Page<T> {
  items: T[];
  total: number | null;
  next: number | null;
}

export interface FlowRun {
  id: string;
  run: string;
  name: string;
  flow: string;
  state_type: StateType;
  state_name: string;
  message: string | null;
  details: Record<string, unknown> | null;
  attempt: number | null;
  created: number | null;
  started: number | null;
  ended: number | null;
  parameters: Record<string, unknown> | null;
  tags: string[];
  parent_task_run: string | null;
  parent_flow_run: string | null;
  entrypoint: string | null;
  owner: string | null;
  project: string | null;
  clusters: string[];
  host: string | null;
  tasks: Counts;
  total_tasks: number;
  /** When the relay of the run was last heard; null: never, for example an imported run. */
  heard: number | null;
  /** Seconds by which the run's clock is ahead of the server's. */
  skew: number | null;
  version: number;
  /** Only in the detail: time, type, name. */
  history?: [number, StateType, string][];
}

export interface TaskRun {
  id: string;
  run: string;
  flow_run: string | null;
  name: string;
  task: string;
  key: string | null;
  state_type: StateType;
  state_name: string;
  message: string | null;
  attempt: number | null;
  created: number | null;
  queued: number | null;
  started: number | null;
  ended: number | null;
  map_index: number | null;
  token: string | null;
  job: string | null;
  node: string | null;
  cluster: string | null;
  partition: string | null;
  reason: string | null;
  reason_words: string | null;
  tags: string[];
  upstream: string[];
  resources: Record<string, unknown> | null;
  details: Record<string, unknown> | null;
  history?: [number, StateType, string][];
}

export interface Attention {
  kind: "failed" | "stuck" | "silent" | "walltime";
  flow_run: string | null;
  name: string | null;
  text: string;
  since: number | null;
}

export interface Dashboard {
  attention: Attention[];
  active: FlowRun[];
  states: Counts;
  strip: { t: number; completed: number; failed: number }[];
}

/** id, name, flow, started, duration, state type. */
export type ScatterPoint = [string, string, string, number, number | null, StateType];

export interface Scatter {
  points: ScatterPoint[];
  left_out: number;
}

export interface Partition {
  name: string;
  nodes: number | null;
  idle_nodes: number | null;
  cpus: number | null;
  idle_cpus: number | null;
  pending: number | null;
  running: number | null;
}

export interface Survey {
  time: number;
  scheduler: string;
  partitions: Partition[];
  queue: { pending: number; running: number; reasons: Record<string, number> } | null;
  mine: { pending: number; running: number } | null;
  error: string | null;
}

export interface Reason {
  reason: string;
  words: string;
  count: number;
}

export interface ClusterView {
  name: string;
  scheduler: string | null;
  heard: number | null;
  survey: Survey | null;
  jobs: Record<string, number>;
  reasons: Reason[];
}

export interface UserEvent {
  id: string;
  run: string | null;
  t: number;
  name: string;
  resource: Record<string, unknown> | string | null;
  payload: unknown;
  flow_run?: string | null;
  task_run?: string | null;
}

export interface Artifact {
  id: string;
  run: string;
  flow_run: string | null;
  task_run: string | null;
  key: string | null;
  type: string;
  description: string | null;
  /** null also where it is too long for a list: then `has_data` is true. */
  data: unknown;
  has_data: boolean;
  /** In bytes, where it was too long for its event. */
  size: number | null;
  created: number | null;
}

export interface Variable {
  name: string;
  value: unknown;
  tags: string[];
  updated?: number | null;
}

export type Scope = "report" | "read" | "control" | "admin";

export interface Me {
  user: string;
  admin: boolean;
  /** Set when the token may see this run only. */
  run: string | null;
  scopes: Scope[];
  projects: string[];
  instance: string;
  version: string;
  database: string;
}

export interface Token {
  id: string;
  name: string;
  /** `token`, or `session` for a browser that is logged in. */
  kind: string;
  user: string;
  scopes: Scope[];
  run: string | null;
  created: number;
  expires: number | null;
  revoked: number | null;
  last_used: number | null;
}

export interface User {
  name: string;
  admin: boolean;
  created: number;
  disabled: number | null;
}

export interface Project {
  name: string;
  created: number;
  members: { user: string; role: "read" | "control" }[];
}

export interface CommandAnswer {
  id: string;
  status: "queued" | "delivered" | "refused" | "failed";
  heard: number | null;
  message: string;
}
