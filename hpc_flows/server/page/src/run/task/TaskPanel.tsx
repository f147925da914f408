/** One task run, beside whatever view it was opened from. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useLoad } from "../../api/load";
import type { FlowRun } from "../../api/types";
import { count, duration, exact } from "../../clock";
import { useKeys } from "../../keyboard";
import { Notice, Pending } from "../../parts/frame";
import { StateBadge, StateIcon, Why, words } from "../../parts/state";
import { Span, Time } from "../../parts/time";
import { setQuery } from "../../routing/route";
import { isFinal } from "../../states";
import { Command } from "../../parts/command";
import { History, Pairs } from "../DetailsTab";
import { JobCard } from "../jobs/JobCard";
import { askedWords } from "../jobs/words";
import { LogView, Text } from "../logs/LogView";
import { tabHref, taskRunHref } from "../places";
import type { Attempt, Neighbour, Output, TaskRunDetail } from "../shapes";
import { Message, Name } from "../text";
import { advice, type Resources, useOf } from "./advice";
import { Measures } from "./Measures";

export function TaskPanel({ id, run }: { id: string; run: FlowRun }) {
  const path = `task-runs/${encodeURIComponent(id)}`;
  const loaded = useLoad<TaskRunDetail>(path, {}, { run: run.run, pace: 500 });
  const title = useRef<HTMLHeadingElement>(null);
  const task = loaded.data;
  const close = (): void => setQuery({ "task-run": null });
  useKeys([{ keys: "Escape", does: "Close the task run", act: close }]);
  // Who came by key goes on reading here; the link that opened it is found again by Esc and Tab.
  useEffect(() => title.current?.focus({ preventScroll: true }), [task === null]);
  return (
    <aside class="task-panel" aria-label="Task run">
      <header>
        <h2 ref={title} tabIndex={-1}>
          {task ? <Name>{task.name}</Name> : "Task run"}
        </h2>
        <button type="button" class="quiet" aria-label="Close" title="Close (Esc)" onClick={close}>✕</button>
      </header>
      {task === null || loaded.error !== null ? <Pending loaded={loaded} /> : null}
      {task !== null && <Body task={task} run={run} />}
    </aside>
  );
}

function Part({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="part">
      <h3>{title}</h3>
      {children}
    </section>
  );
}

function Body({ task, run }: { task: TaskRunDetail; run: FlowRun }) {
  return (
    <div class="panel-body">
      <p class="panel-state">
        <StateBadge type={task.state_type} name={task.state_name} />
        <a href={tabHref(run.id, "table", { task: task.task })}><Name>{task.task}</Name></a>
        {task.map_index !== null && <span class="faint">element {task.map_index}</span>}
        {(task.attempt ?? 1) > 1 && <span class="faint">attempt {task.attempt}</span>}
      </p>
      {task.message && task.message !== task.state_name && <Message text={task.message} lines={10} />}
      <Waits task={task} />
      <Stages task={task} />
      <Asked task={task} />
      <Attempts task={task} />
      <Neighbours task={task} run={run} />
      <JobPart task={task} />
      <OutputPart task={task} />
      <Part title="Logs">
        <Logs task={task} run={run} />
      </Part>
      <Part title="History"><History run={{ history: task.history ?? [], ended: task.ended }} /></Part>
      {task.details && Object.keys(task.details).length > 0 && (
        <details class="part">
          <summary>Details of its state</summary>
          <Pairs pairs={Object.entries(task.details)} />
        </details>
      )}
      <p class="panel-command"><Command text={`hpc-flows task-run inspect ${task.id}`} /></p>
    </div>
  );
}

/** Why it does not run yet, in words. */
function Waits({ task }: { task: TaskRunDetail }) {
  if (task.started !== null || isFinal(task.state_type)) return null;
  const text = task.reason_words ?? task.reason;
  if (text) return <Notice tone="info">In the queue: <Why reason={task.reason ?? text} words={text} />.</Notice>;
  const waiting = (task.upstream_runs ?? []).filter((other) => other.state_type !== "COMPLETED");
  if (waiting.length === 0) return null;
  return <Notice tone="info">Waits for {waiting.length === 1 ? waiting[0]!.name.slice(0, 80) : `${count(waiting.length)} others`}.</Notice>;
}

/** How long it waited, was queued and ran. */
function Stages({ task }: { task: TaskRunDetail }) {
  const { created, queued, started, ended } = task;
  return (
    <dl class="facts tight">
      <div><dt>made</dt><dd><Time at={created} /></dd></div>
      {queued !== null && <div><dt>waited</dt><dd><Span from={created} to={queued} /></dd></div>}
      {queued !== null && <div><dt>in the queue</dt><dd><Span from={queued} to={started ?? ended} /></dd></div>}
      <div><dt>started</dt><dd><Time at={started} /></dd></div>
      <div><dt>ran</dt><dd><Span from={started} to={ended} /></dd></div>
      {task.node && <div><dt>node</dt><dd><Name>{task.node}</Name></dd></div>}
      {task.cluster && <div><dt>cluster</dt><dd><Name>{task.cluster}</Name></dd></div>}
      {task.partition && <div><dt>partition</dt><dd><Name>{task.partition}</Name></dd></div>}
    </dl>
  );
}

function Asked({ task }: { task: TaskRunDetail }) {
  const asked = (task.details?.["requested"] ?? task.resources) as Resources | null;
  const lines = isFinal(task.state_type) ? advice(asked, useOf(task.details), task.state_name) : [];
  const hasAny = asked !== null && asked !== undefined && Object.keys(asked).length > 0;
  if (!hasAny && lines.length === 0) return null;
  return (
    <Part title="Requested and used">
      <p class="asked">{askedWords(asked)}</p>
      {isFinal(task.state_type) && <Measures resources={asked} details={task.details} />}
      {lines.map((line) => <Notice key={line} tone="warn">{line}</Notice>)}
    </Part>
  );
}

function Attempts({ task }: { task: TaskRunDetail }) {
  const attempts = task.attempts ?? [];
  if (attempts.length < 2) return null;
  return (
    <Part title={`${attempts.length} attempts`}>
      <ol class="attempts">
        {attempts.map((attempt) => <AttemptLine key={attempt.attempt} attempt={attempt} />)}
      </ol>
    </Part>
  );
}

function AttemptLine({ attempt }: { attempt: Attempt }) {
  const { started, ended } = attempt;
  return (
    <li>
      <p>
        <span class="num">{attempt.attempt}</span>
        <StateBadge type={attempt.state_type} name={attempt.state_name} />
        {attempt.node && <span class="faint"><Name>{attempt.node}</Name></span>}
        {attempt.job && <span class="faint">job <Name>{attempt.job}</Name></span>}
        {started !== null && <span title={exact(started)}>{ended === null ? "runs" : `ran ${duration(ended - started)}`}</span>}
      </p>
      {attempt.message && attempt.message !== attempt.state_name && <Message text={attempt.message} lines={3} />}
    </li>
  );
}

function Neighbours({ task, run }: { task: TaskRunDetail; run: FlowRun }) {
  const up = task.upstream_runs ?? task.upstream.map((id) => ({ id, name: id, state_type: null, state_name: "" }));
  const down = task.downstream ?? [];
  if (up.length === 0 && down.length === 0) return null;
  return (
    <Part title="Depends on">
      {up.length === 0 ? <p class="faint">nothing</p> : <Links items={up} all={task.upstream.length} />}
      {down.length > 0 && (
        <>
          <h3>Needed by</h3>
          <Links items={down} all={down.length} />
        </>
      )}
      <p><a href={tabHref(run.id, "graph", { open: task.task })}>Show in the graph</a></p>
    </Part>
  );
}

function Links({ items, all }: { items: (Neighbour | { id: string; name: string; state_type: null })[]; all: number }) {
  const shown = items.slice(0, 24);
  return (
    <ul class="links">
      {shown.map((other) => (
        <li key={other.id}>
          <a href={taskRunHref(other.id)}>
            {other.state_type && <StateIcon type={other.state_type} size={13} />} <Name>{other.name}</Name>
            {other.state_type && <span class="hidden-text">, {words((other as Neighbour).state_name)}</span>}
          </a>
        </li>
      ))}
      {all > shown.length && <li class="faint">and {count(all - shown.length)} more</li>}
    </ul>
  );
}

function JobPart({ task }: { task: TaskRunDetail }) {
  if (task.token === null) return null;
  return (
    <Part title={`Job ${task.job ?? "not submitted yet"}`}>
      <ExitCause details={task.details} />
      <JobCard run={task.run} token={task.token} element={task.job} />
    </Part>
  );
}

/** Exit code, signal and the scheduler's own word. */
function ExitCause({ details }: { details: Record<string, unknown> | null }) {
  const { exit_code: code, signal, raw, reason, clue } = details ?? {};
  const parts = [
    typeof code === "number" ? `exit code ${code}` : "",
    signal ? `signal ${String(signal)}` : "",
    raw ? `the scheduler says ${String(raw)}` : "",
    reason && reason !== "None" ? String(reason) : "",
    clue ? String(clue) : "",
  ].filter(Boolean);
  // The clue may be no more than the signal.
  return parts.length ? <p dir="auto">{[...new Set(parts)].join(" · ").slice(0, 500)}</p> : null;
}

/** The end of what its job wrote. */
function OutputPart({ task }: { task: TaskRunDetail }) {
  // Asked for where there is one: browsers log each address that is not there as an error.
  const isThere = task.token !== null && task.has_output !== false;
  const path = isThere ? `task-runs/${encodeURIComponent(task.id)}/output` : null;
  const loaded = useLoad<Output>(path, {}, { run: task.run, pace: 2000 });
  if (loaded.data === null) {
    const isAbsent = !isThere || loaded.error !== null;
    return task.token !== null && isAbsent ? (
      <Part title="Output of its job"><p class="faint">None was sent to the server.</p></Part>
    ) : null;
  }
  return (
    <Part title="The end of its job's output">
      <pre class="output-tail" tabIndex={0}><Text text={loaded.data.text.slice(-20_000)} search="" /></pre>
    </Part>
  );
}

function Logs({ task, run }: { task: TaskRunDetail; run: FlowRun }) {
  const [follow, setFollow] = useState(true);
  return (
    <>
      <LogView
        run={run.run}
        query={{ task_run: task.id }}
        follow={follow}
        onFollow={setFollow}
        wrap
        search=""
        merged={false}
      />
      <p><a href={tabHref(run.id, "logs", { of: task.id })}>Search in these logs</a></p>
    </>
  );
}
