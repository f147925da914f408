/** What the jobs of a run took, beside what was asked for and what was made of it. */

import type { FlowRun } from "../../api/types";
import { useLoad } from "../../api/load";
import { count } from "../../clock";
import type { Usage } from "../shapes";

/** Reading all states of a large run takes the server a while. */
const PACE = 10_000;

const WHAT =
  "The cores that were asked for × the time that the task runs had them. Sites charge by rates of their own, and for waiting between a job's parts too.";

export function UsageLine({ run }: { run: FlowRun }) {
  const { data } = useLoad<Usage>(`flow-runs/${run.id}/usage`, {}, { run: run.run, pace: PACE });
  if (data === null || data.task_runs === 0) return null;
  const { core_hours: taken, asked_core_hours: asked, busy_core_hours: busy, told_core_hours: told } = data;
  return (
    <p class="usage">
      <span title={WHAT}>
        <strong class="num">{hours(taken)}</strong> core-hours taken
      </span>
      {asked > taken && (
        <span class="soft">
          of <span class="num">{hours(asked)}</span> that their walltimes allowed
        </span>
      )}
      {told > 0 && (
        <span class="soft">
          cores busy <span class="num">{Math.round((100 * busy) / told)} %</span> of the time
          {told < 0.99 * taken && ", as far as was told"}
        </span>
      )}
      {data.left_out > 0 && (
        <span class="soft">without {count(data.left_out)} task runs, which are too many to add up</span>
      )}
    </p>
  );
}

/** `0.02`, `3.4`, `1,234`. */
export function hours(n: number): string {
  if (n > 0 && n < 0.005) return "<0.01";
  if (n < 1) return n.toFixed(2);
  return n < 100 ? n.toFixed(1) : count(Math.round(n));
}
