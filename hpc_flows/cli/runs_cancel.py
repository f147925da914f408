"""`hpc-flows runs cancel`: through the driver where there is one, through the scheduler else."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import click

from hpc_flows.cli.command import Command
from hpc_flows.cli.progress import Follower, summary
from hpc_flows.cli.runs import RunName, folder_of
from hpc_flows.cli.terminal import count, duration
from hpc_flows.clusters import Cluster
from hpc_flows.engine.requests import ask
from hpc_flows.exceptions import HpcFlowsError, SchedulerError
from hpc_flows.jobs.evidence import CLOCK_SKEW
from hpc_flows.journal.index import summarise
from hpc_flows.journal.writer import JournalWriter
from hpc_flows.schedulers.base import Phase
from hpc_flows.schedulers.opening import open_scheduler
from hpc_flows.task_runners.cluster import PAUSE, TRIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.journal.index import RunSummary
    from hpc_flows.journal.replay import JobView, RunView
    from hpc_flows.schedulers.base import JobStatus, Scheduler

#: Seconds between two looks at whether the run has ended.
_PERIOD = 0.25


@click.command(cls=Command, short_help="Cancel a run and its jobs.")
@click.argument("run", type=RunName())
@click.option("--reason", default="hpc-flows runs cancel", help="Why; kept in the journal.")
@click.option(
    "--timeout", default=60.0, show_default=True, help="Seconds to wait for the driver to end."
)
@click.option(
    "--force",
    is_flag=True,
    help="Cancel the jobs here and now, also while a driver on another machine may live.",
)
def cancel(run: str, reason: str, timeout: float, force: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Cancel a run: its driver is asked to cancel its jobs and to end.

    Where the driver is gone, its jobs are looked up by their tokens and cancelled with one call of
    the scheduler. RUN is a name, an id or the beginning of one, or `latest`.
    """
    return cancel_run(folder_of(run), reason, timeout, force=force)


def cancel_run(folder: str, reason: str, timeout: float, *, force: bool = False) -> int:
    """Cancel the run of a folder; return the exit status.

    Args:
        folder: of the run.
        reason: why, for the journal.
        timeout: seconds to wait for its driver to end.
        force: whether its jobs are cancelled from here though a driver elsewhere may live.
    """
    about = summarise(folder)
    if about.ended is not None:
        if _has_jobs(folder):  # a driver that was ended by SIGTERM leaves them
            return _cancel_jobs(folder, about, reason)
        click.echo(f"{about.name} has ended already: {about.state_name}. Nothing was cancelled.")
        return 0
    if force or not driver_may_live(about):
        return _cancel_jobs(folder, about, reason)
    _ask_driver(folder, about, reason)
    return _await_end(folder, about, timeout)


def driver_may_live(about: RunSummary) -> bool:
    """Tell whether the driver may still be there; True when that cannot be told from here."""
    return about.alive is not False


def _ask_driver(folder: str, about: RunSummary, reason: str) -> None:
    request = ask(folder, "cancel", reason)
    if about.alive and about.pid is not None:
        os.kill(about.pid, signal.SIGINT)
        click.echo(f"Asked the driver, process {about.pid} on this machine, to cancel.")
    else:
        click.echo(f"Asked the driver on {about.host} to cancel, through {request}.")


def _await_end(folder: str, about: RunSummary, timeout: float) -> int:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        now = summarise(folder)
        if now.ended is not None:
            click.echo(f"{now.name}: {now.state_name}; {summary(_read(folder))}.")
            return 0
        if not driver_may_live(now):
            return _cancel_jobs(folder, now, "its driver ended without cancelling")
        time.sleep(_PERIOD)
    click.echo(
        f"The driver has not ended within {duration(timeout)}. It may still do so:\n"
        f"  hpc-flows runs show {about.name}\n"
        f"To cancel its jobs without it: hpc-flows runs cancel {about.name} --force",
        err=True,
    )
    return 1


def _read(folder: str) -> RunView:
    follower = Follower(folder)
    follower.read_all()
    return follower.view


def _cancel_jobs(folder: str, about: RunSummary, reason: str) -> int:
    click.echo(f"The driver, process {about.pid} on {about.host}, is gone; its jobs may live on.")
    view = _read(folder)
    living = [job for job in view.jobs.values() if _may_live(job, view)]
    by_cluster: dict[str, list[JobView]] = {}
    for job in living:
        by_cluster.setdefault(job.cluster, []).append(job)
    failed = False
    cancelled: list[str] = []
    for name, jobs in by_cluster.items():
        try:
            cancelled += cancel_jobs(open_scheduler(Cluster.load(name)), jobs)
        except HpcFlowsError as error:
            failed = True
            tokens = ",".join(job.token for job in jobs)
            click.echo(
                f"{name}: not cancelled: {error} Try again later, or by hand: "
                f"scancel --name={tokens}",
                err=True,
            )
    if failed:
        return 1
    _close_run(folder, view, cancelled, reason)
    told = f"{count(len(cancelled), 'job')}: {', '.join(cancelled)}" if cancelled else "no job"
    click.echo(f"Cancelled {told}. {summary(_read(folder))}.")
    return 0


def _has_jobs(folder: str) -> bool:
    """Tell whether a run has jobs that may live."""
    view = _read(folder)
    return any(_may_live(job, view) for job in view.jobs.values())


def _may_live(job: JobView, view: RunView) -> bool:
    if job.refusal is not None:
        return False
    members = [view.task_runs.get(id_) for id_ in job.task_runs]
    return not all(run is not None and run.is_final for run in members)


def cancel_jobs(scheduler: Scheduler, jobs: Iterable[JobView]) -> list[str]:
    """Cancel what lives of some submissions, and return the ids.

    One question finds all of them, one call cancels them, whatever their number, and one more
    question tells whether it has.

    Only jobs that have our token as their name are touched: the scheduler may have given an id to
    somebody else's job since.

    Raises:
        SchedulerUnavailable: the scheduler cannot be asked.
        SchedulerError: it still has some of them after as many calls as a driver makes.
    """
    wanted = list(jobs)
    times = (job.intended for job in wanted if job.intended is not None)
    # Ours, by the driver's clock, and compared with the scheduler's.
    since = min((time_ - CLOCK_SKEW for time_ in times), default=None)
    found = scheduler.find([job.token for job in wanted], since=since) if wanted else []
    cancelled = _ids(found, but=(Phase.ENDED,))
    living = cancelled
    tokens = {job.token for job in wanted}
    for attempt in range(TRIES):
        if not living:
            return cancelled
        scheduler.cancel(living)
        time.sleep(PAUSE * (attempt + 1))
        ours = [status for status in scheduler.poll(living).values() if status.name in tokens]
        living = _ids(ours, but=(Phase.ENDED, Phase.ENDING))
    if living:
        raise SchedulerError(f"After {TRIES} commands still in the queue: {', '.join(living)}.")
    return cancelled


def _ids(found: Iterable[JobStatus], but: tuple[Phase, ...]) -> list[str]:
    """Return the ids of jobs, an array's for its elements, which are in no phase of `but`."""
    return list(dict.fromkeys(s.job.partition("_")[0] for s in found if s.phase not in but))


def _close_run(folder: str, view: RunView, cancelled: list[str], reason: str) -> None:
    """Journal the end of a run whose driver cannot do it any more."""
    with JournalWriter(folder, view.run_id, _next_driver(folder)) as journal:
        if cancelled:
            journal.write("job-cancel", {"jobs": cancelled, "reason": reason})
        message = f"Cancelled after its driver was gone: {reason}."
        for subject, runs in (("task", view.task_runs), ("flow", view.flow_runs)):
            for run in runs.values():
                if not run.is_final:
                    state = {"type": "CANCELLED", "name": "Cancelled", "message": message}
                    head = {"subject": subject, "id": run.id, "attempt": run.attempt}
                    journal.write("state", head | state, durable=True)


def _next_driver(folder: str) -> str:
    number = 2
    while os.path.exists(os.path.join(folder, "journal", f"driver-{number}.jsonl")):
        number += 1
    return f"driver-{number}"
