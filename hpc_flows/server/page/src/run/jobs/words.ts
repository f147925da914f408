import { count, plainDuration } from "../../clock";
import type { Job } from "../shapes";
import { bytes } from "../text";

/** What was asked for in one line, such as `8 CPUs, 32 GiB, 2 h`. */
export function askedWords(resources: Record<string, unknown> | null | undefined): string {
  const { cpus, memory, gpus, walltime, nodes, partition } = resources ?? {};
  const parts = [
    typeof nodes === "number" && nodes > 1 ? `${nodes} nodes` : "",
    typeof cpus === "number" ? `${cpus} CPU${cpus === 1 ? "" : "s"}` : "",
    typeof memory === "number" ? bytes(memory) : "",
    gpus ? `GPU ${String(gpus)}` : "",
    typeof walltime === "number" ? plainDuration(walltime) : "",
    typeof partition === "string" ? partition : "",
  ];
  return parts.filter(Boolean).join(", ") || "–";
}

/** Where a job stands, such as `12 queued, 3 running`. */
export function phaseWords(job: Job): string {
  if (job.refusal !== null) return `refused: ${job.refusal.split("\n", 1)[0]}`;
  if (job.job === null) return "not submitted yet";
  const phases = Object.entries(job.phases).filter(([, n]) => n > 0);
  const told = phases.map(([phase, n]) => (job.members > 1 ? `${count(n)} ${phase}` : phase)).join(", ");
  if (job.cancelled !== null) return told ? `cancelled (${told})` : "cancelled";
  return told || "submitted";
}

/** The job's number in the scheduler, without the index of an array element. */
export function numberOf(job: string): string {
  return job.split(/[_[.]/, 1)[0]!;
}

export interface ShellCommand {
  text: string;
  label: string;
}

/** Commands of Slurm that tell more about a job; other schedulers have none here yet. */
export function commandsFor(job: string | null, scheduler: string): ShellCommand[] {
  // Only what is a job's number is put into a command that a person will paste.
  if (job === null || !/^\d+([_.]\d+)?$/.test(job)) return [];
  if (scheduler !== "" && !scheduler.startsWith("slurm")) return [];
  const fields = "JobID,State,ExitCode,Elapsed,MaxRSS,ReqMem,AllocCPUS,NodeList";
  return [
    { text: `scontrol show job ${job}`, label: "while it is queued or runs" },
    { text: `seff ${job}`, label: "how well it used what it had" },
    { text: `sacct -j ${job} --format=${fields}`, label: "what accounting says" },
  ];
}
