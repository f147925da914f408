/** A flow run in a line: its name as a link, how far it is, and whether its news are fresh. */

import type { FlowRun } from "../api/types";
import { count, duration, now, relative, rough } from "../clock";
import { href } from "../routing/route";
import { isFinal } from "../states";
import { StateBar } from "./state";

/** Seconds after which a living run that was not heard is silent; relays beat every second. */
export const SILENT = 60;
/** Seconds that a new run's relay has to be heard first. */
const YOUNG = 15;

export function RunLink({ run }: { run: { id: string; name: string; flow?: string } }) {
  return (
    <span class="run-name">
      <a href={href(["flow-runs", run.id])}>{run.name}</a>
      {run.flow && <span class="faint small">{run.flow}</span>}
    </span>
  );
}

/** How many task runs have ended, of how many, as a bar and as figures. */
export function Progress({ run }: { run: FlowRun }) {
  const ended = Object.entries(run.tasks).reduce(
    (sum, [type, n]) => sum + (isFinal(type) ? n : 0),
    0,
  );
  if (run.total_tasks === 0) return (
      <span class="faint small">{isFinal(run.state_type) ? "no task runs" : "no task runs yet"}</span>
    );
  return (
    <span class="progress">
      <StateBar counts={run.tasks} total={run.total_tasks} />
      <span class="num small soft">
        {count(ended)}
        <span class="faint"> / {count(run.total_tasks)}</span>
      </span>
    </span>
  );
}

/** A warning that the run's relay is not heard; nothing while all is well or the run has ended. */
export function Freshness({ run }: { run: FlowRun }) {
  if (isFinal(run.state_type)) return null;
  return <Heard run={run} />;
}

function Heard({ run: { created, heard, skew } }: { run: FlowRun }) {
  const at = now.value;
  if (heard === null && created !== null && at - created < YOUNG) return null;
  if (heard === null)
    return (
      <span class="stale" title="The run is known from its journal; nothing reports for it now.">
        never heard
      </span>
    );
  if (at - heard > SILENT)
    return (
      <span
        class="stale"
        title={`Its relay was last heard ${relative(heard, at)}: what is shown may be old. The run itself does not need the server.`}
      >
        silent for {rough(at - heard)}
      </span>
    );
  if (skew !== null && Math.abs(skew) > 5)
    return (
      <span class="stale" title="The clock of the run's host differs from the server's.">
        clock {skew > 0 ? "ahead" : "behind"} {duration(Math.abs(skew))}
      </span>
    );
  return null;
}
