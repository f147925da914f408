/** The jobs of a run as the scheduler sees them: arrays on one line, why they wait, in words. */

import { useLoad } from "../../api/load";
import type { FlowRun, Page } from "../../api/types";
import { count } from "../../clock";
import { Empty, Pending } from "../../parts/frame";
import { Time } from "../../parts/time";
import { route, setQuery } from "../../routing/route";
import { within } from "../places";
import type { Job } from "../shapes";
import { Name } from "../text";
import { JobCard } from "./JobCard";
import { UsageLine } from "./UsageLine";
import { askedWords, phaseWords } from "./words";

const PAGE = 50;

export function JobsTab({ run }: { run: FlowRun }) {
  const query = route.value.query;
  const offset = Math.max(0, Number(query.get("offset") ?? 0) || 0);
  const chosen = query.get("job");
  const asked = { ...within(run), phase: query.get("phase"), limit: PAGE, offset };
  const loaded = useLoad<Page<Job>>("jobs", asked, { run: run.run, pace: 1000 });
  if (loaded.data === null) return <Pending loaded={loaded} />;
  const { items, next, total } = loaded.data;
  if (items.length === 0) {
    return (
      <Empty title="This run has sent no jobs">
        Tasks with resources become jobs when a cluster is active; the others run where the flow runs.
      </Empty>
    );
  }
  return (
    <>
      <Pending loaded={loaded} />
      <UsageLine run={run} />
      <div class="grid-table jobs" role="table" aria-label="Jobs">
        <div class="row head" role="row">
          <span role="columnheader">Job</span>
          <span role="columnheader">Where it stands</span>
          <span role="columnheader" class="end">Runs</span>
          <span role="columnheader" class="spare">Asked for</span>
          <span role="columnheader" class="rare">Cluster</span>
          <span role="columnheader" class="end rare">Submitted</span>
        </div>
        {items.map((job) => (
          <Line key={job.token} job={job} isOpen={job.token === chosen} />
        ))}
      </div>
      <p class="pager">
        {offset > 0 && (
          <button type="button" onClick={() => setQuery({ offset: Math.max(0, offset - PAGE) || null })}>
            Newer
          </button>
        )}
        {total !== null && <span class="faint">{count(total)} in all</span>}
        {next !== null && <button type="button" onClick={() => setQuery({ offset: next })}>Older</button>}
      </p>
    </>
  );
}

function Line({ job, isOpen }: { job: Job; isOpen: boolean }) {
  const waits = job.reasons.map((reason) => reason.words || reason.reason).join("; ");
  return (
    <div class={`job${isOpen ? " open" : ""}`}>
      <div class="row" role="row">
        <span role="cell">
          <button
            type="button"
            class="link twist"
            aria-expanded={isOpen}
            onClick={() => setQuery({ job: isOpen ? null : job.token })}
          >
            {isOpen ? "▾" : "▸"} <Name>{job.job ?? "not submitted yet"}</Name>
          </button>
        </span>
        <span role="cell" class="two-lines">
          <span>{phaseWords(job)}</span>
          {waits && <span class="faint">{waits}</span>}
        </span>
        <span role="cell" class="end num">{count(job.members)}</span>
        <span role="cell" class="spare" title={askedWords(job.resources)}>{askedWords(job.resources)}</span>
        <span role="cell" class="rare"><Name>{job.cluster}</Name></span>
        <span role="cell" class="end rare"><Time at={job.submitted ?? job.intended} /></span>
      </div>
      {isOpen && <JobCard run={job.run} token={job.token} />}
    </div>
  );
}
