/** The page of one flow run: what it is, and one tab for each way to look at it. */

import { type FunctionComponent, h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { FlowRun } from "../api/types";
import { useLoad } from "../api/load";
import { Notice, Pending } from "../parts/frame";
import { NoSuchRun } from "../pages/NotFound";
import { route } from "../routing/route";
import { ArtifactsTab } from "./artifacts/ArtifactsTab";
import { CountsTab } from "./CountsTab";
import { DetailsTab } from "./DetailsTab";
import { Header } from "./Header";
import { JobsTab } from "./jobs/JobsTab";
import { LogsTab } from "./logs/LogsTab";
import { TABS, type Tab, tabHref, tabOf } from "./places";
import "./run.css";
import { SubflowsTab } from "./SubflowsTab";
import { TableTab } from "./table/TableTab";
import { TaskPanel } from "./task/TaskPanel";
import { TimelineTab } from "./timeline/TimelineTab";

type View = FunctionComponent<{ run: FlowRun }>;
let graphTab: View | null = null;

/** The layout of graphs is the largest library here; it is loaded when a graph is looked at. */
function Graph({ run }: { run: FlowRun }) {
  const [error, setError] = useState(false);
  const [, draw] = useState(0);
  useEffect(() => {
    if (graphTab !== null) return;
    import("./graph/GraphTab").then(
      (module) => {
        graphTab = module.GraphTab;
        draw((n) => n + 1);
      },
      () => setError(true),
    );
  }, []);
  if (error) return <Notice tone="error">The graph could not be loaded; load the page again.</Notice>;
  return graphTab === null ? <p class="loading" role="status">Loading…</p> : h(graphTab, { run });
}

const VIEWS: Record<Tab, View> = {
  tasks: CountsTab,
  timeline: TimelineTab,
  graph: Graph,
  table: TableTab,
  logs: LogsTab,
  jobs: JobsTab,
  artifacts: ArtifactsTab,
  details: DetailsTab,
  subflows: SubflowsTab,
};

export default function RunPage({ id }: { id: string }) {
  const root = useRef<string>("any");
  const loaded = useLoad<FlowRun>(
    `flow-runs/${encodeURIComponent(id)}`,
    {},
    { run: root.current, pace: 300 },
  );
  const run = loaded.data?.id === id ? loaded.data : null;
  if (run !== null) root.current = run.run;
  const tab = tabOf(route.value.query.get("tab"));
  const open = route.value.query.get("task-run");
  useTitle(run);
  if (run === null && loaded.missing) return <NoSuchRun id={id} />;
  if (run === null) return <Pending loaded={loaded} />;
  const View = VIEWS[tab];
  return (
    <div class={`run-page${open ? " with-panel" : ""}`}>
      <div class="run-main">
        <Header run={run} />
        {loaded.error !== null && <Pending loaded={loaded} />}
        <Tabs run={run} tab={tab} />
        <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${tab}`} class="tab-panel">
          <View key={`${run.id} ${tab}`} run={run} />
        </div>
      </div>
      {open && <TaskPanel key={open} id={open} run={run} />}
    </div>
  );
}

function useTitle(run: FlowRun | null): void {
  useEffect(() => {
    if (run !== null) document.title = `${run.name.slice(0, 80)} · ${run.state_name} · hpc_flows`;
  }, [run?.name, run?.state_name]);
  useEffect(() => () => void (document.title = "hpc_flows"), []);
}

/** Tabs are links: they open in a new window too, and the address says where one is. */
function Tabs({ run, tab }: { run: FlowRun; tab: Tab }) {
  const move = (event: KeyboardEvent): void => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const at = TABS.findIndex(([name]) => name === tab);
    const next = TABS[(at + step + TABS.length) % TABS.length]![0];
    location.hash = tabHref(run.id, next);
    requestAnimationFrame(() => document.getElementById(`tab-${next}`)?.focus());
  };
  const bar = useRef<HTMLElement>(null);
  // A narrow window does not show all tabs: the chosen one is brought into sight.
  useEffect(() => {
    const chosen = document.getElementById(`tab-${tab}`);
    if (bar.current === null || chosen === null) return;
    const spare = chosen.offsetLeft - bar.current.offsetLeft - 40;
    const beyond = spare + 80 + chosen.offsetWidth - bar.current.clientWidth;
    if (bar.current.scrollLeft > spare) bar.current.scrollLeft = spare;
    else if (bar.current.scrollLeft < beyond) bar.current.scrollLeft = beyond;
  }, [tab]);
  return (
    <nav class="run-tabs" role="tablist" aria-label="Views of the run" ref={bar} onKeyDown={move}>
      {TABS.map(([name, label]) => (
        <a
          key={name}
          id={`tab-${name}`}
          role="tab"
          href={tabHref(run.id, name)}
          aria-selected={name === tab}
          aria-controls="tab-panel"
          tabIndex={name === tab ? 0 : -1}
        >
          {label}
        </a>
      ))}
    </nav>
  );
}

