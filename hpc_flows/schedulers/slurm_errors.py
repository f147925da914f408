"""What Slurm's complaints mean: no for good, no for now, perhaps, or "cannot ask".

An exit status of 1 covers all four; only the text tells them apart. Texts seen on 22.05, 24.11 and
25.11 (tests/data/slurm-*/rejected.txt, ctld-down.txt, ctld-hung.txt, other-daemons-down.txt) and
taken from Slurm's own table of errors (slurm_errno).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.exceptions import (
    SchedulerError,
    SchedulerUnavailable,
    SubmissionInDoubt,
    SubmissionRejected,
    SubmissionThrottled,
)

if TYPE_CHECKING:
    from hpc_flows.transports.base import Completed

#: The request was sent and no answer came: it may have been done.
_PERHAPS = (
    "timed out",
    "send failure",
    "receive failure",
    "shutdown failure",
    "connection reset",
    "zero bytes were transmitted or received",
    "unexpected message received",
    "transport endpoint is not connected",
    "broken pipe",
)

#: The controller was not reached, or could not do anything: nothing was done.
_CANNOT_ASK = (
    "connect failure",
    "communication connection failure",
    "protocol authentication error",
    "munge encode failed",
    "connection refused",
    "unable to resolve",
    "unable to establish configuration source",
    "could not establish a configuration source",
    "controller in standby mode",
    "i/o error writing script",
    "no route to host",
)

#: A limit on how many jobs may be queued: there will be room later.
_NOT_NOW = (
    "temporarily unable to accept job",
    "maxsubmitjob",
    "grpsubmitjob",
    "resource temporarily unavailable",
    "rate limit",
)

#: What sbatch prints while it waits for MaxJobCount by itself.
WAITS_FOR_ROOM = "temporarily unable to accept job"

#: squeue's answer when it knows none of the ids.
UNKNOWN_IDS = "invalid job id specified"

#: scancel's answers about jobs that have ended already.
_ENDED_ALREADY = (UNKNOWN_IDS, "already completing or completed")

#: Part of a refusal, and what the user can do about it.
_HINTS: tuple[tuple[str, str], ...] = (
    ("invalid partition", "`hpc-flows cluster show` lists the partitions; set partition=."),
    (
        "invalid account",
        "`sacctmgr -n -P show assoc user=$USER format=account,partition` lists yours.",
    ),
    ("invalid qos", "`sacctmgr -n -P show assoc user=$USER format=account,qos` lists yours."),
    ("time limit is invalid", "Ask for less walltime= or another partition=."),
    ("cpu count per node", "No node of the partition has so many CPUs; ask for fewer cpus=."),
    ("memory specification", "No node of the partition has so much; ask for less memory=."),
    (
        "node configuration is not available",
        "No node of the partition has this together; ask for less, or another partition=.",
    ),
    ("more processors requested", "Ask for fewer cpus=, nodes= or tasks_per_node=."),
    ("node count specification", "The partition has limits on nodes=."),
    (
        "job array specification",
        "The site takes smaller arrays: lower limits.max_array_size in the cluster's profile.",
    ),
    ("generic resource", "`sinfo -o '%P %G'` lists the gpus= that there are."),
    ("feature specification", "`sinfo -o '%P %f'` lists what constraint= can name."),
    ("license specification", "`scontrol show licenses` lists what licenses= can name."),
    ("reservation", "`scontrol show reservation` lists those that there are."),
    ("partition not available", "The partition takes no jobs now; use another partition=."),
    ("accounting/qos policy", "The account or QOS has a limit that this request exceeds."),
    ("dependency problem", "A job that this one was to follow is not known any more."),
    ("parameter too long", "The script is larger than the site allows."),
)


def refused_submission(done: Completed) -> SchedulerError:
    """Return the error for an sbatch that ended badly."""
    said = complaint(done)
    low = f"{done.stdout}\n{done.stderr}".lower()
    if done.returncode < 0 or _has(low, _PERHAPS):
        return SubmissionInDoubt(
            f"sbatch got no clear answer, so the job may have been accepted: {said}"
        )
    if _has(low, _CANNOT_ASK):
        return SchedulerUnavailable(
            f"Slurm cannot be reached, and nothing was submitted: {said} "
            "`scontrol ping` shows whether the controller lives."
        )
    if _has(low, _NOT_NOW):
        return SubmissionThrottled(f"Slurm takes no more jobs now: {said}")
    return SubmissionRejected(f"Slurm refused the job: {said}{_hint(low)}")


def unavailable(done: Completed) -> SchedulerUnavailable:
    """Return the error for a question that was not answered."""
    return SchedulerUnavailable(
        f"`{' '.join(done.argv[:3])}` failed with status {done.returncode}: {complaint(done)} "
        "`scontrol ping` shows whether the controller lives."
    )


def refused_cancel(done: Completed) -> SchedulerError | None:
    """Return the error for a scancel that ended badly; None when the jobs had ended before."""
    lines = [line for line in done.stderr.lower().splitlines() if line.strip()]
    serious = [line for line in lines if not _has(line, _ENDED_ALREADY)]
    if lines and not serious:
        return None
    if _has("\n".join(serious), _PERHAPS + _CANNOT_ASK):
        return SchedulerUnavailable(
            f"Slurm cannot be reached, so it is not known what was cancelled: {complaint(done)}"
        )
    return SchedulerError(f"scancel failed with status {done.returncode}: {complaint(done)}")


def complaint(done: Completed) -> str:
    """Return what a failed command said, in one line, without its own name before each part."""
    text = done.stderr.strip() or done.stdout.strip() or "it said nothing"
    own = f"{done.argv[0]}: "
    parts = [line.strip().removeprefix(own).removeprefix("error: ") for line in text.splitlines()]
    line = "; ".join(part for part in parts if part)
    return line if line.endswith((".", "!")) else f"{line}."


def _hint(low: str) -> str:
    for part, hint in _HINTS:
        if part in low:
            return f" {hint}"
    return ""


def _has(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text for part in parts)
