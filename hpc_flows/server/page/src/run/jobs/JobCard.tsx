/** One submission: its script, its task runs, and the commands that tell more about it. */

import { useState } from "preact/hooks";
import { useLoad } from "../../api/load";
import { Notice, Pending } from "../../parts/frame";
import { StateBadge, Why } from "../../parts/state";
import { Span } from "../../parts/time";
import { Command } from "../../parts/command";
import { taskRunHref } from "../places";
import type { Job } from "../shapes";
import { Measures } from "../task/Measures";
import { Message, Name } from "../text";
import { commandsFor, numberOf } from "./words";

const SHOWN = 20;

interface Props {
  run: string;
  token: string;
  /** In a task run's panel, its own part of the job; the others are left out. */
  element?: string | null;
}

export function JobCard({ run, token, element }: Props) {
  const brief = element !== undefined;
  const path = `jobs/${encodeURIComponent(run)}/${encodeURIComponent(token)}`;
  const loaded = useLoad<Job>(path, {}, { run, pace: 1000 });
  const [all, setAll] = useState(false);
  if (loaded.data === null) return <Pending loaded={loaded} />;
  const job = loaded.data;
  const members = job.task_runs ?? [];
  const shown = all ? members : members.slice(0, SHOWN);
  return (
    <div class="job-card">
      {job.refusal !== null && <Notice tone="error"><Message text={job.refusal} /></Notice>}
      {job.cancelled !== null && <Notice tone="warn">Cancelled: {job.cancelled}</Notice>}
      {!brief && job.reasons.map((reason) => (
        <p key={reason.reason} class="reason-line">
          {job.members > 1 && `${reason.count} wait: `}
          <Why reason={reason.reason} words={reason.words} />
        </p>
      ))}
      <ul class="commands">
        {commandsFor(element ?? (job.job && numberOf(job.job)), job.scheduler).map(({ text, label }) => (
          <li key={text}><Command text={text} label={label} /> <span class="faint">{label}</span></li>
        ))}
      </ul>
      {!brief && members.length > 0 && (
        <>
          <ul class="members">
            {shown.map((task) => (
              <li key={task.id}>
                <StateBadge type={task.state_type} name={task.state_name} />
                <a href={taskRunHref(task.id)}><Name>{task.name}</Name></a>
                <span class="faint">{task.node && <Name>{task.node}</Name>}</span>
                <Span from={task.started} to={task.ended} />
                <Measures resources={job.resources} details={task.details} compact />
              </li>
            ))}
          </ul>
          {members.length > SHOWN && (
            <button type="button" class="link" onClick={() => setAll(!all)}>
              {all ? "Show fewer" : `Show ${members.length} of ${job.members}`}
            </button>
          )}
        </>
      )}
      {job.script && (
        <details class="script">
          <summary>Script</summary>
          <pre tabIndex={0}>{job.script}</pre>
        </details>
      )}
    </div>
  );
}
