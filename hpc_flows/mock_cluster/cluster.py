"""The pretend cluster: its queue, nodes and rules, driven by a clock and a runner of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from hpc_flows.mock_cluster import dependencies, scheduling
from hpc_flows.mock_cluster.accounting import (
    OOM_STATUS,
    Accounting,
    Row,
    begin_step,
    step_end,
)
from hpc_flows.mock_cluster.admission import OVER_LIMIT, RefusedError
from hpc_flows.mock_cluster.hostlist import parse_elements
from hpc_flows.mock_cluster.job import (
    COMPLETED,
    FAILED,
    HELD_BY_USER,
    OUT_OF_MEMORY,
    PENDING,
    RUNNING,
    TIMEOUT,
    Job,
    request_to_dict,
)
from hpc_flows.mock_cluster.placement import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.mock_cluster.clock import Clock
    from hpc_flows.mock_cluster.job import Allocation, Request
    from hpc_flows.mock_cluster.sites import Site
    from hpc_flows.mock_cluster.store import Store

#: The signal of jobs whose output file or folder cannot be opened, printed as 0:53.
LAUNCH_FAILED = 53


class Runner(Protocol):
    """What really runs jobs; tests and virtual time have runners of their own."""

    def launch(self, job: Job) -> None:
        """Start a job that has its nodes."""

    def terminate(self, job: Job, notice: str) -> None:
        """Write a notice into the job's output and send it TERM."""

    def kill(self, job: Job) -> None:
        """Kill all of a job's processes."""

    def power_cut(self, job: Job) -> None:
        """Kill a job's processes and its supervisor, leaving no report."""

    def signal(self, job: Job, number: int, *, batch: bool, steps: bool) -> None:
        """Send a signal to the batch script, to everything below it, or to both."""


class Exit:
    """How a job's processes ended: raw wait status, resources, or why they never began."""

    __slots__ = ("cpu_seconds", "max_rss", "status")

    def __init__(self, status: int, max_rss: int = 0, cpu_seconds: float = 0.0) -> None:
        self.status = status
        self.max_rss = max_rss
        self.cpu_seconds = cpu_seconds


class Cluster:
    """Jobs, nodes and accounting of one pretend site."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        store: Store,
        runner: Runner,
        lag: Callable[[], float | None] | None = None,
    ) -> None:
        self.site = site
        self.clock = clock
        self.store = store
        self.runner = runner
        self.nodes = {name: Node.empty(spec) for name, spec in site.nodes.items()}
        self.jobs: dict[int, Job] = {}
        self.arrays: dict[int, list[int]] = {}
        self.specs: dict[int, Request] = {}
        self.next_id = 1
        self.generation = 0
        self.accounting = Accounting(clock, store, lag or (lambda: site.timings.dbd_lag))
        self.watchers: dict[int, list[Callable[[Job], None]]] = {}
        self.pass_pending = False
        self.last_pass = 0.0
        self.on_start: Callable[[Job], None] = lambda _job: None

    # -- looking

    def records(self, number: int) -> list[Job]:
        """Return the records of an array's number, a job's id or an element's raw id."""
        if number in self.arrays:
            return [self.jobs[raw] for raw in self.arrays[number] if raw in self.jobs]
        return [self.jobs[number]] if number in self.jobs else []

    def knows(self, number: int) -> bool:
        """Return whether the controller still has a record of that id."""
        return bool(self.records(number))

    def pending(self) -> Iterator[Job]:
        """Yield the waiting records."""
        return (job for job in list(self.jobs.values()) if job.state == PENDING)

    def running(self) -> Iterator[Job]:
        """Yield the records that hold nodes."""
        return (j for j in list(self.jobs.values()) if j.state == RUNNING or j.completing)

    def partition_of(self, job: Job) -> Any:
        """Return the partition of a job."""
        return self.site.partitions[job.request.partition]

    # -- submitting

    def take_id(self) -> int:
        """Return the next id of the one counter that jobs and elements share."""
        number = self.next_id
        while number in self.jobs or number in self.arrays:
            number += 1
        self.next_id = number + 1
        self.store.write("next", self.next_id)
        return number

    def submit(self, request: Request) -> Job:
        """Queue a checked request.

        Raises:
            RefusedError: a dependency is bad, or a limit on submitted jobs is reached.
        """
        elements = parse_elements(request.array.partition("%")[0]) if request.array else []
        self._check_submitted(request, max(len(elements), 1))
        waits_for = self._dependencies(request)
        number = self.take_id()
        self.specs[number] = request
        job = Job(number, number, request, self.clock.now(), time_limit=request.time_limit)
        job.run, job.last_eval = self.generation, self.clock.now()
        job.comment, job.begin, job.dependencies = request.comment, request.begin, waits_for
        job.held = HELD_BY_USER if request.hold else ""
        job.priority = 0 if job.held else self._priority(request)
        self.jobs[number] = job
        if elements:
            job.array_id, job.waiting = number, elements
            self.arrays[number] = [number]
        self.store.write("spec", {"id": number, "request": request_to_dict(request)})
        self._settle_new(job)
        return job

    def _settle_new(self, job: Job) -> None:
        """Make a new job eligible if nothing stands in its way, and remember it."""
        if any(entry["kind"] == "aftercorr" for entry in job.dependencies):
            while len(job.waiting) > 1:
                self.save(self.split(job, job.waiting[0]))
            self.split(job, job.waiting[0])
        scheduling.make_eligible(self, job)
        self.save(job)
        if job.request.deadline is not None:
            self.clock.call_at(job.request.deadline, lambda: scheduling.past_deadline(self, job))
        self.request_pass()

    def _dependencies(self, request: Request) -> list[dict[str, Any]]:
        if not request.dependency:
            return []
        refuse = self.site.release >= (24, 11)
        return dependencies.parse(request.dependency, self.knows, refuse_unknown=refuse)

    def _priority(self, request: Request) -> int:
        qos = self.site.qos.get(request.qos or "")
        return max(1, 1000 + 10 * (qos.priority if qos else 0) - request.nice)

    def _check_submitted(self, request: Request, number: int) -> None:
        qos = self.site.qos.get(request.qos or "")
        mine = [j for j in self.jobs.values() if j.active and j.request.uid == request.uid]
        if qos is not None and qos.max_submit is not None:
            queued = sum(job_count(j) for j in mine if j.request.qos == qos.name)
            if queued + number > qos.max_submit:
                raise RefusedError(OVER_LIMIT, "QOSMaxSubmitJobPerUserLimit")
        most = self.site.max_submitted
        if most is not None and sum(job_count(j) for j in mine) + number > most:
            raise RefusedError(OVER_LIMIT, "AssocMaxSubmitJobLimit")

    def is_full(self, number: int = 1) -> bool:
        """Return whether MaxJobCount leaves no room for so many more records."""
        return sum(job_count(job) for job in self.jobs.values()) + number >= self.site.max_jobs

    def split(self, common: Job, element: int) -> Job:
        """Give a waiting element its own record; the last one becomes the common record."""
        common.waiting.remove(element)
        if not common.waiting:
            common.task = element
            return common
        number = self.take_id()
        job = Job.from_dict({**common.to_dict(), "waiting": []}, common.request)
        job.id, job.task, job.step_rows = number, element, []
        job.dependencies = [dict(entry) for entry in common.dependencies]
        self.jobs[number] = job
        if common.array_id is not None:
            self.arrays[common.array_id].append(number)
        return job

    # -- running

    def request_pass(self, delay: float = 0.0) -> None:
        """Let the scheduler look at the queue soon, at most once a tick."""
        if self.pass_pending:
            return
        self.pass_pending = True
        due = max(self.clock.now() + delay, self.last_pass + self.site.timings.tick)
        self.clock.call_at(due, self._pass)

    def _pass(self) -> None:
        self.pass_pending = False
        self.last_pass = self.clock.now()
        scheduling.run_pass(self)

    def start(self, job: Job, share: dict[str, Allocation]) -> None:
        """Give a job its nodes and run it."""
        job.state, job.reason, job.start = RUNNING, "None", self.clock.now()
        job.nodes, job.end, job.oom, job.ending = share, None, False, ""
        job.status = job.derived = job.steps = job.max_rss = 0
        job.step_rows = []
        if job.request.batch:
            begin_step(job, "batch", "batch", job.start)
        for name, held in share.items():
            self.nodes[name].take(held)
        self.watch_limits(job)
        self.on_start(job)
        self.runner.launch(job)
        self.save(job)
        self.post(job)

    def watch_limits(self, job: Job) -> None:
        """Set the timers of a running job: its time limit and its warning signal."""
        limit, run = job.limit_seconds, job.run
        if limit is None or job.start is None:
            return
        scale = self.site.timings.minute / 60
        due = job.start + limit * scale + self.site.timings.limit_grain
        self.clock.call_at(due, lambda: self._out_of_time(job, run))
        if job.request.signal is not None:
            number, before, batch = job.request.signal
            due = job.start + max(limit - before, 0) * scale
            self.clock.call_at(due, lambda: self._warn(job, run, number, batch=batch))

    def _warn(self, job: Job, run: int, number: int, *, batch: bool) -> None:
        if job.state == RUNNING and job.run == run:
            self.runner.signal(job, number, batch=batch, steps=not batch)

    def _out_of_time(self, job: Job, run: int) -> None:
        if job.state != RUNNING or job.run != run:
            return
        limit = job.limit_seconds
        scale = self.site.timings.minute / 60
        if limit is not None and job.start is not None:
            due = job.start + limit * scale
            if due > self.clock.now():
                self.watch_limits(job)
                return
        job.state = TIMEOUT
        self.stop_processes(job, "DUE TO TIME LIMIT")

    def stop_processes(self, job: Job, why: str = "") -> None:
        """Let a running job complete: TERM with a notice now, KILL after the site's KillWait."""
        job.completing, run = True, job.run
        words = f" {why}" if why else ""
        self.runner.terminate(job, words)
        self.save(job)

        def kill() -> None:
            if job.completing and job.run == run:
                self.runner.kill(job)

        self.clock.call_in(self.site.timings.kill_wait, kill)

    def finish(self, job: Job, ended: Exit) -> None:
        """Take note that a job's processes are gone."""
        if job.state != RUNNING and not job.completing:
            return
        self._decide(job, ended)
        job.end = self.clock.now()
        job.completing, job.pid = False, 0
        job.max_rss = max(job.max_rss, ended.max_rss)
        self._end_steps(job, ended)
        job.cpu_seconds += ended.cpu_seconds
        self.release(job)
        if job.ending:
            scheduling.queue_again(self, job)
        else:
            self.close(job)

    def _end_steps(self, job: Job, ended: Exit) -> None:
        for step in job.step_rows:
            if step["end"] is None:
                batch = step["name"] == "batch"
                state, status = step_end(ended.status, oom=job.oom) if batch else ("CANCELLED", 9)
                step.update(state=state, status=status, end=job.end)
                step.update(max_rss=job.max_rss, cpu_seconds=ended.cpu_seconds)

    def release(self, job: Job) -> None:
        """Take back the nodes of a job; it keeps their names."""
        for name, held in job.nodes.items():
            if self.nodes[name].jobs:
                self.nodes[name].release(held)

    def _decide(self, job: Job, ended: Exit) -> None:
        """Set state, status and reason of an ended job that nothing else has ended."""
        if job.oom:
            job.state, job.status, job.reason = OUT_OF_MEMORY, OOM_STATUS, "OutOfMemory"
        elif job.state == RUNNING and not job.ending:
            job.status = ended.status
            job.state = COMPLETED if ended.status == 0 else FAILED
            if ended.status:
                job.reason = "JobLaunchFailure" if ended.status & 0x7F else "NonZeroExitCode"
        else:
            job.status = ended.status

    def close(self, job: Job) -> None:
        """Make a job's end known, and forget it after the site's MinJobAge."""
        self.save(job)
        self.post(job)
        self.tell(job)
        self.forget_later(job)
        self.request_pass()

    def forget_later(self, job: Job) -> None:
        """Forget an ended job once it is old enough."""
        run = job.run
        age = self.site.timings.min_job_age

        def forget() -> None:
            if job.ended and job.run == run:
                self.forget(job)

        self.clock.call_at((job.end or self.clock.now()) + age, forget)

    def forget(self, job: Job) -> None:
        """Drop a record; its spec goes with the last record that needs it."""
        if self.jobs.pop(job.id, None) is None:
            return
        self.store.write("gone", job.id)
        members = self.arrays.get(job.array_id) if job.array_id is not None else None
        if members is not None and not any(raw in self.jobs for raw in members):
            del self.arrays[job.array_id or 0]

    # -- telling

    def when_ended(self, job: Job, call: Callable[[Job], None]) -> None:
        """Call once a job (all elements, for an array) has ended."""
        self.watchers.setdefault(job.array_id or job.id, []).append(call)

    def tell(self, job: Job) -> None:
        """Tell who waits for a job that it has ended."""
        key = job.array_id or job.id
        if key not in self.watchers:
            return
        if all(r.ended and not r.completing for r in self.records(key)):
            for call in self.watchers.pop(key):
                call(job)

    def save(self, job: Job) -> None:
        """Write a job's record down."""
        self.store.write("job", job.to_dict())

    def post(self, job: Job, state: str | None = None) -> None:
        """Tell accounting about a job."""
        if self.site.accounting:
            self.accounting.post(Row.of(job, state))


def job_count(job: Job) -> int:
    """Return how many jobs a record stands for."""
    return max(len(job.waiting), 1)
