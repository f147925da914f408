"""Runs the jobs of a pretend cluster as processes of this machine and watches their memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import processes, supervisor
from hpc_flows.mock_cluster.cluster import Exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hpc_flows.mock_cluster.clock import Clock
    from hpc_flows.mock_cluster.cluster import Cluster
    from hpc_flows.mock_cluster.job import Job
    from hpc_flows.mock_cluster.supervisor import Plan

_OOM_NOTICE = (
    "slurmstepd-{node}: error: Detected 1 oom-kill event(s) in StepId={id}.batch. Some of your "
    "processes may have been killed by the cgroup out-of-memory handler.\n"
)
#: The memory watch may take this share of a core at most.
_WATCH_SHARE = 1 / 40
#: KiB by which a forked child's high-water mark may exceed the controller's own.
_FORK_SLACK = 4096
#: Seconds until it is looked again whether a job has processes.
_NOT_YET = 0.05


class ProcessRunner:
    """Starts supervisors, reads their reports, and signals what runs below them.

    The plan of a job (its environment, its files) comes from the dialect through `plan`.
    """

    def __init__(self, clock: Clock, spool: Path, plan: Callable[[Job, Path], Plan]) -> None:
        self._clock = clock
        self._spool = spool
        self._plan = plan
        self._by_pid: dict[int, Job] = {}
        self._adopted: set[int] = set()
        self._watching = False
        #: The pids of srun commands by (job, step name).
        self.step_pids: dict[tuple[int, str], int] = {}
        self.cluster: Cluster | None = None
        self.on_start: Callable[[Job], None] = lambda _job: None

    # -- starting and ending

    def launch(self, job: Job) -> None:
        """Start a batch job under a supervisor; an interactive one is its command's business."""
        if not job.request.batch:
            self.on_start(job)
            return
        if job.request.uid < 0:
            return  # someone else's job in a rehearsal: it holds its nodes and runs nothing
        folder = self.folder(job)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        script = folder / "slurm_script"
        script.write_text(job.request.script)
        script.chmod(0o700)
        job.pid = supervisor.start(self._plan(job, folder))
        process = processes.read(job.pid)
        job.pid_born = process.born if process else 0
        self.track(job)

    def folder(self, job: Job) -> Path:
        """Return the spool folder of a job's present run."""
        return self._spool / f"job{job.id:05d}"

    def track(self, job: Job, *, adopted: bool = False) -> None:
        """Watch a running job's processes; adopted ones are not our children."""
        self._by_pid[job.pid] = job
        if adopted:
            self._adopted.add(job.pid)
        self._watch_soon()

    def untrack(self, pid: int) -> Job | None:
        """Stop watching a process and return its job."""
        self._adopted.discard(pid)
        return self._by_pid.pop(pid, None)

    def reap(self) -> None:
        """Collect every child that has ended, and finish its job."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.ended(pid)

    def ended(self, pid: int) -> None:
        """Finish the job of a supervisor that is gone."""
        job = self.untrack(pid)
        if job is not None and self.cluster is not None:
            self.cluster.finish(job, self.read_exit(job))

    def read_exit(self, job: Job) -> Exit:
        """Return what the supervisor reported; killed, where it was killed before it could."""
        try:
            report = json.loads((self.folder(job) / supervisor.EXIT_FILE).read_text())
        except (OSError, ValueError):
            return Exit(int(signal.SIGKILL))
        finally:
            shutil.rmtree(self.folder(job), ignore_errors=True)
        rss = self._own_use(int(report["max_rss"]))
        limit = memory_limit(job)
        # Steps are weighed one by one: their memory does not end the job.
        if limit and rss > limit and not job.steps:
            self._mark_oom(job)
        return Exit(int(report["status"]), rss, float(report["cpu"]))

    def _own_use(self, rss: int) -> int:
        """Return a high-water mark in KiB, 0 where it is only what a fork began with."""
        own = processes.read(os.getpid())
        return 0 if own is not None and rss <= own.rss + _FORK_SLACK else rss

    def has_report(self, job: Job) -> bool:
        """Return whether the supervisor of a job has written its report."""
        return (self.folder(job) / supervisor.EXIT_FILE).exists()

    # -- signals

    def terminate(self, job: Job, notice: str) -> None:
        """Write Slurm's notice into the job's output and send it TERM."""
        if job.request.batch and job.pid:
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self._clock.now()))
            node = next(iter(job.nodes), "")
            text = f"*** JOB {job.id} ON {node} CANCELLED AT {when}{notice} ***"
            self.write_output(job, f"slurmstepd-{node}: error: {text}\n")
        self._ask_to_end(job, job.run)
        if not job.pid and self.cluster is not None:
            self.cluster.clock.call_in(0.0, lambda: self._finish_bare(job))

    def _ask_to_end(self, job: Job, run: int) -> None:
        """Send TERM; to what is only just being started, once it is there."""
        if not job.completing or job.run != run:
            return
        tree = self._tree(job)
        self._each(tree, signal.SIGCONT, signal.SIGTERM)
        if job.pid and not tree:
            self._clock.call_in(_NOT_YET, lambda: self._ask_to_end(job, run))

    def _finish_bare(self, job: Job) -> None:
        """Finish a job that has no process of ours."""
        if job.completing and not job.pid and self.cluster is not None:
            self.cluster.finish(job, Exit(0))

    def kill(self, job: Job) -> None:
        """Kill all of a job's processes."""
        self._each(self._tree(job), signal.SIGKILL)

    def power_cut(self, job: Job) -> None:
        """Kill a job's processes and its supervisor, leaving no report."""
        tree = self._tree(job)
        if job.request.batch and job.pid and self.untrack(job.pid) is not None:
            tree.insert(0, job.pid)
        job.pid = 0
        self._each(tree, signal.SIGKILL)

    def signal(self, job: Job, number: int, *, batch: bool, steps: bool) -> None:
        """Send a signal to the batch script, to everything below it, or to both."""
        task = self._task(job)
        tree = [pid for pid in self._tree(job) if (batch if pid == task else steps)]
        self._each(tree, number)

    def _task(self, job: Job) -> int:
        try:
            return int((self.folder(job) / supervisor.TASK_FILE).read_text())
        except (OSError, ValueError):
            return 0

    def _tree(self, job: Job) -> list[int]:
        return processes.descendants(job.pid) if job.pid else []

    def _each(self, pids: list[int], *numbers: int) -> None:
        for pid in pids:
            for number in numbers:
                _send(pid, number)

    def write_output(self, job: Job, text: str) -> None:
        """Append a line of slurmstepd to a batch job's stderr."""
        if not job.request.batch:
            return
        plan = self._plan(job, self.folder(job))
        path = plan.stderr or plan.stdout
        try:
            fd = os.open(os.path.join(plan.workdir, path), os.O_WRONLY | os.O_APPEND)
        except OSError:
            return
        os.write(fd, text.encode())
        os.close(fd)

    # -- memory

    def _watch_soon(self, wait: float = 0.0) -> None:
        if self._watching or not self._by_pid or self.cluster is None:
            return
        self._watching = True
        wait = max(wait, self.cluster.site.timings.memory_grain)
        self._clock.call_in(wait, self._watch)

    def _watch(self) -> None:
        """Look once at the process table: memory of jobs, and supervisors that are gone."""
        self._watching = False
        began = time.process_time()
        table = processes.snapshot()
        children = processes.children_of(table)
        for pid, job in list(self._by_pid.items()):
            process = table.get(pid)
            if pid in self._adopted and (process is None or process.state == "Z"):
                self.ended(pid)
            elif process is not None:
                tree = processes.below(pid, children)
                self._weigh(job, {p: table[p].rss for p in tree}, children)
        self._watch_soon((time.process_time() - began) / _WATCH_SHARE)

    def _weigh(self, job: Job, sizes: dict[int, int], children: dict[int, list[int]]) -> None:
        """Note a job's memory, and kill its largest process when it holds too much."""
        total = sum(sizes.values())
        job.max_rss = max(job.max_rss, total)
        limit = memory_limit(job)
        if not limit or total <= limit:
            return
        victim = max(sizes, key=sizes.__getitem__)
        for (number, name), root in self.step_pids.items():
            if number == job.id and victim in processes.below(root, children):
                self._step_out_of_memory(job, name)
                self._each([victim], signal.SIGKILL)
                return
        self.out_of_memory(job, victim)

    def _step_out_of_memory(self, job: Job, name: str) -> None:
        """Mark a step; its job goes on, as it does with cgroups."""
        for step in job.step_rows:
            if step["name"] == name:
                step["state"] = "OUT_OF_MEMORY"
        node = next(iter(job.nodes), "")
        text = _OOM_NOTICE.format(node=node, id=job.id).replace(".batch.", f".{name}.")
        self.write_output(job, text)

    def out_of_memory(self, job: Job, pid: int | None = None) -> None:
        """Kill a process of a job (its script's largest child) as the memory limit would."""
        victims = [pid] if pid is not None else self._tree(job)
        self._mark_oom(job)
        self._each(victims, signal.SIGKILL)

    def _mark_oom(self, job: Job) -> None:
        if not job.oom:
            job.oom = True
            node = next(iter(job.nodes), "")
            self.write_output(job, _OOM_NOTICE.format(node=node, id=job.id))


def memory_limit(job: Job) -> int:
    """Return the KiB that a running job may use, 0 for no limit."""
    return sum(held.memory for held in job.nodes.values()) * 1024


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
