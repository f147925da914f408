/** Addresses within the page of a run. */

import { href, patch, type Query, route } from "../routing/route";

export const TABS = [
  ["tasks", "Tasks"],
  ["timeline", "Timeline"],
  ["graph", "Graph"],
  ["table", "Task runs"],
  ["logs", "Logs"],
  ["jobs", "Jobs"],
  ["artifacts", "Artifacts"],
  ["details", "Details"],
  ["subflows", "Subflows"],
] as const;

export type Tab = (typeof TABS)[number][0];

export function tabOf(text: string | null): Tab {
  return TABS.find(([name]) => name === text)?.[0] ?? "tasks";
}

/** The address of a tab of a flow run; what was open beside it stays open. */
export function tabHref(id: string, tab: Tab, query: Query = {}): string {
  const open = route.value.path[1] === id ? route.value.query.get("task-run") : null;
  return href(["flow-runs", id], { tab: tab === "tasks" ? null : tab, "task-run": open, ...query });
}

export function runHref(id: string): string {
  return href(["flow-runs", id]);
}

/** The address of this place with a task run open in the panel, or with none. */
export function taskRunHref(id: string | null): string {
  const here = route.value;
  return href(here.path, patch(new URLSearchParams(here.query), { "task-run": id }));
}

/** What belongs to a flow run; of a root run, what its subflows have left as well. */
export function within(run: { id: string; run: string }): Query {
  return run.id === run.run ? { run: run.id } : { flow_run: run.id };
}
