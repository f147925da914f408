"""A scheduler that does as it is told, and a run to submit for; for tests of the driver's side."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hpc_flows.clusters import Cluster
from hpc_flows.clusters.parts import Grace, Limits, Poll
from hpc_flows.context import RunContext, open_root
from hpc_flows.exceptions import AccountingUnavailable, SchedulerUnavailable
from hpc_flows.futures import TaskFuture
from hpc_flows.journal.writer import JournalWriter
from hpc_flows.runs import FlowRun, TaskRun, new_id
from hpc_flows.schedulers import slurm_commands
from hpc_flows.schedulers.base import (
    Ending,
    JobSpec,
    JobStatus,
    Phase,
    Scheduler,
    SchedulerInfo,
)
from hpc_flows.settings import get_settings
from hpc_flows.task_runners.base import TaskCall

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from hpc_flows.jobs.tracker import Tracker


class DoubleScheduler(Scheduler):
    """Keeps what was submitted, and answers from tables that the test fills.

    Attributes:
        specs: what was submitted, by id.
        queue, accounts: what `poll` and `history` answer, by id; None cannot be asked.
        refusals: errors that the next submissions raise; one that is a tuple `(error, True)` is
            raised although the job is accepted.
        commands: names of the calls, in order.
        cancelled: ids that were cancelled.
    """

    kind = "double"

    def __init__(self) -> None:
        self.specs: dict[str, JobSpec] = {}
        self.queue: dict[str, JobStatus] | None = {}
        self.accounts: dict[str, JobStatus] | None = {}
        self.refusals: list[Any] = []
        self.commands: list[str] = []
        self.cancelled: list[str] = []
        self.on_submit: Callable[[str, JobSpec], None] = lambda job, spec: None
        self._next = 100
        self._lock = threading.Lock()

    def directives(self, spec: JobSpec) -> list[str]:
        return slurm_commands.directives(spec)

    def submit(self, spec: JobSpec, script: str) -> str:
        self.commands.append("submit")
        refusal = self.refusals.pop(0) if self.refusals else None
        if isinstance(refusal, Exception):
            raise refusal
        with self._lock:
            self._next += 1
            job = str(self._next)
        self.specs[job] = spec
        self.say(job, Phase.QUEUED, "PENDING")
        if refusal is not None:
            raise refusal[0]
        self.on_submit(job, spec)
        return job

    def elements(self, job: str) -> list[str]:
        array = self.specs[job].array
        if array is None:
            return [job]
        ends = [part.partition("-")[::2] for part in array.split(",")]
        return [f"{job}_{n}" for a, b in ends for n in range(int(a), int(b or a) + 1)]

    def say(self, job: str, phase: Phase, raw: str, **more: Any) -> None:
        """Have the queue say this of a job and all its elements."""
        array = job.partition("_")[0]
        name = more.pop("name", self.specs[array].token)
        ids = [job] if "_" in job else self.elements(job)
        for each in ids:
            status = JobStatus(each, name, phase, raw, submitted=time.time(), **more)
            assert self.queue is not None
            self.queue[each] = status

    def record(self, job: str, ending: Ending, raw: str, **more: Any) -> None:
        """Have the queue forget a job, and accounting say how it ended."""
        assert self.queue is not None
        token = self.specs[job.partition("_")[0]].token
        self.queue.pop(job, None)
        if self.accounts is not None:
            self.accounts[job] = JobStatus(
                job, token, Phase.ENDED, raw, ending=ending, source="history", **more
            )

    def poll(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        self.commands.append("poll")
        if self.queue is None:
            raise SchedulerUnavailable("the double cannot be asked")
        return _asked(self.queue, ids)

    def history(self, ids: Sequence[str], names: Collection[str] = ()) -> dict[str, JobStatus]:
        self.commands.append("history")
        if self.accounts is None:
            raise AccountingUnavailable("the double keeps no accounts")
        return _asked(self.accounts, ids)

    def find(self, token: str | Sequence[str], since: float | None = None) -> list[JobStatus]:
        self.commands.append("find")
        if self.queue is None:
            raise SchedulerUnavailable("the double cannot be asked")
        tokens = [token] if isinstance(token, str) else token
        return [status for status in self.queue.values() if status.name in tokens]

    def cancel(self, ids: Sequence[str], *, token: str | None = None) -> None:
        self.commands.append("cancel")
        self.cancelled.extend(ids)
        for job in list(self.queue or {}):
            if job in ids or job.partition("_")[0] in ids:
                self.record(job, Ending.CANCELLED, "CANCELLED")

    def describe(self) -> SchedulerInfo:
        self.commands.append("describe")
        return SchedulerInfo("double", "1.0", max_array_size=1001, accounting=True)


def _asked(table: dict[str, JobStatus], ids: Sequence[str]) -> dict[str, JobStatus]:
    return {job: status for job, status in table.items() if {job, job.partition("_")[0]} & set(ids)}


def quick_cluster(**changes: Any) -> Cluster:
    """Return a cluster whose waits are short."""
    usual = Cluster(
        name="double",
        limits=Limits(max_array_size=1001, submit_burst=100, submit_per_minute=6000),
        poll=Poll(first=0.01, interval=0.02, slowest=0.05, history=0.02),
        grace=Grace(file_system=0.2, accounting=0.2, lost=0.3),
        partitions=Cluster.load("mock").partitions,
        default_partition="standard",
    )
    return replace(usual, **changes)


def run_context() -> RunContext:
    """Return the context of a new flow run."""
    root = open_root(new_id(), {}, get_settings())
    return RunContext(root, flow_run=FlowRun("flow"))


def call_of(context: RunContext, task: Any, *args: Any, **kwargs: Any) -> TaskCall:
    """Return a call of a task in a context."""
    assert context.flow_run is not None
    run = TaskRun(task.name, task.task_key, flow_run_id=context.flow_run.id)
    return TaskCall(task, run, args, kwargs, TaskFuture(run), context)


def play_job(
    tracker: Tracker, token: str, index: int, call: TaskCall, *, restart: int = 0, **final: Any
) -> None:
    """Write what the job of a call would write; without `final` it only starts."""
    root = tracker.root
    writer = f"{token}-{index}-{restart}"
    with JournalWriter(root.run_dir, root.run_id, writer, background=False) as journal:
        details = {"job": final.pop("job", ""), "node": "c1", "restart": restart}
        base = {"subject": "task", "id": call.run.id, "attempt": 1, "details": details}
        journal.write("state", {**base, "type": "RUNNING", "name": "Running"})
        if not final:
            return
        reference = root.results.keep("value", final.pop("value", None))
        state = {"type": "COMPLETED", "name": "Completed", "result": reference, **final}
        journal.write("state", {**base, **state}, durable=True)
    open(f"{root.run_dir}/journal/{writer}.ended", "x").close()


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Return the first true value of a function."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.005)
    raise AssertionError(f"nothing within {seconds} s")
