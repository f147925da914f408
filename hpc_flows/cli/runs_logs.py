"""`hpc-flows runs logs`: the log records of a run, merged or of some task runs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import Command, NamedChoice
from hpc_flows.cli.progress import goes_on
from hpc_flows.cli.runs import RunName, folder_of
from hpc_flows.cli.runs_show import output_of
from hpc_flows.cli.terminal import print_json
from hpc_flows.exceptions import UnknownRun, close_match
from hpc_flows.journal.index import summarise
from hpc_flows.journal.reader import JournalReader
from hpc_flows.journal.replay import RunView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hpc_flows.journal.event import Event
    from hpc_flows.journal.replay import TaskRunView

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}

#: Seconds between two looks at a run that is followed.
_PERIOD = 0.5


@click.command(cls=Command, short_help="Print the log records of a run.")
@click.argument("run", type=RunName())
@click.option("--task", help="Only of this task, or of the task run of this name or id.")
@click.option("--level", type=NamedChoice(list(_LEVELS)), help="Only of this level or above.")
@click.option("-n", "--limit", default=0, help="Only the last so many; 0 for all.")
@click.option("-f", "--follow", is_flag=True, help="Print what comes until the run ends.")
@click.option("--output", is_flag=True, help="Print what the jobs wrote to stdout and stderr.")
# Not `json_option`, whose --output would be a second one.
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def logs(
    run: str,
    task: str | None,
    level: str | None,
    limit: int,
    follow: bool,  # noqa: FBT001 - click gives flags as they are
    output: bool,  # noqa: FBT001 - click gives flags as they are
    as_json: bool,  # noqa: FBT001 - click gives flags as they are
) -> None:
    """Print the log records of a run: the flow's and all task runs', in the order of their times.

    RUN is a name, an id or the beginning of one, or `latest`.
    """
    if follow and (output or as_json):
        raise click.UsageError("--follow prints log records; leave --output and --json out.")
    folder = folder_of(run)
    printer = _Printer(folder, task, _LEVELS[level] if level else 0)
    if output:
        printer.print_outputs()
        return
    records = printer.catch_up()
    printer.check_task()
    records = records[-limit:] if limit > 0 else records
    if as_json:
        print_json([printer.as_dict(event) for event in records])
        return
    printer.print_lines(records)
    if follow:
        printer.follow()


class _Printer:
    """Reads a run's log records and prints those that are asked for."""

    def __init__(self, folder: str, task: str | None, level: int) -> None:
        self.folder = folder
        self.task = task
        self.level = level
        self.view = RunView(log_limit=0)
        self._reader = JournalReader(folder)

    def catch_up(self) -> list[Event]:
        """Return the records that came since the last time."""
        events = []
        while batch := self._reader.poll():
            events += batch
            for event in batch:
                self.view.apply(event)
        found = [event for event in events if event.kind == "log" and self._is_wanted(event)]
        return sorted(found, key=lambda event: event.order)

    def check_task(self) -> None:
        """Raise UnknownRun when the run has nothing of the task that was asked for."""
        if self.task is None or any(map(self._is_of_task, self.view.task_runs.values())):
            return
        tasks = {run.task for run in self.view.task_runs.values()}
        names = {run.name for run in self.view.task_runs.values()}
        match = close_match(self.task, tasks | names)
        known = f" Its tasks are {', '.join(sorted(tasks))}." if tasks else " It has none."
        raise UnknownRun(f"The run has no task and no task run {self.task!r}.{match or known}")

    def _is_of_task(self, run: TaskRunView) -> bool:
        return self.task in (run.task, run.name, run.id) or run.id.startswith(self.task or " ")

    def _is_wanted(self, event: Event) -> bool:
        if _LEVELS.get(str(event.data.get("level", "")).lower(), 20) < self.level:
            return False
        if self.task is None:
            return True
        run = self.view.task_runs.get(str(event.data.get("task_run")))
        return run is not None and self._is_of_task(run)

    def subject(self, event: Event) -> str:
        """Return whom a record is about, as the console names it."""
        task_run, flow_run = event.data.get("task_run"), event.data.get("flow_run")
        for id_, runs, what in (
            (task_run, self.view.task_runs, "Task run"),
            (flow_run, self.view.flow_runs, "Flow run"),
        ):
            if id_ is not None:
                found = runs.get(id_)
                return f"{what} '{found.name if found is not None else id_}' - "
        return ""

    def as_dict(self, event: Event) -> dict[str, Any]:
        """Return a record for JSON."""
        run = self.view.task_runs.get(str(event.data.get("task_run")))
        return {
            "time": event.wall,
            **event.data,
            "task": run.task if run is not None else None,
            "task_run_name": run.name if run is not None else None,
        }

    def print_lines(self, records: Iterable[Event]) -> None:
        """Print records as the console showed them."""
        for event in records:
            level = str(event.data.get("level", "INFO"))
            clock = time.strftime("%H:%M:%S", time.localtime(event.wall))
            text = f"{self.subject(event)}{event.data.get('message', '')}"
            line = f"{clock}.{int(event.wall % 1 * 1000):03d} | {level:<7} | {text}"
            click.echo(click.style(line, fg=_COLOURS[level]) if level in _COLOURS else line)

    def follow(self) -> None:
        """Print what comes until the run ends, or nobody is left who could write."""
        while goes_on(summarise(self.folder)):
            time.sleep(_PERIOD)
            self.print_lines(self.catch_up())
        self.print_lines(self.catch_up())

    def print_outputs(self) -> None:
        """Print what the jobs of the task runs wrote, one file after the other."""
        self.catch_up()
        self.check_task()
        runs = [r for r in self.view.task_runs.values() if not self.task or self._is_of_task(r)]
        found = {output_of(self.folder, run): run for run in runs}
        found.pop(None, None)
        for path, run in found.items():
            if path is not None and os.path.exists(path):
                _print_file(path, f"{run.name}, job {run.job}: {path}")
        if not found:
            click.echo("No job has written any output.", err=True)


def _print_file(path: str, title: str, echo: Callable[..., None] = click.echo) -> None:
    echo(click.style(f"==> {title} <==", bold=True))
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            echo(line, nl=False)
