/** The logs of a run: all merged by time, or those of one task run. */

import { useEffect, useState } from "preact/hooks";
import { get } from "../../api/client";
import { useLoad } from "../../api/load";
import type { FlowRun, TaskRun } from "../../api/types";
import { beyond, iso } from "../../moments";
import { patch, type Query, route, setQuery } from "../../routing/route";
import { isFinal } from "../../states";
import { Command } from "../../parts/command";
import { within } from "../places";
import type { LogsAnswer } from "../shapes";
import { cut, save } from "../text";
import { stripped } from "./ansi";
import { LogView } from "./LogView";
import { levelName, LEVELS } from "./search";

/** Records that one download fetches at most; the terminal has no such bound. */
const MOST_SAVED = 100_000;
const PAGE = 500;

export function LogsTab({ run }: { run: FlowRun }) {
  const query = route.value.query;
  const of = query.get("of");
  const level = Number(query.get("level") ?? 0) || 0;
  const search = query.get("search") ?? "";
  const asked = of !== null ? { task_run: of } : within(run);
  const filter: Query = { ...asked, level: level || null, search };
  const [follow, setFollow] = useState(true);
  const wrap = query.get("wrap") !== "no";
  return (
    <div class="logs">
      <div class="run-tools">
        <SearchField value={search} />
        <select
          aria-label="Level"
          value={level}
          onChange={(event) => setQuery({ level: Number(event.currentTarget.value) || null })}
        >
          {LEVELS.map(([value, label]) => <option key={value} value={value}>{label}</option>)}
        </select>
        {of !== null && <OfTask id={of} />}
        <span class="grow" />
        <label class="check">
          <input type="checkbox" checked={wrap} onChange={() => setQuery({ wrap: wrap ? "no" : null })} />
          wrap
        </label>
        <label class="check">
          <input type="checkbox" checked={follow} onChange={() => setFollow(!follow)} />
          {isFinal(run.state_type) ? "at the end" : "follow"}
        </label>
        <Download filter={filter} name={run.name} />
      </div>
      <LogView
        key={JSON.stringify(filter)}
        run={run.run}
        query={filter}
        follow={follow}
        onFollow={setFollow}
        wrap={wrap}
        search={search}
        merged={of === null}
      />
      <p class="log-command"><Command text={`hpc-flows flow-run logs ${run.id}`} /></p>
    </div>
  );
}

function OfTask({ id }: { id: string }) {
  const task = useLoad<TaskRun>(`task-runs/${encodeURIComponent(id)}`);
  return (
    <button type="button" onClick={() => setQuery({ of: null })} title="Show the logs of all task runs">
      only {cut(task.data?.name ?? id, 40)} ✕
    </button>
  );
}

export function SearchField({ value }: { value: string }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text === value) return undefined;
    const timer = setTimeout(() => setQuery({ search: text }), 300);
    return () => clearTimeout(timer);
  }, [text, value]);
  return (
    <input
      type="search"
      placeholder="search in messages"
      aria-label="Search in messages"
      value={text}
      onInput={(event) => setText(event.currentTarget.value)}
    />
  );
}

/** Fetch what the filter lets through and save it as a text file. */
function Download({ filter, name }: { filter: Query; name: string }) {
  const [said, setSaid] = useState<string | null>(null);
  const [stop, setStop] = useState<AbortController | null>(null);
  const key = patch(new URLSearchParams(), filter).toString();
  useEffect(() => () => stop?.abort(), [key, stop]);
  const begin = async (): Promise<void> => {
    const stopper = new AbortController();
    setStop(stopper);
    try {
      const lines = await fetchAll(filter, stopper.signal, (n) => setSaid(`${n.toLocaleString()} …`));
      save(`${name.replace(/[^\w.-]+/g, "_").slice(0, 60) || "run"}.log`, lines);
      const isCut = lines.length >= MOST_SAVED;
      setSaid(isCut ? `the first ${MOST_SAVED.toLocaleString()} were saved` : null);
    } catch (error) {
      setSaid(stopper.signal.aborted ? null : `failed: ${String(error)}`);
    }
    setStop(null);
  };
  return (
    <>
      <button type="button" onClick={() => (stop ? stop.abort() : void begin())}>
        {stop ? "Stop" : "Download"}
      </button>
      {said && <span class="faint" role="status">{said}</span>}
    </>
  );
}

async function fetchAll(filter: Query, stop: AbortSignal, tell: (n: number) => void): Promise<string[]> {
  const lines: string[] = [];
  let after: string | number | null = null;
  for (;;) {
    const query: Query = { ...filter, order: "asc", after, limit: PAGE };
    const found: LogsAnswer = await get<LogsAnswer>("logs", query, stop);
    for (const record of found.items) {
      const when = iso(record.t) ?? beyond(record.t);
      const who = record.task_run_name || record.task_run || "-";
      lines.push(`${when} ${levelName(record.level).padEnd(8)} ${who} ${stripped(record.message)}\n`);
    }
    tell(lines.length);
    if (found.next === null || lines.length >= MOST_SAVED) return lines;
    after = found.next;
  }
}
