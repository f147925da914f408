/** A run without task runs: none yet, or none at all, and where to look instead. */

import type { FlowRun } from "../api/types";
import { Empty } from "../parts/frame";
import { isFinal } from "../states";
import { tabHref } from "./places";

export function NoTaskRuns({ run }: { run: FlowRun }) {
  if (!isFinal(run.state_type))
    return <Empty title="No task run yet">They appear here as soon as the flow calls a task.</Empty>;
  return (
    <Empty title="This run has called no task">
      Flows that it called are among its <a href={tabHref(run.id, "subflows")}>subflows</a>, and what
      it wrote is in its <a href={tabHref(run.id, "logs")}>logs</a>.
    </Empty>
  );
}
