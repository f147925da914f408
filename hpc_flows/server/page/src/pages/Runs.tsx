/** All flow runs that one may see: filters in the address, order, pages, and cancelling many. */

import { useState } from "preact/hooks";
import { useLoad } from "../api/load";
import type { FlowRun, Page, Scatter as ScatterData } from "../api/types";
import { Scatter } from "../charts/Scatter";
import { count, now, short } from "../clock";
import { CancelRuns } from "../parts/cancel";
import { ChoiceFilter, TextFilter, ToggleFilter } from "../parts/controls";
import { FirstSteps } from "../parts/first";
import { Empty, PageTitle, Pending } from "../parts/frame";
import { offsetOf, Pager, SortHead, useWalk } from "../parts/lists";
import { Freshness, Progress, RunLink } from "../parts/run";
import { StateBadge, StateIcon } from "../parts/state";
import { Span, Time } from "../parts/time";
import { go, patch, type Query, route, setQuery } from "../routing/route";
import { may } from "../session";
import { isFinal, LOOKS, STATE_TYPES } from "../states";

const LIMIT = 50;
const SORT = "-created";
const TEXTS = ["name", "flow", "tag", "cluster", "owner", "project"] as const;
const TIMES = [
  ["", "Any time"],
  ["3600", "Last hour"],
  ["86400", "Last 24 hours"],
  ["604800", "Last 7 days"],
  ["2592000", "Last 30 days"],
] as const;

/** The filters of the address, as the API has them. `within` is a time before now. */
function filters(query: URLSearchParams): Query {
  const texts = TEXTS.map((name) => [name, query.get(name)] as const);
  const within = Number(query.get("within") ?? 0);
  // Whole minutes, so that the address of the request is the same for a minute.
  const recent = within > 0 ? Math.floor(now.peek() / 60) * 60 - within : null;
  return {
    ...Object.fromEntries(texts),
    state: query.getAll("state"),
    parent: query.get("parent"),
    since: query.get("since") ?? recent,
    until: query.get("until"),
  };
}

export function Runs() {
  const { query } = route.value;
  const chosen = filters(query);
  const offset = offsetOf(query);
  const loaded = useLoad<Page<FlowRun>>(
    "flow-runs",
    { ...chosen, sort: query.get("sort") ?? SORT, limit: LIMIT, offset },
    { run: "any", pace: 1000 },
  );
  const runs = loaded.data?.items ?? [];
  // No run at all, and not only none that the filters let through.
  const isBare = loaded.data?.items.length === 0 && offset === 0 && !isFiltered(query);
  const [marked, setMarked] = useState<ReadonlyMap<string, FlowRun>>(new Map());
  const toggle = (run: FlowRun) => setMarked(toggled(marked, run));
  const walk = useWalk(
    runs.length,
    (index) => runs[index] && go(["flow-runs", runs[index].id]),
    (at) => [
      { keys: "x", does: "mark the row", act: () => runs[at] && toggle(runs[at]) },
    ],
  );
  return (
    <>
      <PageTitle aside={<Total loaded={loaded.data} />}>Runs</PageTitle>
      <Filters />
      {!isBare && <ScatterPanel chosen={chosen} />}
      <Pending loaded={loaded} />
      {isBare && <FirstSteps />}
      {loaded.data && runs.length === 0 && !isBare && <NoRuns />}
      {runs.length > 0 && (
        <div class={loaded.loading ? "panel old" : "panel"} aria-busy={loaded.loading}>
          {marked.size > 0 && <Marked marked={marked} clear={() => setMarked(new Map())} />}
          <table class="list cards runs">
            <Head />
            <tbody>
              {runs.map((run, index) => (
                <Row
                  key={run.id}
                  run={run}
                  mark={walk.mark(index)}
                  marked={marked.has(run.id)}
                  toggle={() => toggle(run)}
                />
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Pager offset={offset} limit={LIMIT} list={loaded} />
    </>
  );
}

function toggled(marked: ReadonlyMap<string, FlowRun>, run: FlowRun): Map<string, FlowRun> {
  const next = new Map(marked);
  if (!next.delete(run.id)) next.set(run.id, run);
  return next;
}

function isFiltered(query: URLSearchParams): boolean {
  return [...TEXTS, "state", "within", "since", "until"].some((name) => query.has(name));
}

function Total({ loaded }: { loaded: Page<FlowRun> | null }) {
  if (loaded === null || loaded.total === null) return null;
  return <span class="num soft">{count(loaded.total)} in all</span>;
}

function NoRuns() {
  return (
    <Empty title="No run is like that.">
      <button type="button" class="link" onClick={clearFilters}>
        Take all filters away
      </button>
    </Empty>
  );
}

function clearFilters(): void {
  const names = [...TEXTS, "state", "within", "since", "until", "parent", "offset"];
  setQuery(Object.fromEntries(names.map((name) => [name, null])));
}

function Filters() {
  const { query } = route.value;
  const range = query.has("since") || query.has("until");
  const [open, setOpen] = useState(false);
  return (
    <div class={open ? "filters open" : "filters"} role="search" aria-label="Filters">
      <TextFilter name="name" label="Name" slash />
      <button
        type="button"
        class="more-filters"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        {isFiltered(query) ? "Filters (on)" : "Filters"}
      </button>
      <TextFilter name="flow" label="Flow" />
      <TextFilter name="cluster" label="Cluster" />
      <TextFilter name="tag" label="Tag" />
      <ChoiceFilter name="within" label="Time of creation" choices={TIMES} />
      <ChoiceFilter
        name="parent"
        label="Subflows"
        choices={[
          ["", "Without subflows"],
          ["any", "With subflows"],
        ]}
      />
      <span class="toggles" role="group" aria-label="States">
        {STATE_TYPES.map((type) => (
          <ToggleFilter key={type} name="state" value={type}>
            <StateIcon type={type} size={14} />
            {LOOKS[type].word}
          </ToggleFilter>
        ))}
      </span>
      {range && (
        <button type="button" onClick={() => setQuery({ since: null, until: null, offset: null })}>
          {rangeWords(query)} <span aria-hidden="true">✕</span>
          <span class="hidden-text">: take the range away</span>
        </button>
      )}
      {isFiltered(query) && (
        <button type="button" class="link" onClick={clearFilters}>
          Clear
        </button>
      )}
    </div>
  );
}

function rangeWords(query: URLSearchParams): string {
  const [since, until] = [query.get("since"), query.get("until")];
  const from = since === null ? "…" : short(Number(since));
  return `${from} – ${until === null ? "…" : short(Number(until))}`;
}

function ScatterPanel({ chosen }: { chosen: Query }) {
  const shown = route.value.query.get("scatter") !== "off";
  const loaded = useLoad<ScatterData>(
    shown ? "flow-runs/scatter" : null,
    { ...chosen, points: 2000 },
    { run: "any", pace: 5000 },
  );
  const data = loaded.data;
  return (
    <section class="panel" aria-label="Start and duration">
      <header>
        <h2>Start × duration</h2>
        <div class="aside small">
          {data && data.left_out > 0 && (
            <span class="soft">the newest {count(data.points.length)}; {count(data.left_out)} more are left out</span>
          )}
          {shown && <span class="faint wide-only">drag to choose a time</span>}
          <button
            type="button"
            class="link"
            aria-expanded={shown}
            onClick={() => setQuery({ scatter: shown ? "off" : null })}
          >
            {shown ? "Hide" : "Show"}
          </button>
        </div>
      </header>
      {shown && data && (
        <Scatter
          points={data.points}
          at={now.peek()}
          onRange={(from, to) =>
            setQuery(
              { since: Math.floor(from), until: Math.ceil(to), within: null, offset: null },
              { push: true },
            )
          }
        />
      )}
      {shown && !data && <div class="chart-place" />}
    </section>
  );
}

function Marked({ marked, clear }: { marked: ReadonlyMap<string, FlowRun>; clear: () => void }) {
  const [asking, setAsking] = useState(false);
  const living = [...marked.values()].filter((run) => !isFinal(run.state_type));
  return (
    <div class="marked">
      <span>
        <strong class="num">{count(marked.size)}</strong> marked
      </span>
      <button
        type="button"
        class="danger"
        disabled={living.length === 0 || !may("control")}
        title={may("control") ? undefined : "Your token has no right to control runs."}
        onClick={() => setAsking(true)}
      >
        Cancel {count(living.length)}…
      </button>
      <button type="button" class="link" onClick={clear}>
        Unmark
      </button>
      {asking && <CancelRuns runs={living} onClose={() => setAsking(false)} />}
    </div>
  );
}

function Head() {
  return (
    <thead>
      <tr>
        <th scope="col">
          <span class="hidden-text">Marked</span>
        </th>
        <th scope="col">State</th>
        <SortHead by="name" normal={SORT}>
          Run
        </SortHead>
        <th scope="col" class="bar">
          Task runs
        </th>
        <SortHead by="created" normal={SORT} right>
          Created
        </SortHead>
        <SortHead by="duration" normal={SORT} right>
          Duration
        </SortHead>
        <th scope="col">Cluster</th>
        <th scope="col">Tags</th>
        <th scope="col">Owner</th>
      </tr>
    </thead>
  );
}

function Row({
  run,
  mark,
  marked,
  toggle,
}: {
  run: FlowRun;
  mark: string | undefined;
  marked: boolean;
  toggle: () => void;
}) {
  return (
    <tr class={mark} aria-selected={marked}>
      <td class="tick">
        <input type="checkbox" checked={marked} aria-label={`Mark ${run.name}`} onChange={toggle} />
      </td>
      <td>
        <StateBadge type={run.state_type} name={run.state_name} /> <Freshness run={run} />
      </td>
      <td class="wide">
        <RunLink run={run} />
      </td>
      <td class="bar wide">
        <Progress run={run} />
      </td>
      <td class="right">
        <Time at={run.created} />
      </td>
      <td class="right" data-label="took">
        <Span from={run.started} to={run.ended} />
      </td>
      <td>{run.clusters.join(", ") || <span class="faint">local</span>}</td>
      <td class={run.tags.length ? "tags" : "tags none"}>
        {run.tags.slice(0, 3).map((tag) => (
          <a key={tag} class="tag" href={`#/runs?${patch(new URLSearchParams(), { tag })}`}>
            {tag}
          </a>
        ))}
        {run.tags.length > 3 && <span class="faint small" title={run.tags.join(", ")}>+{run.tags.length - 3}</span>}
      </td>
      <td class="soft">{run.owner ?? "–"}</td>
    </tr>
  );
}
