"""The jobs of a run as rows: what was asked for against what was used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_flows.cli.tally import tally
from hpc_flows.cli.terminal import duration, size
from hpc_flows.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpc_flows.journal.replay import JobView, RunView, TaskRunView

#: Seconds below which a share of processor time says more about Python's start than about the task.
_LEAST = 1.0


def job_rows(view: RunView) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each submission: job, task, runs, partition, state, and three shares.

    The shares are the most of any of its task runs: memory and walltime of what was asked for, and
    the processor time of what the cpus could have given.
    """
    for job in sorted(view.jobs.values(), key=lambda each: each.intended or 0.0):
        members = [view.task_runs[id_] for id_ in job.task_runs if id_ in view.task_runs]
        asked = Resources.from_dict(job.resources or {})
        yield (
            job.job or "-",
            ", ".join(sorted({run.task for run in members})),
            len(job.task_runs),
            partition_of(job, asked),
            _state(job, members),
            used_memory(members, asked),
            _used_time(members, asked),
            _used_cpu(members, asked),
        )


def partition_of(job: JobView, asked: Resources) -> str:
    """Return the partition that the job is in, or the one that was asked for."""
    seen = {status.partition for status in job.statuses.values() if status.partition}
    return ", ".join(sorted(seen)) or asked.partition or "-"


def _state(job: JobView, members: Sequence[TaskRunView]) -> str:
    if job.refusal is not None:
        return "refused"
    if job.job is None:
        return "not submitted yet"
    if job.cancelled is not None:
        return f"cancelled ({tally(members).in_words()})"
    reasons = {s.reason for s in job.statuses.values() if s.reason and s.phase == "queued"}
    waits = f" ({', '.join(sorted(reasons))})" if reasons else ""
    return tally(members).in_words() + waits


def _facts(members: Sequence[TaskRunView], name: str) -> list[float]:
    used = ({"max_rss": "memory", "elapsed": "walltime"}.get(name, name),)
    found = []
    for run in members:
        value = run.known(name)
        if value is None:
            # What a job could not say itself, its scheduler may have said.
            value = (run.known("used") or {}).get(*used)
        if isinstance(value, int | float):
            found.append(float(value))
    return found


def used_memory(members: Sequence[TaskRunView], asked: Resources) -> str:
    """Return the most memory that one of the runs used, against what was asked for."""
    return _against(max(_facts(members, "max_rss"), default=None), asked.memory, size)


def _used_time(members: Sequence[TaskRunView], asked: Resources) -> str:
    return _against(max(_facts(members, "elapsed"), default=None), asked.walltime, duration)


def _used_cpu(members: Sequence[TaskRunView], asked: Resources) -> str:
    shares = []
    for run in members:
        busy, elapsed = run.known("cpu"), run.known("elapsed")
        if isinstance(busy, int | float) and isinstance(elapsed, int | float) and elapsed > _LEAST:
            shares.append(busy / elapsed / (asked.cpus or 1))
    return f"{max(shares):.0%} of {asked.cpus or 1}" if shares else "-"


def _against(used: float | None, asked: int | None, say: Any) -> str:
    if used is None:
        return "-" if asked is None else f"- of {say(asked)}"
    if not asked:
        return str(say(used))
    return f"{say(used)} of {say(asked)}"
