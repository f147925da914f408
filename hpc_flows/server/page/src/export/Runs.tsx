/** Timeline and table of an exported run's task runs, which one filter governs. */

import { useMemo, useState } from "preact/hooks";
import { counted, duration } from "../clock";
import { Empty } from "../parts/frame";
import { StateBadge, words } from "../parts/state";
import { Time } from "../parts/time";
import { Name } from "../run/text";
import { VirtualRows } from "../run/table/VirtualRows";
import { Chart, type Range } from "../run/timeline/Chart";
import { lanesOf } from "../run/timeline/lanes";
import { Legend } from "../run/timeline/Legend";
import { idleStretches } from "../run/timeline/scale";
import type { Lane, TimelineAnswer, TimelineBins, TimelineRow } from "../run/timeline/shape";
import { stretch } from "../run/timeline/stretch";
import { barWords } from "../run/timeline/words";
import { onlyTask } from "./chosen";

export function Runs({ answer, now }: { answer: TimelineAnswer; now: number }) {
  return answer.mode === "rows" ? <Lanes rows={answer.rows} answer={answer} now={now} /> : <Bands bins={answer} />;
}

/** Above ten thousand task runs only their counts over time are in the file. */
function Bands({ bins }: { bins: TimelineBins }) {
  const [range, setRange] = useState<Range | null>(null);
  const only = onlyTask.value;
  const shown = only === "" ? bins : { ...bins, tasks: bins.tasks.filter(({ task }) => task === only) };
  return (
    <>
      <div class="run-tools">
        <Legend bins />
        <span class="grow" />
        <Only />
        {range !== null && <button type="button" onClick={() => setRange(null)}>Whole run</button>}
      </div>
      <Chart
        answer={shown}
        lanes={[]}
        range={range ?? { from: bins.begin, to: bins.end }}
        idle={[]}
        marked={null}
        onZoom={setRange}
        onChoose={(task) => (onlyTask.value = task)}
      />
    </>
  );
}

function Only() {
  if (onlyTask.value === "") return null;
  return (
    <button type="button" onClick={() => (onlyTask.value = "")} title="Show all tasks">
      only {onlyTask.value.slice(0, 40)} ✕
    </button>
  );
}

interface LanesProps {
  rows: TimelineRow[];
  answer: TimelineAnswer;
  now: number;
}

function Lanes({ rows, answer, now }: LanesProps) {
  const [state, setState] = useState("");
  const [range, setRange] = useState<Range | null>(null);
  const [folds, setFolds] = useState(true);
  const [chosen, setChosen] = useState<string | null>(null);
  const all = useMemo(() => lanesOf(rows, now), [rows, now]);
  const only = onlyTask.value;
  const lanes = useMemo(
    () => all.filter((lane) => (only === "" || lane.task === only) && (state === "" || endOf(lane) === state)),
    [all, only, state],
  );
  const whole = stretch(answer, lanes, {});
  const shown = range ?? whole;
  const idle = folds ? idleStretches(lanes, shown.from, shown.to) : [];
  const names = [...new Set(all.map((lane) => lane.task))];
  const states = [...new Set(all.map(endOf))];
  const marked = all.find((lane) => lane.id === chosen);
  return (
    <>
      <div class="run-tools">
        <Pick label="Task" value={only} all="all tasks" options={names} onPick={(task) => (onlyTask.value = task)} />
        <Pick label="State" value={state} all="all states" options={states} say={words} onPick={setState} />
        <span class="faint" role="status">{counted(lanes.length, "task run")}</span>
        <span class="grow" />
        {range !== null && <button type="button" onClick={() => setRange(null)}>Whole run</button>}
        <label class="check">
          <input type="checkbox" checked={folds} onChange={() => setFolds(!folds)} /> fold idle time
        </label>
      </div>
      <div class="run-tools"><Legend bins={false} /></div>
      {lanes.length === 0 ? <Empty title="No task run is like that" /> : (
        <Chart answer={answer} lanes={lanes} range={shown} idle={idle} marked={chosen} onZoom={setRange} onChoose={setChosen} />
      )}
      <p class="chosen-run" role="status">
        {marked ? marked.bars.map((bar) => <span key={bar.row.attempt}>{barWords(marked, bar)}</span>) : "Choose a bar to read about it; drag over the timeline to zoom, 0 shows all."}
      </p>
      <Table lanes={lanes} chosen={chosen} onChoose={setChosen} />
    </>
  );
}

interface PickProps {
  label: string;
  value: string;
  all: string;
  options: string[];
  say?: (option: string) => string;
  onPick: (option: string) => void;
}

function Pick({ label, value, all, options, say = (option) => option, onPick }: PickProps) {
  return (
    <select aria-label={label} value={value} onChange={(event) => onPick(event.currentTarget.value)}>
      <option value="">{all}</option>
      {options.slice(0, 500).map((option) => <option key={option} value={option}>{say(option).slice(0, 60)}</option>)}
    </select>
  );
}

function lastRow(lane: Lane): TimelineRow {
  return lane.bars.at(-1)!.row;
}

function endOf(lane: Lane): string {
  return lastRow(lane).state_name;
}

type Column = "state" | "name" | "waited" | "started" | "ran";

/** What a column sorts by. */
const SORTS: Record<Column, (lane: Lane) => number | string> = {
  state: endOf,
  name: (lane) => lane.name,
  waited: (lane) => waited(lastRow(lane)) ?? -1,
  started: (lane) => lastRow(lane).started ?? Infinity,
  ran: (lane) => ran(lastRow(lane)) ?? -1,
};

const HEADS: readonly [Column, string, string][] = [
  ["state", "State", ""],
  ["name", "Task run", ""],
  ["waited", "Queued for", "end spare"],
  ["started", "Started", "end spare"],
  ["ran", "Ran", "end"],
];

function waited(row: TimelineRow): number | null {
  return row.queued !== null && row.started !== null ? row.started - row.queued : null;
}

function ran(row: TimelineRow): number | null {
  return row.started !== null && row.ended !== null ? row.ended - row.started : null;
}

function compare(a: number | string, b: number | string): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

interface TableProps {
  lanes: Lane[];
  chosen: string | null;
  onChoose: (id: string) => void;
}

function Table({ lanes, chosen, onChoose }: TableProps) {
  const [[by, sign], setSort] = useState<[Column, 1 | -1] | [null, 1]>([null, 1]);
  const sorted = useMemo(
    () => (by === null ? lanes : [...lanes].sort((a, b) => sign * compare(SORTS[by](a), SORTS[by](b)))),
    [lanes, by, sign],
  );
  return (
    <div class="grid-table exported-table" role="table" aria-label="Task runs" aria-rowcount={sorted.length}>
      <div class="row head" role="row">
        {HEADS.map(([column, label, look]) => (
          <span
            key={column}
            role="columnheader"
            class={look}
            aria-sort={by === column ? (sign === 1 ? "ascending" : "descending") : undefined}
          >
            <button type="button" class="sort" onClick={() => setSort([column, by === column && sign === -1 ? 1 : -1])}>
              {label}{by === column ? (sign === 1 ? " ↑" : " ↓") : ""}
            </button>
          </span>
        ))}
      </div>
      <VirtualRows
        count={sorted.length}
        size={30}
        label="Task runs"
        onOpen={(at) => onChoose(sorted[at]!.id)}
        render={(at) => <Line lane={sorted[at]!} isChosen={sorted[at]!.id === chosen} onChoose={onChoose} />}
      />
    </div>
  );
}

function Line({ lane, isChosen, onChoose }: { lane: Lane; isChosen: boolean; onChoose: (id: string) => void }) {
  const row = lastRow(lane);
  return (
    <div class={`row${isChosen ? " chosen" : ""}`} role="row" onClick={() => onChoose(lane.id)}>
      <span role="cell"><StateBadge type={row.state_type} name={row.state_name} /></span>
      <span role="cell"><Name>{lane.name}</Name></span>
      <span role="cell" class="end spare num">{duration(waited(row))}</span>
      <span role="cell" class="end spare"><Time at={row.started} /></span>
      <span role="cell" class="end num">{duration(ran(row))}</span>
    </div>
  );
}
