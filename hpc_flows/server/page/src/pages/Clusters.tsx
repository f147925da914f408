/** What the relays have seen of each cluster, how old that is, and why jobs wait. */

import { useLoad } from "../api/load";
import type { ClusterView, Page, Partition, Reason } from "../api/types";
import { count, counted, duration, now, relative } from "../clock";
import { Empty, Notice, PageTitle, Pending, Section } from "../parts/frame";
import { Why } from "../parts/state";
import { href, route } from "../routing/route";

/** Seconds after which a look at a cluster counts as old; relays look every minute or so. */
const OLD = 180;

export function Clusters() {
  const loaded = useLoad<Page<ClusterView>>("clusters", {}, { run: "any", pace: 2000 });
  const only = route.value.query.get("name");
  const all = loaded.data?.items ?? [];
  const shown = only === null ? all : all.filter((cluster) => cluster.name === only);
  return (
    <>
      <PageTitle aside={only !== null && <a href={href(["clusters"])}>All clusters</a>}>
        Clusters
      </PageTitle>
      <Pending loaded={loaded} />
      {loaded.data && shown.length === 0 && (
        <Empty title={only === null ? "No cluster has been seen yet." : `No cluster ${only} has been seen.`}>
          A run with jobs brings its cluster here: <code>hpc-flows cluster ls</code> names those that
          are known, and <code>hpc-flows run FILE.py:FLOW --cluster NAME</code> runs on one.
        </Empty>
      )}
      {shown.map((cluster) => (
        <ClusterPanel key={cluster.name} cluster={cluster} />
      ))}
    </>
  );
}

function ClusterPanel({ cluster }: { cluster: ClusterView }) {
  const { survey } = cluster;
  return (
    <Section
      title={
        <>
          {cluster.name} <span class="faint small">{cluster.scheduler ?? survey?.scheduler}</span>
        </>
      }
      aside={<Age at={survey?.time ?? null} heard={cluster.heard} />}
    >
      {survey?.error && (
        <Notice tone="warn">
          The scheduler did not answer the relay: {survey.error}. No run is failed for that.
        </Notice>
      )}
      <div class="body facts">
        <Fact
          words="My jobs pending"
          value={survey?.mine?.pending ?? cluster.jobs.pending ?? null}
          to={href(["runs"], { cluster: cluster.name })}
        />
        <Fact
          words="My jobs running"
          value={survey?.mine?.running ?? cluster.jobs.running ?? null}
          to={href(["runs"], { cluster: cluster.name })}
        />
        <Fact words="All jobs pending" value={survey?.queue?.pending ?? null} />
        <Fact words="All jobs running" value={survey?.queue?.running ?? null} />
      </div>
      {cluster.reasons.length > 0 && <Reasons reasons={cluster.reasons} />}
      {survey !== null && survey.partitions.length > 0 && (
        <Partitions partitions={survey.partitions} />
      )}
    </Section>
  );
}

function Age({ at, heard }: { at: number | null; heard: number | null }) {
  const here = now.value;
  if (at === null)
    return (
      <span class="stale">
        {heard === null ? "no relay has looked at it yet" : `a relay was heard ${relative(heard, here)}`}
      </span>
    );
  if (here - at <= OLD) return <span class="soft small">as of {relative(at, here)}</span>;
  return <span class="stale">as of {duration(here - at)} ago: it may be otherwise now</span>;
}

function Fact({ words, value, to }: { words: string; value: number | null; to?: string }) {
  const figure = <strong class="num">{value === null ? "–" : count(value)}</strong>;
  return (
    <div class="fact">
      {to !== undefined && value ? <a href={to}>{figure}</a> : figure}
      <span class="soft small">{words}</span>
    </div>
  );
}

function Reasons({ reasons }: { reasons: Reason[] }) {
  const total = reasons.reduce((sum, reason) => sum + reason.count, 0);
  return (
    <>
      <h3 class="table-title">Why {counted(total, "job")} of mine {total === 1 ? "waits" : "wait"}</h3>
      <table class="list">
        <tbody>
          {reasons.map((reason) => (
            <tr key={reason.reason}>
              <td class="right num narrow strong">{count(reason.count)}</td>
              <td>
                <Why reason={reason.reason} words={reason.words} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function Partitions({ partitions }: { partitions: Partition[] }) {
  return (
    <>
      <h3 class="table-title">Partitions</h3>
      <table class="list cards">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col" class="bar">Nodes idle</th>
            <th scope="col" class="bar">CPUs idle</th>
            <th scope="col" class="right">Jobs pending</th>
            <th scope="col" class="right">Jobs running</th>
          </tr>
        </thead>
        <tbody>
          {partitions.map((each) => (
            <tr key={each.name}>
              <td class="strong wide">{each.name}</td>
              <td class="bar wide" data-label="nodes idle">
                <Idle idle={each.idle_nodes} total={each.nodes} what="nodes" />
              </td>
              <td class="bar wide" data-label="CPUs idle">
                <Idle idle={each.idle_cpus} total={each.cpus} what="CPUs" />
              </td>
              <td class="right num" data-label="pending">{figure(each.pending)}</td>
              <td class="right num" data-label="running">{figure(each.running)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function figure(n: number | null): string {
  return n === null ? "–" : count(n);
}

/** How much is free, as a bar and as figures. */
function Idle({ idle, total, what }: { idle: number | null; total: number | null; what: string }) {
  if (idle === null || total === null) return <span class="faint">not told</span>;
  const words = `${count(idle)} of ${counted(total, what.slice(0, -1), what)} idle`;
  return (
    <span class="progress">
      <span class="level" role="img" aria-label={words} title={words}>
        <span style={{ width: `${total > 0 ? (100 * idle) / total : 0}%` }} />
      </span>
      <span class="num small soft">
        {count(idle)}
        <span class="faint"> / {count(total)}</span>
      </span>
    </span>
  );
}
