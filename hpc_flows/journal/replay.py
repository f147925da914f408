"""Replay: what a run looks like after its events, in whatever order they came.

`RunView.apply` takes one event at a time, so that a display or a server can follow a run; the
same events give the same view, late, twice or shuffled.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hpc_flows.journal.reader import NumberSet
from hpc_flows.journal.views import (
    Change,
    FlowRunView,
    JobStatus,
    JobView,
    StatefulView,
    TaskRunView,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hpc_flows.journal.event import Event

__all__ = [
    "Change",
    "FlowRunView",
    "JobStatus",
    "JobView",
    "RunView",
    "StatefulView",
    "TaskRunView",
    "TimelineRow",
    "replay",
    "timeline",
]

_View = TypeVar("_View", bound=StatefulView)

#: Log records, users' own events, and events about artifacts, that a view keeps of each if it is
#: not told otherwise.
LOG_LIMIT = 1000


class RunView:
    """A run, as far as its events are known.

    Args:
        log_limit: how many log records, how many of users' own events and how many about
            artifacts to keep, the newest ones; None keeps all.

    Attributes:
        run_id: id of the root flow run, or an empty text before the first event.
        flow_runs, task_runs: by id, in the order in which they were first heard of.
        jobs: submissions by token.
        counts: by task name, how many task runs are in a state of which name.
        seen: how many different events were taken.
        repeated: how many had been taken before.
        refused: how many were of a known kind and lacked what it needs.
    """

    def __init__(self, *, log_limit: int | None = LOG_LIMIT) -> None:
        self.run_id = ""
        self.flow_runs: dict[str, FlowRunView] = {}
        self.task_runs: dict[str, TaskRunView] = {}
        self.jobs: dict[str, JobView] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.seen = 0
        self.repeated = 0
        self.refused = 0
        self._logs = _Newest(log_limit)
        self._events = _Newest(log_limit)
        self._artifacts = _Newest(log_limit)
        self._numbers: dict[str, NumberSet] = {}
        self._cancellations: list[Event] = []
        self._handlers: dict[str, Callable[[Event], None]] = {
            "flow-run": self._flow_run,
            "task-run": self._task_run,
            "state": self._state,
            "log": self._logs.add,
            "event": self._events.add,
            "artifact": self._artifacts.add,
            "job-intent": self._job_intent,
            "job-submitted": self._job_submitted,
            "job-refused": lambda event: self._job(event).refuse(event),
            "job-status": lambda event: self._job(event).report(event),
            "job-cancel": self._job_cancel,
        }

    @property
    def root(self) -> FlowRunView | None:
        """The root flow run, once it was heard of."""
        return self.flow_runs.get(self.run_id)

    @property
    def logs(self) -> list[Event]:
        """The newest log records, in order."""
        return self._logs.sorted()

    @property
    def events(self) -> list[Event]:
        """The newest of the users' own events, in order."""
        return self._events.sorted()

    @property
    def artifacts(self) -> list[Event]:
        """The newest events about artifacts, in order; `artifacts.store.collect` joins them."""
        return self._artifacts.sorted()

    def apply(self, event: Event) -> bool:
        """Take one event; tell whether it was new."""
        if not self._numbers.setdefault(event.writer, NumberSet()).add(event.seq):
            self.repeated += 1
            return False
        self.seen += 1
        self.run_id = self.run_id or event.run
        handler = self._handlers.get(event.kind)
        if handler is None:  # of a newer version; it changes nothing that is known here
            return True
        try:
            handler(event)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            self.refused += 1
        return True

    def tail(self, count: int = 20, *, task_run: str | None = None) -> list[Event]:
        """Return the last log records, of one task run or of all."""
        logs = self.logs
        if task_run is not None:
            logs = [event for event in logs if event.data.get("task_run") == task_run]
        return logs[-count:] if count > 0 else []

    def to_dict(self) -> dict[str, Any]:
        """Return all but logs and users' events, JSON-safe, sorted by when runs were made."""
        return {
            "run": self.run_id,
            "flow_runs": [view.to_dict() for view in _by_age(self.flow_runs.values())],
            "task_runs": [view.to_dict() for view in _by_age(self.task_runs.values())],
            "jobs": [self.jobs[token].to_dict() for token in sorted(self.jobs)],
            "counts": {task: dict(sorted(c.items())) for task, c in sorted(self.counts.items())},
        }

    def _flow_run(self, event: Event) -> None:
        self._flow(event.data["id"]).begin(event)

    def _task_run(self, event: Event) -> None:
        self._counted(event.data["id"], lambda view: view.begin(event))

    def _state(self, event: Event) -> None:
        subject, id_ = event.data["subject"], event.data["id"]
        Change.of(event)  # refuses nonsense before a view is made for it
        if subject == "flow":
            self._flow(id_).change(event)
        elif subject == "task":
            self._counted(id_, lambda view: view.change(event))
        else:
            raise ValueError(subject)

    def _flow(self, id_: str) -> FlowRunView:
        if id_ not in self.flow_runs:
            self.flow_runs[_checked(id_)] = FlowRunView(id_)
        return self.flow_runs[id_]

    def _task(self, id_: str) -> TaskRunView:
        if id_ not in self.task_runs:
            self.task_runs[_checked(id_)] = TaskRunView(id_)
        return self.task_runs[id_]

    def _counted(self, id_: str, change: Callable[[TaskRunView], None]) -> None:
        view = self._task(id_)
        self._count(view, -1)
        try:
            change(view)
        finally:  # an event that says nonsense must not take the run out of the counts
            self._count(view, 1)

    def _count(self, view: TaskRunView, by: int) -> None:
        name = view.state_name
        if name is None:
            return
        counts = self.counts.setdefault(view.task, Counter())
        counts[name] += by
        if not counts[name]:
            del counts[name]
        if not counts:
            del self.counts[view.task]

    def _job(self, event: Event) -> JobView:
        token = _checked(event.data["token"])
        return self.jobs.setdefault(token, JobView(token))

    def _job_intent(self, event: Event) -> None:
        job = self._job(event)
        job.intend(event)
        for index, id_ in enumerate(job.task_runs):
            self._task(id_).put_into(job, index)

    def _job_submitted(self, event: Event) -> None:
        job = self._job(event)
        job.submit(event)
        for cancellation in self._cancellations:
            _cancel(job, cancellation)

    def _job_cancel(self, event: Event) -> None:
        self._cancellations.append(event)
        for job in self.jobs.values():
            _cancel(job, event)


class TimelineRow(NamedTuple):
    """The times of one task run, in seconds since 1970; None for what has not happened."""

    id: str
    name: str
    task: str
    attempt: int
    created: float | None
    queued: float | None
    started: float | None
    ended: float | None
    state_type: str | None
    state_name: str | None


def replay(events: Iterable[Event], *, log_limit: int | None = LOG_LIMIT) -> RunView:
    """Return the view of a run after some events."""
    view = RunView(log_limit=log_limit)
    for event in events:
        view.apply(event)
    return view


def timeline(view: RunView) -> list[TimelineRow]:
    """Return the times of all task runs, in the order in which they were made."""
    return [
        TimelineRow(*(getattr(run, name) for name in TimelineRow._fields))
        for run in _by_age(view.task_runs.values())
    ]


class _Newest:
    """The newest of some events, however they come; `limit` None keeps all."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._kept: list[Event] = []

    def add(self, event: Event) -> None:
        self._kept.append(event)
        # Twice the limit, so that the sorting is paid once for many.
        if self._limit is not None and len(self._kept) >= 2 * max(self._limit, 1):
            self._kept = self.sorted()

    def sorted(self) -> list[Event]:
        ordered = sorted(self._kept, key=lambda event: event.order)
        return ordered if self._limit is None else ordered[max(0, len(ordered) - self._limit) :]


def _cancel(job: JobView, event: Event) -> None:
    ids = {str(id_).partition("_")[0] for id_ in event.data["jobs"]}
    if job.job is not None and job.job.partition("_")[0] in ids:
        job.cancel(event)


def _by_age(views: Iterable[_View]) -> list[_View]:
    return sorted(views, key=lambda view: (view.created or 0.0, view.id))


def _checked(id_: object) -> str:
    if not isinstance(id_, str):
        raise TypeError(type(id_))
    return id_
