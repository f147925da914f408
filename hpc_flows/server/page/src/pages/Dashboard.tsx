/** The first place: what needs a person, what runs, and how much was done. */

import { useLoad } from "../api/load";
import type { Attention, ClusterView, Dashboard as Data, FlowRun, Page } from "../api/types";
import { Strip } from "../charts/Strip";
import { count, counted, now, relative } from "../clock";
import { ChoiceFilter } from "../parts/controls";
import { FirstSteps } from "../parts/first";
import { Empty, PageTitle, Pending, Section } from "../parts/frame";
import { useWalk } from "../parts/lists";
import { Freshness, Progress, RunLink } from "../parts/run";
import { StateBadge, StateIcon } from "../parts/state";
import { Span, Time } from "../parts/time";
import { go, href, route } from "../routing/route";
import { LOOKS, STATE_TYPES } from "../states";

const TIMES = [
  ["1", "Last hour"],
  ["", "Last 24 hours"],
  ["168", "Last 7 days"],
] as const;

export function Dashboard() {
  const hours = Number(route.value.query.get("hours") ?? 24) || 24;
  const loaded = useLoad<Data>("dashboard", { hours }, { run: "any", pace: 1000 });
  const { data } = loaded;
  return (
    <>
      <PageTitle aside={<ChoiceFilter name="hours" label="Time shown" choices={TIMES} />}>
        Dashboard
      </PageTitle>
      <Pending loaded={loaded} />
      {data && <Content data={data} hours={hours} />}
    </>
  );
}

function Content({ data, hours }: { data: Data; hours: number }) {
  const isQuiet = data.active.length === 0 && Object.keys(data.states).length === 0;
  const any = useLoad<Page<FlowRun>>(isQuiet ? "flow-runs" : null, { limit: 1 }, { run: "any" });
  if (isQuiet && any.data?.items.length === 0) return <FirstSteps />;
  const to = Math.ceil(now.peek() / 60) * 60;
  return (
    <>
      <States data={data} hours={hours} />
      <div class="columns">
        <div>
          {data.attention.length > 0 && <NeedsAttention items={data.attention} />}
          <Active runs={data.active} />
        </div>
        <div>
          <Section title="Flow runs ended">
            <Strip strip={data.strip} from={to - hours * 3600} to={to} />
          </Section>
          <Queues />
        </div>
      </div>
    </>
  );
}

function States({ data, hours }: { data: Data; hours: number }) {
  const present = STATE_TYPES.filter((type) => (data.states[type] ?? 0) > 0);
  if (present.length === 0) return null;
  return (
    <ul class="tiles" aria-label={`Flow runs of the last ${hours} hours by state`}>
      {present.map((type) => (
        <li key={type}>
          <a class={`tile s-${type.toLowerCase()}`} href={href(["runs"], { state: type, within: hours * 3600 })}>
            <StateIcon type={type} size={18} />
            <strong class="num">{count(data.states[type] ?? 0)}</strong>
            <span class="soft">{LOOKS[type].word.toLowerCase()}</span>
          </a>
        </li>
      ))}
    </ul>
  );
}

const KINDS: Readonly<Record<Attention["kind"], [string, string]>> = {
  failed: ["Failed", "failed"],
  stuck: ["Stuck", "pending"],
  silent: ["Silent", "paused"],
  walltime: ["Walltime", "crashed"],
};

function NeedsAttention({ items }: { items: Attention[] }) {
  return (
    <Section
      title="Needs attention"
      aside={<span class="num soft small">{counted(items.length, "thing")}</span>}
    >
      <ul class="attention">
        {items.map((item) => {
          const [word, type] = KINDS[item.kind] ?? [item.kind, "pending"];
          return (
            <li key={`${item.kind}/${item.flow_run}`} class={`s-${type}`}>
              <span class="kind">{word}</span>
              {item.flow_run === null ? (
                <span class="strong">{item.name}</span>
              ) : (
                <a class="strong" href={href(["flow-runs", item.flow_run])}>
                  {item.name ?? item.flow_run}
                </a>
              )}
              <span class="text" title={item.text}>{withoutWord(item.text, word)}</span>
              <span class="faint small nowrap">
                <Time at={item.since} ago />
              </span>
            </li>
          );
        })}
      </ul>
    </Section>
  );
}

/** A text of which the word that stands beside it is not the beginning. */
function withoutWord(text: string, word: string): string {
  return text.startsWith(`${word}: `) ? text.slice(word.length + 2) : text;
}

function Active({ runs }: { runs: FlowRun[] }) {
  const walk = useWalk(runs.length, (index) => {
    const run = runs[index];
    if (run) go(["flow-runs", run.id]);
  });
  return (
    <Section
      title="Active runs"
      aside={<a href={href(["runs"])}>All runs</a>}
    >
      {runs.length === 0 ? (
        <Empty title="Nothing runs now.">
          A flow shows here within two seconds of its start:{" "}
          <code>hpc-flows run FILE.py:FLOW</code>.
        </Empty>
      ) : (
        <table class="list cards active">
          <thead>
            <tr>
              <th scope="col">Run</th>
              <th scope="col">State</th>
              <th scope="col" class="bar">Task runs</th>
              <th scope="col" class="right">For</th>
              <th scope="col">Cluster</th>
            </tr>
          </thead>
          <tbody>
            {runs.map((run, index) => (
              <tr key={run.id} class={walk.mark(index)}>
                <td class="wide">
                  <RunLink run={run} />
                </td>
                <td>
                  <StateBadge type={run.state_type} name={run.state_name} /> <Freshness run={run} />
                </td>
                <td class="bar wide">
                  <Progress run={run} />
                </td>
                <td class="right" data-label="for">
                  <Span from={run.started ?? run.created} to={run.ended} />
                </td>
                <td>{run.clusters.length ? run.clusters.join(", ") : <span class="faint">local</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}

/** My place in the queues, as the relays last saw it. */
function Queues() {
  const loaded = useLoad<Page<ClusterView>>("clusters", {}, { run: "any", pace: 5000 });
  const items = loaded.data?.items ?? [];
  if (items.length === 0) return null;
  return (
    <Section title="In the queues" aside={<a href={href(["clusters"])}>Clusters</a>}>
      <table class="list">
        <thead>
          <tr>
            <th scope="col">Cluster</th>
            <th scope="col" class="right">My pending</th>
            <th scope="col" class="right">My running</th>
            <th scope="col" class="right">Seen</th>
          </tr>
        </thead>
        <tbody>
          {items.map((cluster) => (
            <tr key={cluster.name}>
              <td>
                <a href={href(["clusters"], { name: cluster.name })}>{cluster.name}</a>
              </td>
              <td class="right num">{count(cluster.survey?.mine?.pending ?? cluster.jobs.pending ?? 0)}</td>
              <td class="right num">{count(cluster.survey?.mine?.running ?? cluster.jobs.running ?? 0)}</td>
              <td class="right small">
                <Seen at={cluster.survey?.time ?? cluster.heard} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function Seen({ at }: { at: number | null }) {
  if (at === null) return <span class="faint">never</span>;
  const old = now.value - at > 120;
  return <span class={old ? "stale" : "faint"}>{relative(at, now.value)}</span>;
}
