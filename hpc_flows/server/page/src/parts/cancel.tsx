/** Cancelling runs, and saying honestly whether the word can have reached them. */

import { useState } from "preact/hooks";
import { asSentence, send } from "../api/client";
import type { CommandAnswer, FlowRun } from "../api/types";
import { counted } from "../clock";
import { Ask } from "./ask";
import { Dialog } from "./dialog";

interface Told {
  run: FlowRun;
  text: string;
  good: boolean;
}

/** Ask why, cancel each, and list what became of it. */
export function CancelRuns({ runs, onClose }: { runs: FlowRun[]; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [told, setTold] = useState<Told[] | null>(null);
  if (told !== null) return <Outcome told={told} onClose={onClose} />;
  return (
    <Ask
      title={`Cancel ${counted(runs.length, "run")}?`}
      yes={`Cancel ${counted(runs.length, "run")}`}
      danger
      act={async () => setTold(await cancelAll(runs, reason))}
      onClose={onClose}
    >
      <p class="soft">
        Their jobs are cancelled in the scheduler too. What completed stays; what runs is lost.
      </p>
      <ul class="names">
        {runs.slice(0, 8).map((run) => (
          <li key={run.id}>{run.name}</li>
        ))}
        {runs.length > 8 && <li class="faint">and {runs.length - 8} more</li>}
      </ul>
      <label class="field">
        <span>Reason, which stands in the run's history</span>
        <input
          type="text"
          maxLength={500}
          value={reason}
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
    </Ask>
  );
}

async function cancelAll(runs: FlowRun[], reason: string): Promise<Told[]> {
  const told: Told[] = [];
  for (const run of runs) told.push(await cancelOne(run, reason));
  return told;
}

async function cancelOne(run: FlowRun, reason: string): Promise<Told> {
  try {
    const path = `flow-runs/${encodeURIComponent(run.id)}/cancel`;
    const answer = await send<CommandAnswer>("POST", path, { reason: reason.trim() });
    return { run, text: answer.message, good: true };
  } catch (refused) {
    return { run, text: asSentence(refused), good: false };
  }
}

function Outcome({ told, onClose }: { told: Told[]; onClose: () => void }) {
  return (
    <Dialog title="What became of it" onClose={onClose}>
      <div class="body">
        <h2>What became of it</h2>
        <ul class="outcome">
          {told.map(({ run, text, good }) => (
            <li key={run.id} class={good ? "good" : "bad"}>
              <strong>{run.name}</strong>
              <span>{text}</span>
            </li>
          ))}
        </ul>
        <div class="actions">
          <button type="button" onClick={onClose}>
            Close
          </button>
        </div>
      </div>
    </Dialog>
  );
}
