/** Tasks by name: how many of each stand where. The first thing to see of a run of any size. */

import type { FlowRun, Page, TaskRun } from "../api/types";
import { useLoad } from "../api/load";
import { count } from "../clock";
import { Pending, Section } from "../parts/frame";
import { StateBadge, StateBar, StateIcon, words } from "../parts/state";
import { Span, Time } from "../parts/time";
import { isFinal } from "../states";
import { NoTaskRuns } from "./NoTaskRuns";
import { tabHref, taskRunHref } from "./places";
import { byType, type CountsAnswer, type TaskCounts } from "./shapes";
import { VirtualRows } from "./table/VirtualRows";
import { cut, Name } from "./text";

const FEW = 60;

export function CountsTab({ run }: { run: FlowRun }) {
  const loaded = useLoad<CountsAnswer>(`flow-runs/${run.id}/counts`, {}, { run: run.run, pace: 500 });
  if (loaded.data === null) return <Pending loaded={loaded} />;
  const { tasks } = loaded.data;
  if (tasks.length === 0) {
    return <NoTaskRuns run={run} />;
  }
  return (
    <>
      <Pending loaded={loaded} />
      <Failures run={run} />
      <div class="grid-table counts" role="table" aria-label="Tasks by name" aria-rowcount={tasks.length}>
        <div class="row head" role="row">
          <span role="columnheader">Task</span>
          <span role="columnheader">States</span>
          <span role="columnheader" class="end">Ended</span>
          <span role="columnheader" class="spare">Counts</span>
          <span role="columnheader" class="end spare">First start</span>
          <span role="columnheader" class="end spare">Lasted</span>
        </div>
        {tasks.length <= FEW ? (
          tasks.map((task) => <Line key={task.task} run={run} task={task} />)
        ) : (
          <VirtualRows
            count={tasks.length}
            size={34}
            label="Tasks by name"
            render={(at) => <Line key={at} run={run} task={tasks[at]!} />}
          />
        )}
      </div>
    </>
  );
}

function Line({ run, task }: { run: FlowRun; task: TaskCounts }) {
  const counts = byType(task.states);
  const ended = task.states.reduce((sum, state) => sum + (isFinal(state.type) ? state.count : 0), 0);
  return (
    <div class="row" role="row">
      <span role="cell">
        <a href={tabHref(run.id, "table", { task: task.task })}><Name>{task.task}</Name></a>
      </span>
      <span role="cell"><StateBar counts={counts} total={task.total} /></span>
      <span role="cell" class="end num">{count(ended)} / {count(task.total)}</span>
      <span role="cell" class="spare chips">
        {task.states.map((state) => (
          <a
            key={state.name}
            class="chip"
            href={tabHref(run.id, "table", { task: task.task, state: state.name })}
            title={`Show the ${count(state.count)} of ${cut(task.task, 60)} that are ${words(state.name)}`}
          >
            <StateIcon type={state.type} size={13} /> {words(state.name)} {count(state.count)}
          </a>
        ))}
      </span>
      <span role="cell" class="end spare"><Time at={task.first_started} /></span>
      <span role="cell" class="end spare">
        <Span from={task.first_started} to={ended === task.total ? task.last_ended : null} />
      </span>
    </div>
  );
}

/** What went wrong stands first, with its message. */
function Failures({ run }: { run: FlowRun }) {
  const bad = (run.tasks.FAILED ?? 0) + (run.tasks.CRASHED ?? 0);
  const query = { flow_run: run.id, state: ["FAILED", "CRASHED"], sort: "-ended", limit: 5 };
  const loaded = useLoad<Page<TaskRun>>(bad > 0 ? "task-runs" : null, query, { run: run.run, pace: 1000 });
  const items = loaded.data?.items ?? [];
  if (bad === 0 || items.length === 0) return null;
  return (
    <Section
      title={`${count(bad)} failed or crashed`}
      aside={bad > items.length && <a href={tabHref(run.id, "table", { state: ["FAILED", "CRASHED"] })}>Show all</a>}
    >
      <ul class="failures">
        {items.map((task) => (
          <li key={task.id}>
            <StateBadge type={task.state_type} name={task.state_name} />
            <a href={taskRunHref(task.id)}><Name>{task.name}</Name></a>
            <span class="soft first-line" dir="auto">{gist(task.message)}</span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

/** One line that tells most: of a traceback the last one, of other messages the first. */
function gist(message: string | null): string {
  const lines = (message ?? "").split("\n").filter((line) => line.trim() !== "");
  const line = lines[0]?.startsWith("Traceback") ? lines.at(-1) : lines[0];
  return (line ?? "").trim().slice(0, 300);
}
