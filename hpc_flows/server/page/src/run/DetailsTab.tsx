/** Parameters, and everything else that is known of the run. */

import type { ComponentChildren } from "preact";
import type { FlowRun } from "../api/types";
import { exact } from "../clock";
import { Empty, Section } from "../parts/frame";
import { StateBadge } from "../parts/state";
import { Span, Time } from "../parts/time";
import { Command } from "../parts/command";
import { Name, Value } from "./text";

export function DetailsTab({ run }: { run: FlowRun }) {
  const parameters = Object.entries(run.parameters ?? {});
  const details = Object.entries(run.details ?? {});
  return (
    <div class="columns">
      <Section title="Parameters">
        {parameters.length === 0 ? <Empty title="The flow takes none" /> : <Pairs pairs={parameters} />}
      </Section>
      <Section title="About">
        <dl class="pairs">
          <Pair name="flow run"><code>{run.id}</code></Pair>
          {run.run !== run.id && <Pair name="root run"><code>{run.run}</code></Pair>}
          <Pair name="entry point">{run.entrypoint ? <Name>{run.entrypoint}</Name> : "–"}</Pair>
          <Pair name="created">{run.created === null ? "–" : exact(run.created)}</Pair>
          <Pair name="started">{run.started === null ? "–" : exact(run.started)}</Pair>
          <Pair name="ended">{run.ended === null ? "–" : exact(run.ended)}</Pair>
          <Pair name="attempt">{run.attempt ?? 1}</Pair>
          <Pair name="tags">
            {run.tags.length ? run.tags.map((tag) => <span class="chip" key={tag}><Name>{tag}</Name></span>) : "–"}
          </Pair>
          <Pair name="project">{run.project ? <Name>{run.project}</Name> : "–"}</Pair>
          <Pair name="its files"><Command text={`hpc-flows runs show ${run.run}`} /></Pair>
        </dl>
      </Section>
      <Section title="History"><History run={run} /></Section>
      {details.length > 0 && <Section title="Details of its state"><Pairs pairs={details} /></Section>}
    </div>
  );
}

export function Pairs({ pairs }: { pairs: [string, unknown][] }) {
  return (
    <dl class="pairs">
      {pairs.slice(0, 500).map(([name, value]) => <Pair key={name} name={name}><Value value={value} /></Pair>)}
    </dl>
  );
}

function Pair({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt><Name>{name}</Name></dt>
      <dd>{children}</dd>
    </div>
  );
}

/** The states that a run went through, and how long it was in each. */
export function History({ run }: { run: Pick<FlowRun, "history" | "ended"> }) {
  const steps = run.history ?? [];
  if (steps.length === 0) return <Empty title="Nothing is known" />;
  return (
    <ol class="history">
      {steps.slice(0, 300).map(([time, type, name], index) => (
        <li key={index}>
          <StateBadge type={type} name={name} />
          <Time at={time} />
          <span class="faint">
            {steps[index + 1] !== undefined && <Span from={time} to={steps[index + 1]![0]} />}
          </span>
        </li>
      ))}
    </ol>
  );
}
