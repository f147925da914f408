"""The accounting database: one row for each run of each job, as late as the site's lag."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster.job import clean_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.clock import Clock
    from hpc_flows.mock_cluster.job import Job, Request
    from hpc_flows.mock_cluster.store import Store


#: Raw status of a job that the memory limit ended, printed as 0:125.
OOM_STATUS = 125
#: Ends that the script did not choose: accounting keeps no exit code for them.
_NO_STATUS = {"CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "REQUEUED", "RESIZING", "PENDING"}


@dataclass(slots=True)
class Step:
    """One step of a job: its batch script or an srun."""

    name: str
    label: str
    state: str
    status: int
    start: float
    end: float | None
    max_rss: int = 0
    ntasks: int = 1
    cpu_seconds: float = 0.0


def step_end(status: int, *, oom: bool = False) -> tuple[str, int]:
    """Return state and raw status of a step that ended with a raw wait status."""
    if oom:
        return "OUT_OF_MEMORY", OOM_STATUS
    code, number = clean_status(status)
    if number:
        return "CANCELLED", number
    return ("FAILED" if code else "COMPLETED"), status


def begin_step(job: Job, name: str, label: str, start: float, ntasks: int = 1) -> dict[str, Any]:
    """Add a running step to a job and return its table."""
    step = Step(name, label, "RUNNING", 0, start, None, ntasks=ntasks)
    job.step_rows.append(dataclasses.asdict(step))
    return job.step_rows[-1]


@dataclass(slots=True)
class Row:
    """What accounting knows about one run of a job."""

    job: int
    run: int
    spec: int
    request: Request
    array_id: int | None
    task: int | None
    waiting: str
    state: str
    cancelled_by: int | None
    submit: float
    eligible: float | None
    start: float | None
    end: float | None
    nodes: list[str]
    cpus: int
    head_cpus: int
    head_memory: int
    gpus: int
    memory: int
    status: int
    derived: int
    reason: str
    comment: str | None
    max_rss: int
    cpu_seconds: float
    time_limit: int | None
    priority: int = 1000
    steps: list[Step] = field(default_factory=list)

    @property
    def display_id(self) -> str:
        """The id as users write it."""
        if self.array_id is None or (self.task is None and not self.waiting):
            return str(self.job)
        if self.task is None:
            return f"{self.array_id}_[{self.waiting}]"
        return f"{self.array_id}_{self.task}"

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.end is not None

    @staticmethod
    def of(job: Job, state: str | None = None) -> Row:
        """Return a row with what a job's record says now, or with another state."""
        held = list(job.nodes.values())
        return Row(
            job=job.id,
            run=job.run,
            spec=job.spec,
            request=job.request,
            array_id=job.array_id,
            task=job.task,
            waiting=job.element_text if job.is_common else "",
            state=state or job.state,
            cancelled_by=job.cancelled_by,
            submit=job.submit,
            eligible=job.eligible,
            start=job.start,
            end=job.end,
            nodes=job.node_names,
            cpus=sum(a.cpus for a in held) or job.request.cpus,
            head_cpus=held[0].cpus if held else 0,
            head_memory=held[0].memory if held else 0,
            gpus=sum(len(a.gpus) for a in held),
            memory=sum(a.memory for a in held),
            status=0 if (state or job.state) in _NO_STATUS else job.status,
            derived=job.derived,
            reason="None" if job.nodes else job.reason,
            comment=job.comment,
            max_rss=job.max_rss,
            cpu_seconds=job.cpu_seconds,
            time_limit=job.time_limit,
            priority=job.priority,
            steps=[Step(**table) for table in job.step_rows],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all but the request as JSON-safe values."""
        table = {name: getattr(self, name) for name in _ROW_FIELDS}
        table["steps"] = [dataclasses.asdict(step) for step in self.steps]
        return table

    @staticmethod
    def from_dict(table: dict[str, Any], request: Request) -> Row:
        """Return the row that `to_dict` wrote."""
        values = dict(table)
        values["steps"] = [Step(**step) for step in table["steps"]]
        return Row(request=request, **values)


_ROW_FIELDS = tuple(entry.name for entry in dataclasses.fields(Row) if entry.name != "request")


class Accounting:
    """Rows by (raw id, run), and the posts that have not arrived yet."""

    def __init__(self, clock: Clock, store: Store, lag: Callable[[], float | None]) -> None:
        """Make an empty database.

        Args:
            clock: the time.
            store: where posts are kept.
            lag: gives the seconds that a post takes now; None loses it for good.
        """
        self._clock = clock
        self._store = store
        self._lag = lag
        self.rows: dict[tuple[int, int], Row] = {}

    def post(self, row: Row) -> None:
        """Send a row on its way."""
        lag = self._lag()
        if lag is None:
            return
        due = self._clock.now() + lag
        self._store.write("acct", {"due": due, "row": row.to_dict()})
        self.arrive(row, due)

    def arrive(self, row: Row, due: float) -> None:
        """Let a row arrive when it is due, at once when that is past."""
        if due <= self._clock.now():
            self._apply(row)
        else:
            self._clock.call_at(due, lambda: self._apply(row))

    def _apply(self, row: Row) -> None:
        key = (row.job, row.run)
        known = self.rows.get(key)
        if known is None or not (known.ended and not row.ended):
            self.rows[key] = row

    def last_rows(self) -> list[Row]:
        """Return the last run of every job."""
        last: dict[int, Row] = {}
        for (job, run), row in self.rows.items():
            if job not in last or run >= last[job].run:
                last[job] = row
        return list(last.values())

    def forget(self, job: int) -> None:
        """Lose every row of a job."""
        for key in [key for key in self.rows if key[0] == job]:
            del self.rows[key]
        self._store.write("lost", job)
