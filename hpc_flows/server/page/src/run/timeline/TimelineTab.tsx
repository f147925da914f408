/** When task runs waited, were queued and ran: lanes for up to 2,000, counts over time above. */

import { useMemo } from "preact/hooks";
import type { FlowRun } from "../../api/types";
import { useLoad } from "../../api/load";
import { duration, now } from "../../clock";
import { Empty, Pending } from "../../parts/frame";
import { route, setQuery } from "../../routing/route";
import { isFinal } from "../../states";
import { NoTaskRuns } from "../NoTaskRuns";
import { Chart } from "./Chart";
import { lanesOf } from "./lanes";
import { Legend } from "./Legend";
import { idleStretches, type Idle } from "./scale";
import type { TimelineAnswer } from "./shape";
import { inOrder, stretch } from "./stretch";

const LIMIT = 2000;

function numberOf(text: string | null): number | null {
  const value = text === null || text === "" ? Number.NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

export function TimelineTab({ run }: { run: FlowRun }) {
  const query = route.value.query;
  const asked = { from: numberOf(query.get("from")), to: numberOf(query.get("to")) };
  const task = query.get("task");
  const filters = { task, state: query.getAll("state"), ...asked, limit: LIMIT };
  const loaded = useLoad<TimelineAnswer>(`flow-runs/${run.id}/timeline`, filters, {
    run: run.run,
    // Counting a hundred thousand takes the server a while: it shall not do that all the time.
    pace: run.total_tasks > LIMIT ? 5000 : 1000,
  });
  const answer = useMemo(() => loaded.data && inOrder(loaded.data), [loaded.data]);
  const isLive = !isFinal(run.state_type);
  const clock = isLive ? Math.floor(now.value) : (run.ended ?? answer?.end ?? 0);
  const lanes = useMemo(
    () => (answer?.mode === "rows" ? lanesOf(answer.rows, clock) : []),
    [answer, clock],
  );
  if (answer === null) return <Pending loaded={loaded} />;
  const isEmpty = answer.mode === "rows" ? lanes.length === 0 : answer.tasks.length === 0;
  const range = stretch(answer, lanes, { from: asked.from ?? undefined, to: asked.to ?? undefined });
  const folds = query.get("idle") !== "shown";
  const idle = folds && answer.mode === "rows" ? idleStretches(lanes, range.from, range.to) : [];
  return (
    <div class="timeline">
      <Tools task={task} zoomed={asked.from !== null || asked.to !== null} folds={folds} idle={idle} answer={answer} />
      <Pending loaded={{ ...loaded, data: answer }} />
      {isEmpty ? <NothingHere run={run} filtered={task !== null || asked.from !== null} /> : (
        <Chart
          answer={answer}
          lanes={lanes}
          range={range}
          idle={idle}
          marked={query.get("task-run")}
          onZoom={(wanted) => setQuery({ from: wanted?.from ?? null, to: wanted?.to ?? null })}
          onChoose={(id) =>
            answer.mode === "rows" ? setQuery({ "task-run": id }, { push: true }) : setQuery({ task: id })
          }
        />
      )}
    </div>
  );
}

function NothingHere({ run, filtered }: { run: FlowRun; filtered: boolean }) {
  return filtered ? (
    <Empty title="No task run was under way in this part">
      <button type="button" class="link" onClick={() => setQuery({ from: null, to: null, task: null })}>
        Show the whole run
      </button>
    </Empty>
  ) : (
    <NoTaskRuns run={run} />
  );
}

function Tools({
  task,
  zoomed,
  folds,
  idle,
  answer,
}: {
  task: string | null;
  zoomed: boolean;
  folds: boolean;
  idle: readonly Idle[];
  answer: TimelineAnswer;
}) {
  const spared = idle.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  return (
    <div class="run-tools">
      <Legend bins={answer.mode === "bins"} />
      <span class="grow" />
      {task !== null && (
        <button type="button" onClick={() => setQuery({ task: null })} title="Show all tasks">
          {task.length > 40 ? `${task.slice(0, 40)}…` : task} ✕
        </button>
      )}
      {zoomed && (
        <button type="button" onClick={() => setQuery({ from: null, to: null })}>
          Whole run
        </button>
      )}
      {answer.mode === "rows" && (
        <label class="check">
          <input
            type="checkbox"
            checked={folds}
            onChange={() => setQuery({ idle: folds ? "shown" : null })}
          />
          fold idle time{spared > 0 ? ` (${duration(spared)})` : ""}
        </label>
      )}
    </div>
  );
}
