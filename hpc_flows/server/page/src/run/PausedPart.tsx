/** That a part of a run waits for somebody: the run itself is only said to be running. */

import { useLoad } from "../api/load";
import type { FlowRun, Page } from "../api/types";
import { count } from "../clock";
import { Notice } from "../parts/frame";
import { isFinal } from "../states";
import { runHref, tabHref } from "./places";
import { Name } from "./text";

/** Most runs have no paused part: to learn that need not be quick. */
const PACE = 2000;

/** A line on the subflows that a run has called and that are paused; nothing where there is none. */
export function PausedPart({ run }: { run: FlowRun }) {
  // Of a run that is paused itself, everything goes on together with it.
  const isAtWork = !isFinal(run.state_type) && run.state_type !== "PAUSED";
  const query = { parent: run.id, state: "PAUSED", sort: "created", limit: 1 };
  const loaded = useLoad<Page<FlowRun>>(isAtWork ? "flow-runs" : null, query, {
    run: run.run,
    pace: PACE,
  });
  const first = loaded.data?.items[0];
  // What was loaded last may be of the run that was looked at before.
  if (!isAtWork || loaded.loading || first === undefined) return null;
  const link = <a href={runHref(first.id)}><Name>{first.name}</Name></a>;
  const all = loaded.data?.total ?? 1;
  return (
    <Notice tone="warn">
      {all > 1 ? (
        <>
          <a href={tabHref(run.id, "subflows")}>{count(all)} subflows</a> are paused and wait for
          somebody, the first one is {link}.
        </>
      ) : (
        <>The subflow {link} is paused and waits for somebody to let it go on.</>
      )}
    </Notice>
  );
}
