/** All task runs, one a line: filtered and sorted by the server, drawn where they are in sight. */

import { useEffect, useState } from "preact/hooks";
import { useLoad } from "../../api/load";
import type { FlowRun, TaskRun } from "../../api/types";
import { count, counted } from "../../clock";
import { Empty, Notice } from "../../parts/frame";
import { StateBadge, words } from "../../parts/state";
import { Span, Time } from "../../parts/time";
import { route, setQuery } from "../../routing/route";
import { LOOKS, STATE_TYPES } from "../../states";
import { taskRunHref } from "../places";
import type { CountsAnswer } from "../shapes";
import { NoTaskRuns } from "../NoTaskRuns";
import { cut, Name } from "../text";
import { usePages } from "./pages";
import { VirtualRows } from "./VirtualRows";

const SIZE = 30;
/** Most task names that a list to choose from has. */
const MOST_NAMES = 500;

const COLUMNS: readonly [label: string, sort: string | null, look: string][] = [
  ["State", null, ""],
  ["Task run", "name", ""],
  ["Waited", "wait", "end spare"],
  ["Started", "started", "end spare"],
  ["Ran", "duration", "end"],
  ["Try", null, "end rare"],
  ["Node", null, "rare"],
  ["Job", null, "rare"],
];

export function TableTab({ run }: { run: FlowRun }) {
  const query = route.value.query;
  const filters = {
    flow_run: run.id,
    task: query.get("task"),
    state: query.getAll("state"),
    name: query.get("name"),
    sort: query.get("sort") ?? "created",
  };
  const list = usePages<TaskRun>("task-runs", filters, run.run);
  const open = (at: number): void => {
    const task = list.item(at);
    if (task) setQuery({ "task-run": task.id }, { push: true });
  };
  return (
    <>
      <Filters run={run} total={list.total} isCounted={list.isCounted} />
      {list.error !== null && <Notice tone="error">{list.error}</Notice>}
      {list.total === 0 && run.total_tasks === 0 ? <NoTaskRuns run={run} /> : list.total === 0 ? (
        <Empty title="No task run is like that">
          <button type="button" class="link" onClick={() => setQuery({ task: null, state: null, name: null })}>
            Show all
          </button>
        </Empty>
      ) : (
        <div class="grid-table task-runs" role="table" aria-label="Task runs" aria-rowcount={list.total ?? -1}>
          <Heads sort={filters.sort} />
          <VirtualRows
            key={JSON.stringify(filters)}
            count={list.total ?? 0}
            size={SIZE}
            label="Task runs"
            onSight={list.see}
            onOpen={open}
            render={(at) => <Line task={list.item(at)} index={at} chosen={query.get("task-run")} />}
          />
        </div>
      )}
    </>
  );
}

function Filters({ run, total, isCounted }: { run: FlowRun; total: number | null; isCounted: boolean }) {
  const query = route.value.query;
  const counts = useLoad<CountsAnswer>(`flow-runs/${run.id}/counts`, {}, { run: run.run, pace: 2000 });
  const tasks = counts.data?.tasks ?? [];
  const names = new Set(tasks.flatMap((task) => task.states.map((state) => state.name)));
  const states = query.getAll("state");
  return (
    <div class="run-tools">
      <select
        aria-label="Task"
        value={query.get("task") ?? ""}
        onChange={(event) => setQuery({ task: event.currentTarget.value })}
      >
        <option value="">all tasks</option>
        {tasks.slice(0, MOST_NAMES).map(({ task }) => <option key={task} value={task}>{cut(task, 60)}</option>)}
      </select>
      <select
        aria-label="State"
        value={states.join(" ")}
        onChange={(event) => setQuery({ state: event.currentTarget.value.split(" ").filter(Boolean) })}
      >
        <option value="">all states</option>
        <option value="FAILED CRASHED">Failed or crashed</option>
        {STATE_TYPES.map((type) => <option key={type} value={type}>{LOOKS[type].word}</option>)}
        {[...names].filter((name) => !isPlain(name)).map((name) => (
          <option key={name} value={name}>{words(name)}</option>
        ))}
      </select>
      <Search />
      <span class="grow" />
      <span class="faint" role="status">{total === null ? "…" : `${isCounted ? "" : "more than "}${counted(isCounted ? total : total - 1, "task run")}`}</span>
    </div>
  );
}

/** Names that say no more than their type. */
function isPlain(name: string): boolean {
  return STATE_TYPES.some((type) => LOOKS[type].word === name) || name.includes(" ");
}

function Search() {
  const known = route.value.query.get("name") ?? "";
  const [text, setText] = useState(known);
  useEffect(() => setText(known), [known]);
  useEffect(() => {
    if (text === known) return undefined;
    const timer = setTimeout(() => setQuery({ name: text }), 250);
    return () => clearTimeout(timer);
  }, [text, known]);
  return (
    <input
      type="search"
      placeholder="part of a name"
      aria-label="Part of the name"
      value={text}
      onInput={(event) => setText(event.currentTarget.value)}
    />
  );
}

function Heads({ sort }: { sort: string }) {
  return (
    <div class="row head" role="row">
      {COLUMNS.map(([label, by, look]) => {
        const isBy = by !== null && sort.replace("-", "") === by;
        const direction = sort.startsWith("-") ? "descending" : "ascending";
        return (
          <span key={label} role="columnheader" class={look} aria-sort={isBy ? direction : undefined}>
            {by === null ? label : (
              <button
                type="button"
                class="sort"
                onClick={() => setQuery({ sort: isBy && direction === "descending" ? by : `-${by}` })}
              >
                {label}{isBy ? (direction === "ascending" ? " ↑" : " ↓") : ""}
              </button>
            )}
          </span>
        );
      })}
    </div>
  );
}

function Line({ task, index, chosen }: { task: TaskRun | undefined; index: number; chosen: string | null }) {
  if (task === undefined) {
    return <div class="row" role="row" aria-rowindex={index + 2}><span role="cell" class="faint">…</span></div>;
  }
  return (
    <div
      class={`row${task.id === chosen ? " chosen" : ""}`}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={task.id === chosen}
    >
      <span role="cell"><StateBadge type={task.state_type} name={task.state_name} /></span>
      <span role="cell"><a href={taskRunHref(task.id)} tabIndex={-1}><Name>{task.name}</Name></a></span>
      <span role="cell" class="end spare"><Wait task={task} /></span>
      <span role="cell" class="end spare"><Time at={task.started} /></span>
      <span role="cell" class="end"><Span from={task.started} to={task.ended} /></span>
      <span role="cell" class="end rare">{(task.attempt ?? 1) > 1 ? count(task.attempt!) : ""}</span>
      <span role="cell" class="rare">{task.node && <Name>{task.node}</Name>}</span>
      <span role="cell" class="rare">
        {task.reason_words && task.started === null ? (
          <span title={task.reason_words} class="reason">{task.reason_words}</span>
        ) : (
          task.job && <Name>{task.job}</Name>
        )}
      </span>
    </div>
  );
}

/** From when it was made until it started: in the driver and in the queue. */
function Wait({ task }: { task: TaskRun }) {
  const until = task.started ?? task.ended ?? null;
  return <Span from={task.queued ?? task.created} to={until} />;
}
