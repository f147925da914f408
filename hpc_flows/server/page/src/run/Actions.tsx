/** Cancel, pause and go on: asked for, delivered through the relay, and answered honestly. */

import { useEffect, useState } from "preact/hooks";
import { asSentence, get, send } from "../api/client";
import type { CommandAnswer, FlowRun } from "../api/types";
import { duration } from "../clock";
import { Dialog } from "../parts/dialog";
import { Notice } from "../parts/frame";
import { may } from "../session";
import { isFinal } from "../states";
import { Command } from "../parts/command";

type Action = "cancel" | "pause" | "resume";

const LABELS: Record<Action, string> = { cancel: "Cancel…", pause: "Pause", resume: "Go on" };
const DONE: Record<Action, string> = {
  cancel: "The driver has taken the request and cancels the run.",
  pause: "The driver has taken the request: it starts nothing new.",
  resume: "The driver has taken the request and goes on.",
};
/** The driver's relay asks every second; later than this one is told that it does not answer. */
const PATIENCE_SECONDS = 10;

function actionsFor(run: FlowRun): Action[] {
  if (isFinal(run.state_type)) return [];
  // A driver is told about the whole run; all that is paused in it goes on together.
  if (run.id !== run.run) return run.state_type === "PAUSED" ? ["resume"] : [];
  if (run.state_type === "CANCELLING") return [];
  return run.state_type === "PAUSED" ? ["resume", "cancel"] : ["pause", "cancel"];
}

export function Actions({ run }: { run: FlowRun }) {
  const [asked, setAsked] = useState<Asked | null>(null);
  const [confirms, setConfirms] = useState(false);
  const ask = async (action: Action, reason: string): Promise<void> => {
    setConfirms(false);
    setAsked({ action, answer: null, error: null, since: Date.now() });
    try {
      const answer = await send<CommandAnswer>("POST", `flow-runs/${run.run}/${action}`, { reason });
      setAsked({ action, answer, error: null, since: Date.now() });
    } catch (error) {
      setAsked({ action, answer: null, error: asSentence(error), since: Date.now() });
    }
  };
  useAnswer(asked, setAsked);
  const actions = may("control") ? actionsFor(run) : [];
  return (
    <>
      {actions.map((action) => (
        <button
          key={action}
          type="button"
          class={action === "cancel" ? "danger" : ""}
          onClick={() => (action === "cancel" ? setConfirms(true) : void ask(action, ""))}
        >
          {LABELS[action]}
        </button>
      ))}
      {confirms && (
        <Confirm run={run} onAnswer={(reason) => (reason === null ? setConfirms(false) : void ask("cancel", reason))} />
      )}
      {asked && <Outcome asked={asked} run={run} onClose={() => setAsked(null)} />}
    </>
  );
}

interface Asked {
  action: Action;
  answer: CommandAnswer | null;
  error: string | null;
  since: number;
}

/** Ask what became of a command until it is known. */
function useAnswer(asked: Asked | null, setAsked: (next: Asked) => void): void {
  const id = isOpen(asked?.answer?.status) ? asked!.answer!.id : null;
  useEffect(() => {
    if (id === null || asked === null) return undefined;
    const timer = setInterval(() => {
      get<CommandAnswer>(`commands/${id}`).then(
        (answer) => {
          const message = answer.message || asked.answer!.message;
          setAsked({ ...asked, answer: { ...asked.answer!, ...answer, message } });
        },
        (error: unknown) => setAsked({ ...asked, error: asSentence(error) }),
      );
    }, 1000);
    return () => clearInterval(timer);
  }, [id]);
}

function Outcome({ asked, run, onClose }: { asked: Asked; run: FlowRun; onClose: () => void }) {
  const { answer, error, action } = asked;
  const status = answer?.status;
  const tone = error || status === "refused" || status === "failed" ? "error" : status === "delivered" ? "good" : "info";
  return (
    <div class="outcome">
      <Notice tone={tone}>
        <span>{error ?? outcomeWords(asked)}</span>
        {isOpen(status) && isLate(asked) && action === "cancel" && (
          <p>
            On the machine of the driver this works without the server:{" "}
            <Command text={`hpc-flows runs cancel ${run.run}`} />
          </p>
        )}
        <button type="button" class="link" onClick={onClose}>Close</button>
      </Notice>
    </div>
  );
}

function isLate({ answer, since }: Asked): boolean {
  const heard = answer?.heard ?? null;
  return heard === null || heard > PATIENCE_SECONDS || Date.now() - since > PATIENCE_SECONDS * 1000;
}

/** Whether the driver has not answered yet: the server keeps it, or a relay has taken it. */
function isOpen(status: string | undefined): boolean {
  return status === "queued" || status === "sent";
}

function outcomeWords(asked: Asked): string {
  const { answer, action } = asked;
  if (answer === null) return "Asking…";
  if (answer.status === "delivered") return answer.message || DONE[action];
  if (!isOpen(answer.status)) return answer.message || "The driver refused it.";
  if (!isLate(asked)) return answer.message || "Sent; the driver is asked within seconds…";
  const silence = answer.heard === null ? "never heard here" : `last heard ${duration(answer.heard)} before`;
  return `The request waits: the driver was ${silence} and has not answered. ${answer.message ?? ""}`;
}

function Confirm({ run, onAnswer }: { run: FlowRun; onAnswer: (reason: string | null) => void }) {
  const [reason, setReason] = useState("");
  const jobs = run.clusters.length > 0 ? " Its jobs are cancelled, queued ones and running ones." : "";
  return (
    <Dialog title="Cancel this run?" onClose={() => onAnswer(null)}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onAnswer(reason);
        }}
      >
        <h2>Cancel this run?</h2>
        <p>What has ended keeps its results.{jobs}</p>
        <label class="field">
          <span>Why (others can read it; may stay empty)</span>
          <input
            type="text"
            value={reason}
            maxLength={500}
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
        <p class="actions">
          <button type="button" onClick={() => onAnswer(null)}>Leave it running</button>
          <button type="submit" class="danger">Cancel the run</button>
        </p>
      </form>
    </Dialog>
  );
}
