/** The flow runs that this one has started. */

import type { FlowRun, Page } from "../api/types";
import { useLoad } from "../api/load";
import { count } from "../clock";
import { Empty, Pending } from "../parts/frame";
import { StateBadge, StateBar } from "../parts/state";
import { Span, Time } from "../parts/time";
import { route, setQuery } from "../routing/route";
import { runHref, taskRunHref } from "./places";
import { Name } from "./text";

const PAGE = 50;

export function SubflowsTab({ run }: { run: FlowRun }) {
  const offset = Math.max(0, Number(route.value.query.get("offset") ?? 0) || 0);
  const query = { parent: run.id, sort: "created", limit: PAGE, offset };
  const loaded = useLoad<Page<FlowRun>>("flow-runs", query, { run: run.run, pace: 1000 });
  if (loaded.data === null) return <Pending loaded={loaded} />;
  const { items, next } = loaded.data;
  if (items.length === 0 && offset === 0) return <Empty title="This run has started no other flow" />;
  return (
    <>
      <div class="grid-table subflows" role="table" aria-label="Subflow runs">
        <div class="row head" role="row">
          <span role="columnheader">State</span>
          <span role="columnheader">Run</span>
          <span role="columnheader" class="spare">Flow</span>
          <span role="columnheader">Task runs</span>
          <span role="columnheader" class="end spare">Started</span>
          <span role="columnheader" class="end">Ran</span>
        </div>
        {items.map((sub) => (
          <div class="row" role="row" key={sub.id}>
            <span role="cell"><StateBadge type={sub.state_type} name={sub.state_name} /></span>
            <span role="cell"><a href={runHref(sub.id)}><Name>{sub.name}</Name></a></span>
            <span role="cell" class="spare"><Name>{sub.flow}</Name></span>
            <span role="cell"><StateBar counts={sub.tasks} total={sub.total_tasks} /></span>
            <span role="cell" class="end spare">
              {sub.parent_task_run ? (
                <a href={taskRunHref(sub.parent_task_run)}><Time at={sub.started} /></a>
              ) : (
                <Time at={sub.started} />
              )}
            </span>
            <span role="cell" class="end"><Span from={sub.started} to={sub.ended} /></span>
          </div>
        ))}
      </div>
      <p class="pager">
        {offset > 0 && (
          <button type="button" onClick={() => setQuery({ offset: Math.max(0, offset - PAGE) || null })}>
            Earlier
          </button>
        )}
        {loaded.data.total !== null && <span class="faint">{count(loaded.data.total)} in all</span>}
        {next !== null && <button type="button" onClick={() => setQuery({ offset: next })}>Later</button>}
      </p>
    </>
  );
}
