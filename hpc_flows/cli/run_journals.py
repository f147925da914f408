"""Flow runs as the journals in this home tell of them."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

from hpc_flows.cli.progress import Follower, goes_on
from hpc_flows.cli.run_tables import LEVELS, listed
from hpc_flows.exceptions import UnknownRun, close_match
from hpc_flows.jobs.reasons import outlook
from hpc_flows.journal.event import DRIVER
from hpc_flows.journal.index import find_run, list_runs, summarise
from hpc_flows.journal.reader import JournalReader, decode
from hpc_flows.schedulers.base import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpc_flows.cli.run_source import Row
    from hpc_flows.client import Api
    from hpc_flows.journal.event import Event
    from hpc_flows.journal.index import RunSummary
    from hpc_flows.journal.replay import FlowRunView, RunView, TaskRunView

_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: Bytes at the beginning of a journal in which the making of the flow run stands.
_HEAD = 64 * 1024

#: Seconds between two looks at a run that is followed.
_PERIOD = 0.5


class Journals:
    """The runs of a home."""

    def __init__(self, home: str) -> None:
        self.home: str | None = home
        self.api: Api | None = None
        self._home = home
        self._views: dict[str, RunView] = {}  # read once for one command
        self.place = home

    def flow_runs(self, *, state: str | None, flow: str | None, limit: int) -> list[Row]:
        """Return runs, the newest first; 0 sets no limit."""
        found = [
            run
            for run in list_runs(self._home)
            if state in (None, (run.state_type or "").lower()) and flow in (None, run.flow)
        ]
        return [listed(_summary_row(run)) for run in (found[:limit] if limit else found)]

    def flow_run(self, wanted: str) -> Row:
        """Return a flow run; a subflow's by its whole id."""
        folder, view, id_ = self._found(wanted, "flow_runs")
        return flow_row(view, view.flow_runs[id_], summarise(folder))

    def named(self, wanted: str) -> Row:
        """Return of a flow run its id and the id of its run, which is known without its journal."""
        try:
            run = os.path.basename(find_run(self._home, wanted))
        except UnknownRun:
            row = self.flow_run(wanted)
            return {"id": row["id"], "run": row["run"]}
        return {"id": run, "run": run}

    def task_runs(
        self, flow_run: Row, *, task: str | None, state: str | None, limit: int
    ) -> tuple[list[Row], int]:
        """Return the first task runs of a flow run, and how many there are."""
        view = self._read(find_run(self._home, flow_run["run"]))
        runs = [
            run
            for run in view.task_runs.values()
            if _is_in(run, flow_run)
            and task in (None, run.task, run.name)
            and state in (None, (run.state_type or "").lower())
        ]
        if task is not None and not runs and state is None:
            raise UnknownRun(_no_task(view, task))
        shown = runs[:limit] if limit else runs
        return [task_row(view, run) for run in shown], len(runs)

    def task_run(self, wanted: str, flow_run: str | None) -> Row:
        """Return a task run with its history."""
        if flow_run is None:
            _, view, id_ = self._found(wanted, "task_runs")
            return task_row(view, view.task_runs[id_], in_detail=True)
        view = self._read(find_run(self._home, self.named(flow_run)["run"]))
        runs = [r for r in view.task_runs.values() if wanted in (r.id, r.name)]
        runs = runs or [r for r in view.task_runs.values() if r.id.startswith(wanted)]
        if len(runs) != 1:
            raise UnknownRun(_no_task(view, wanted, several=len(runs)))
        return task_row(view, runs[0], in_detail=True)

    def logs(self, row: Row, *, level: int, task_run: bool) -> Iterator[Row]:
        """Give log records in the order of their times."""
        yield from _Records(find_run(self._home, row["run"]), row, level, task_run=task_run).new()

    def follow(self, row: Row, *, level: int, task_run: bool) -> Iterator[Row | None]:
        """Give log records as they come until the run has ended; None while there is none."""
        folder = find_run(self._home, row["run"])
        records = _Records(folder, row, level, task_run=task_run)
        while True:
            last = not goes_on(summarise(folder))
            yield from records.new()
            if last:
                return
            yield None
            time.sleep(_PERIOD)

    def _read(self, folder: str) -> RunView:
        if folder not in self._views:
            follower = Follower(folder)
            follower.read_all()
            self._views[folder] = follower.view
        return self._views[folder]

    def _found(self, wanted: str, what: str) -> tuple[str, RunView, str]:
        """Return a run's folder, its view, and the id of the flow or task run that is meant."""
        if what == "flow_runs":
            try:
                folder = find_run(self._home, wanted)
            except UnknownRun:
                if not _WHOLE_ID.fullmatch(wanted):
                    raise
            else:
                view = self._read(folder)
                if view.root is not None:
                    return folder, view, view.root.id
                raise UnknownRun(_no_flow(folder))
        for run in list_runs(self._home) if _WHOLE_ID.fullmatch(wanted) else ():
            if _mentions(run.path, wanted):
                view = self._read(run.path)
                if wanted in getattr(view, what):
                    return run.path, view, wanted
        noun = what.replace("_", " ").removesuffix("s")
        hint = " Name its flow run with --flow-run, or give its whole id."
        raise UnknownRun(
            f"There is no {noun} {wanted!r} in {self._home}.{hint if what == 'task_runs' else ''}"
        )


def _no_flow(folder: str) -> str:
    about = summarise(folder)
    what = f"task {about.name}" if about.name else "a task"
    return (
        f"{os.path.basename(folder)} is no flow run: {what} was called outside of a flow. "
        f"`hpc-flows runs show {about.name or about.id}` shows it."
    )


def _no_task(view: RunView, wanted: str, *, several: int = 0) -> str:
    if several:
        return f"{several} task runs of the run are called {wanted!r}. Give the id of one."
    names = {run.name for run in view.task_runs.values()}
    tasks = {run.task for run in view.task_runs.values()}
    known = f" Its tasks are {', '.join(sorted(tasks))}." if tasks else " It has none."
    match = close_match(wanted, names | tasks)
    return f"The run has no task and no task run {wanted!r}.{match or known}"


def _mentions(folder: str, id_: str) -> bool:
    """Tell whether the driver's journals of a run have an id in them."""
    mark = id_.encode()
    journals = os.path.join(folder, "journal")
    try:
        names = [name for name in os.listdir(journals) if name.startswith("driver")]
    except OSError:
        return False
    return any(_has(os.path.join(journals, name), mark) for name in names)


def _has(path: str, mark: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return any(mark in line for line in file)
    except OSError:
        return False


def _is_in(run: TaskRunView, flow_run: Row) -> bool:
    """Tell whether a task run is a flow run's own; those of no flow run are the root's."""
    own = flow_run["id"]
    return run.flow_run_id == own or (run.flow_run_id is None and own == flow_run["run"])


# Rows ---------------------------------------------------------------------------------------------


def _summary_row(run: RunSummary) -> Row:
    return {
        **run.to_dict(),
        "created": _made(run) or run.created,
        "run": run.id,
        "parent_flow_run": None,
        "driver": driver_word(run),
    }


def _made(run: RunSummary) -> float | None:
    """Return when the flow run was made; its folder is a little older."""
    try:
        with open(os.path.join(run.path, "journal", f"{DRIVER}.jsonl"), "rb") as file:
            head = file.read(_HEAD).split(b"\n")
    except OSError:
        return None
    for line in head:
        if b'"kind":"flow-run"' in line:
            try:
                return decode(line).wall
            except ValueError:  # damaged, or cut by the end of what was read
                return None
    return None


def driver_word(run: RunSummary) -> str | None:
    """Return what is known of a run's driver; None for a run that has ended."""
    if run.ended is not None:
        return None
    return {True: "alive", False: "gone", None: "unknown"}[run.alive]


def flow_row(view: RunView, run: FlowRunView, about: RunSummary) -> Row:
    """Return a flow run as the server's API shows it."""
    own = {"id": run.id, "run": view.run_id}
    tasks: dict[str, int] = {}
    for each in view.task_runs.values():
        if _is_in(each, own):
            type_ = each.state_type or "PENDING"
            tasks[type_] = tasks.get(type_, 0) + 1
    facts = run.to_dict()
    facts["history"] = [list(entry) for entry in run.history]
    return {
        **facts,
        "run": view.run_id,
        "owner": _owner(about.path),
        "project": None,
        "clusters": sorted({job.cluster for job in view.jobs.values() if job.cluster}),
        "host": about.host,
        "tasks": tasks,
        "total_tasks": sum(tasks.values()),
        "heard": None,
        "skew": None,
        "version": view.seen,
        "driver": None if run.is_final else driver_word(about),
    }


def _owner(folder: str) -> str:
    import pwd  # noqa: PLC0415 - for those who look at a run closely

    uid = os.stat(folder).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of another machine
        return str(uid)


def task_row(view: RunView, run: TaskRunView, *, in_detail: bool = False) -> Row:
    """Return a task run as the server's API shows it."""
    facts = run.to_dict()
    if not in_detail:
        facts.pop("history")
    job = view.jobs.get(run.token or "")
    status = None if job is None else job.statuses.get(run.id) or job.statuses.get("")
    reason = None
    if status is not None and status.phase == Phase.QUEUED.value and not run.is_final:
        reason = status.reason
    return {
        **facts,
        "run": view.run_id,
        "cluster": None if job is None else job.cluster or None,
        "partition": None if status is None else status.partition,
        "reason": reason,
        "reason_words": outlook(reason).words if reason else None,
    }


class _Records:
    """The log records of a run as they come."""

    def __init__(self, folder: str, row: Row, level: int, *, task_run: bool) -> None:
        self._reader = JournalReader(folder)
        self._names: dict[str, str] = {}
        self._row = row
        self._level = level
        self._key = "task_run" if task_run else "flow_run"
        # All of the run belongs to its root; a subflow has its own and its task runs' records.
        self._all = not task_run and row["id"] == row["run"]

    def new(self) -> list[Row]:
        """Return the records that came since the last time."""
        events: list[Event] = []
        while batch := self._reader.poll():
            events += [event for event in batch if event.kind == "log"]
            for event in batch:
                if event.kind == "task-run":
                    self._names[str(event.data.get("id"))] = str(event.data.get("name", ""))
        return [self._as_row(e) for e in sorted(self._wanted(events), key=lambda e: e.order)]

    def _wanted(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            own = self._all or event.data.get(self._key) == self._row["id"]
            if own and _level(event) >= self._level:
                yield event

    def _as_row(self, event: Event) -> dict[str, Any]:
        return {
            "id": f"{event.writer}:{event.seq}",
            "t": event.wall,
            "level": _level(event),
            "message": event.data.get("message", ""),
            "logger": event.data.get("logger"),
            "task_run": event.data.get("task_run"),
            "task_run_name": self._names.get(str(event.data.get("task_run"))),
            "flow_run": event.data.get("flow_run"),
        }


def _level(event: Event) -> int:
    told = event.data.get("level", "INFO")
    return told if isinstance(told, int) else LEVELS.get(str(told).lower(), 20)
