/** The head of a run's page: what it is, where it stands, and what can be done about it. */

import type { FlowRun } from "../api/types";
import { apiUrl } from "../api/client";
import { count, now, relative } from "../clock";
import { StateBadge, StateBar } from "../parts/state";
import { Span, Time } from "../parts/time";
import { href } from "../routing/route";
import { isFinal } from "../states";
import { Actions } from "./Actions";
import { Command } from "../parts/command";
import { PausedPart } from "./PausedPart";
import { runHref } from "./places";
import { Message, Name } from "./text";

/** A relay tells of itself every second while a run lives; after this long it counts as silent. */
const SILENT_SECONDS = 30;

export function Header({ run }: { run: FlowRun }) {
  return (
    <header class="run-head">
      <p class="trail">
        <a href={href(["runs"], { flow: run.flow })}><Name>{run.flow}</Name></a>
        {run.parent_flow_run && <> › <a href={runHref(run.parent_flow_run)}>parent run</a></>}
        {run.parent_flow_run && run.run !== run.parent_flow_run && run.run !== run.id && (
          <> › <a href={runHref(run.run)}>root run</a></>
        )}
      </p>
      <div class="run-title">
        <h1 tabIndex={-1}><Name>{run.name}</Name></h1>
        <StateBadge type={run.state_type} name={run.state_name} />
        <span class="grow" />
        <Actions run={run} />
        <a class="button" href={apiUrl(`flow-runs/${run.id}/export`)} download={`${run.id}.html`}>
          Export
        </a>
      </div>
      <Progress run={run} />
      <Facts run={run} />
      <PausedPart run={run} />
      {run.message && run.message !== run.state_name && <Message text={run.message} lines={4} />}
    </header>
  );
}

function Progress({ run }: { run: FlowRun }) {
  const counts = Object.entries(run.tasks);
  const ended = counts.reduce((sum, [type, n]) => sum + (isFinal(type) ? n : 0), 0);
  if (run.total_tasks === 0) return null;
  return (
    <div class="run-progress">
      <StateBar counts={run.tasks} total={run.total_tasks} />
      <span class="num">
        {count(ended)} of {count(run.total_tasks)} ended
      </span>
    </div>
  );
}

function Facts({ run }: { run: FlowRun }) {
  return (
    <dl class="facts">
      <div><dt>started</dt><dd><Time at={run.started ?? run.created} /></dd></div>
      <div>
        <dt>{run.ended === null ? "runs for" : "ran"}</dt>
        <dd><Span from={run.started ?? run.created} to={run.ended} /></dd>
      </div>
      {run.clusters.length > 0 && (
        <div>
          <dt>cluster</dt>
          <dd>{run.clusters.map((name) => <a key={name} href={href(["clusters"], { name })}>{name}</a>)}</dd>
        </div>
      )}
      {run.host && <div><dt>driver on</dt><dd><Name>{run.host}</Name></dd></div>}
      {run.owner && <div><dt>owner</dt><dd><Name>{run.owner}</Name></dd></div>}
      <Freshness run={run} />
      <div class="wide"><dt>in a terminal</dt><dd><Command text={`hpc-flows flow-run inspect ${run.id}`} /></dd></div>
    </dl>
  );
}

/** How old what is shown may be: a silent driver and a finished run look alike otherwise. */
function Freshness({ run }: { run: FlowRun }) {
  if (isFinal(run.state_type)) return null;
  if (run.heard === null) {
    return <div class="warn"><dt>data</dt><dd>imported; nobody reports news of it</dd></div>;
  }
  const isSilent = now.value - run.heard > SILENT_SECONDS;
  return (
    <div class={isSilent ? "warn" : ""}>
      <dt>last heard</dt>
      <dd>
        <Time at={run.heard} ago />
        {isSilent && ": what is shown may be old"}
        {Math.abs(run.skew ?? 0) > 5 && `, its clock is ${skewWords(run.skew!)}`}
      </dd>
    </div>
  );
}

function skewWords(skew: number): string {
  const size = relative(0, Math.abs(skew)).replace(" ago", "");
  return `${size} ${skew > 0 ? "fast" : "slow"}`;
}
