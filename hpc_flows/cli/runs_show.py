"""`hpc-flows runs show`: one run, from its states down to what its jobs have used."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.artifacts.store import collect
from hpc_flows.cli.artifact import print_artifacts
from hpc_flows.cli.command import Command, json_option
from hpc_flows.cli.job_table import job_rows
from hpc_flows.cli.progress import Follower, watch
from hpc_flows.cli.runs import RunName, folder_of, is_orphan
from hpc_flows.cli.tally import by_task
from hpc_flows.cli.terminal import (
    console,
    count,
    drawing_width,
    duration,
    is_unicode,
    moment,
    print_fields,
    print_json,
    print_rows,
    state_text,
)
from hpc_flows.cli.timeline import draw
from hpc_flows.journal.index import summarise
from hpc_flows.resources import Resources
from hpc_flows.runs import short
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from hpc_flows.journal.index import RunSummary
    from hpc_flows.journal.replay import FlowRunView, RunView, TaskRunView

#: Failures that are shown in full; of more, the first of each kind.
_FAILURES = 5

#: Artifacts that are listed, the last ones.
_ARTIFACTS = 10

_BAD = frozenset({"FAILED", "CRASHED"})


@click.command(cls=Command, short_help="Show a run: task runs, times, jobs, failures.")
@click.argument("run", type=RunName())
@click.option("--watch", "follow", is_flag=True, help="Follow it until it ends.")
@json_option
def show(run: str, follow: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show a run: states by task, the timeline, jobs with requested against used, failures.

    RUN is a name, an id or the beginning of one, or `latest`.
    """
    folder = folder_of(run)
    if follow:
        watch(folder)
    follower = Follower(folder)
    follower.read_all()
    if as_json:
        artifacts = [
            each.to_dict() for each in collect(get_settings().home, follower.view.artifacts)
        ]
        about = summarise(folder).to_dict()
        print_json({"summary": about, **follower.view.to_dict(), "artifacts": artifacts})
        return
    print_run(follower.view, summarise(folder), console())
    _print_artifacts(follower.view)


def print_run(view: RunView, about: RunSummary, where: Console) -> None:
    """Print everything about a run that fits on a screen or two."""
    task_runs = list(view.task_runs.values())
    _print_head(view.root, about, where)
    if task_runs:
        _heading("Task runs")
        print_tasks(task_runs, orphan=is_orphan(about))
        print_timeline(task_runs, about, where)
    if view.jobs:
        _heading("Jobs")
        _print_jobs(view)
    _print_failures(view, about)


def _print_artifacts(view: RunView) -> None:
    """Print what the run has left to look at."""
    found = collect(get_settings().home, view.artifacts)
    if found:
        _heading("Artifacts")
        print_artifacts(found[-_ARTIFACTS:])
        if len(found) > _ARTIFACTS:
            click.echo(f"and {count(len(found) - _ARTIFACTS, 'artifact')} before these")


def _heading(text: str) -> None:
    click.echo("\n" + click.style(text, bold=True))


def _print_head(root: FlowRunView | None, about: RunSummary, where: Console) -> None:
    line = state_text(about.state_name or "not begun", about.state_type or "")
    if is_orphan(about):
        line.append(f", and its driver is gone (process {about.pid} of {about.host})", "red")
    if about.name:
        what = f"flow {about.flow}" if about.flow else "task"
        click.echo(click.style(f"{about.name}  ", bold=True) + f"{what}  ", nl=False)
    where.print(line)
    fields = {"id": about.id, "started": _times(about), "folder": about.path}
    if root is not None and root.parameters:
        fields["parameters"] = ", ".join(f"{k}={v}" for k, v in root.parameters.items())
    if about.ended is None and about.alive:
        fields["driver"] = f"process {about.pid} on {about.host}"
    print_fields(fields)


def _times(about: RunSummary) -> str:
    if about.started is None:
        return "not yet"
    if about.ended is not None:
        return f"{moment(about.started)}, took {duration(about.ended - about.started)}"
    return f"{moment(about.started)}, {duration(time.time() - about.started)} ago"


def print_tasks(task_runs: Sequence[TaskRunView], *, orphan: bool = False) -> None:
    """Print how many runs of each task stand where, and how long they waited and ran.

    Args:
        task_runs: the runs.
        orphan: whether their driver is gone.
    """
    tallies = by_task(task_runs, orphan=orphan)
    columns = [name for name in _COLUMNS if any(getattr(each, name) for each in tallies.values())]
    print_rows(
        ("task", "runs", *columns, "in queue", "ran", "asks for"),
        [
            (
                task,
                counted.total,
                *(getattr(counted, name) or "" for name in columns),
                *_typical([run for run in task_runs if run.task == task]),
            )
            for task, counted in tallies.items()
        ],
        right=("runs", *columns, "in queue", "ran"),
    )


_COLUMNS = ("waiting", "queued", "running", "done", "failed", "cancelled", "gone")


def _typical(task_runs: Sequence[TaskRunView]) -> tuple[str, str, str]:
    queued = [r.started - r.queued for r in task_runs if r.started and r.queued]
    ran = [r.ended - r.started for r in task_runs if r.started and r.ended]
    asked = Counter(Resources.from_dict(r.resources).describe() for r in task_runs if r.resources)
    shapes = [what if n == len(task_runs) else f"{n} of {what}" for what, n in asked.most_common(3)]
    return _range(queued), _range(ran), "; ".join(shapes)


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    least, most = duration(min(values)), duration(max(values))
    return least if least == most else f"{least} - {most}"


def print_timeline(task_runs: Sequence[TaskRunView], about: RunSummary, where: Console) -> None:
    """Print when the task runs waited, were queued, and ran."""
    now = time.time() if about.alive is not False else _last_change(task_runs)
    lines = draw(
        task_runs,
        now=about.ended or now,
        width=drawing_width(where),
        unicode=is_unicode(where),
    )
    if lines:
        _heading("Timeline")
    for line in lines:
        where.print(line, soft_wrap=True)


def _last_change(task_runs: Sequence[TaskRunView]) -> float:
    return max((entry[0] for run in task_runs for entry in run.history), default=time.time())


def _print_jobs(view: RunView) -> None:
    print_rows(
        ("job", "task", "runs", "partition", "state", "memory", "walltime", "cpu"),
        job_rows(view),
        right=("runs",),
    )


def _print_failures(view: RunView, about: RunSummary) -> None:
    bad = [run for run in view.task_runs.values() if run.state_type in _BAD]
    root = view.root
    refused = [job for job in view.jobs.values() if job.refusal]
    if not bad and not refused and (root is None or root.state_type not in _BAD):
        return
    _heading("Failures")
    for run in _most_telling(bad):
        _print_failure(run.name, run)
    if len(bad) > _FAILURES:
        click.echo(f"  and {count(len(bad) - _FAILURES, 'task run')} more, of the same kinds")
    for job in refused:
        click.echo(f"  {job.cluster} refused {job.token}: {_indent(job.refusal or '')}")
    if root is not None and root.state_type in _BAD:
        _print_failure(f"flow run {root.name}", root)
    click.echo(f"\n  hpc-flows runs logs {about.name or short(about.id)}")


def _most_telling(bad: Sequence[TaskRunView]) -> list[TaskRunView]:
    """Return a few failures, of as many different kinds as there are."""
    if len(bad) <= _FAILURES:
        return list(bad)
    kinds: dict[tuple[Any, ...], TaskRunView] = {}
    for run in bad:
        kinds.setdefault((run.task, run.state_name, (run.message or "")[:20]), run)
    chosen = list(kinds.values())[:_FAILURES]
    return [*chosen, *(run for run in bad if run not in chosen)][:_FAILURES]


def _print_failure(name: str, run: TaskRunView | FlowRunView) -> None:
    attempts = f", attempt {run.attempt}" if run.attempt > 1 else ""
    head = click.style(f"  {name}", fg="red") + f": {run.state_name}{attempts}"
    click.echo(head + (f"\n    {_indent(run.message)}" if run.message else ""))


def _indent(text: str) -> str:
    return text.strip().replace("\n", "\n    ")


def output_of(folder: str, run: TaskRunView) -> str | None:
    """Return the path of the file with the output of a task run's job, if there is one."""
    told = run.known("output")
    if told is not None:
        return str(told)
    if run.token is None:
        return None
    index = (run.job or "").partition("_")[2] or "0"
    path = os.path.join(folder, "jobs", run.token, f"out-{index}.log")
    return path if os.path.exists(path) else None
