"""`srun` and `salloc`: tasks in an allocation, and allocations without a script."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster import actions, admission, processes, scheduling
from hpc_flows.mock_cluster.accounting import begin_step, step_end
from hpc_flows.mock_cluster.admission import RefusedError
from hpc_flows.mock_cluster.cluster import Exit
from hpc_flows.mock_cluster.dialects.slurm import requests
from hpc_flows.mock_cluster.dialects.slurm.environment import (
    allocation_variables,
    fill_pattern,
    gpu_variables,
)
from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, UsageError
from hpc_flows.mock_cluster.dialects.slurm.preliminaries import answered_at_once, user_name
from hpc_flows.mock_cluster.dialects.slurm.sbatch import refuse, try_only
from hpc_flows.mock_cluster.dialects.slurm.words import parse_memory
from hpc_flows.mock_cluster.hostlist import compress_elements
from hpc_flows.mock_cluster.job import PENDING, RUNNING, Job, clean_status
from hpc_flows.mock_cluster.runner import memory_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.service import Service


def srun(service: Service, call: Call) -> None:
    """Answer one srun: a step of the job that it runs in, or a job of its own."""
    given = requests.PARSERS["srun"].parse(call.argv, stop_at_operand=True)
    if answered_at_once(service, call, given):
        return
    if not given.operands:
        raise UsageError("srun: fatal: No command given to execute.\n")
    job = _own_job(service, call, given)
    if job is not None:
        _Step(service, call, given, job).begin(in_job=True)
        return
    _allocate(service, call, given, lambda job: _Step(service, call, given, job).begin())


def salloc(service: Service, call: Call) -> None:
    """Answer one salloc: an allocation for a command that runs where it was called."""
    given = requests.PARSERS["salloc"].parse(call.argv, stop_at_operand=True)
    if answered_at_once(service, call, given):
        return

    def granted(job: Job) -> None:
        call.err(f"salloc: Granted job allocation {job.id}\n")
        env = {**call.env, **allocation_variables(service.site, job)}
        argv = given.operands or [call.env.get("SHELL", "/bin/sh")]
        task = {"env": env, "node": next(iter(job.nodes)), "out": "", "err": ""}
        spec = {"argv": argv, "cwd": call.cwd, "label": False, "tasks": [task]}
        call.run([json.dumps(spec)], lambda report: _relinquish(service, call, job, report))

    _allocate(service, call, given, granted)


def _relinquish(service: Service, call: Call, job: Job, report: str) -> None:
    status, max_rss, cpu = json.loads(report)[0]
    call.err(f"salloc: Relinquishing job allocation {job.id}\n")
    service.cluster.finish(job, Exit(0, max_rss, cpu))
    code, number = clean_status(status)
    call.finish(code or (128 + number if number else 0))


def _own_job(service: Service, call: Call, given: Parsed) -> Job | None:
    """Return the running job that an srun is part of."""
    text = given.get("jobid") or call.env.get("SLURM_JOB_ID", "")
    job = service.cluster.jobs.get(int(text)) if text.isdecimal() else None
    return job if job is not None and job.state == RUNNING else None


def _allocate(service: Service, call: Call, given: Parsed, granted: Callable[[Job], None]) -> None:
    """Queue an interactive job and call back once it has its nodes."""
    command = call.command
    prefix = "SALLOC_" if command == "salloc" else "SLURM_"
    options = requests.overlay(requests.variables(call.env, prefix), given)
    request = requests.build(call, command, options, user_name(call.uid), service.now())
    default = "interactive" if command == "salloc" else os.path.basename(given.operands[0])
    request.name = options.get("job-name") or default
    request.batch, request.requeue, request.array = False, False, None
    request.command = " ".join(given.operands) or None
    request.submit_line = " ".join([command, *call.argv])
    request.environment = dict(call.env)
    if given.has("test-only"):
        try_only(service, call, request)
        return
    try:
        admission.check(service.site, request, inside_job=False)
        job = service.cluster.submit(request)
    except RefusedError as refusal:
        refuse(service, call, command, refusal)
        return
    process = processes.read(call.pid)
    job.pid, job.pid_born = call.pid, process.born if process else 0
    waited: list[bool] = []
    service.interactive[job.id] = lambda: _started(call, job, granted, waited)
    call.on_hang_up = lambda: _hung_up(service, call, job)
    scheduling.run_pass(service.cluster)  # interactive jobs are served at once
    if job.state == PENDING:
        waited.append(True)
        if command == "salloc":
            call.err(f"salloc: Pending job allocation {job.id}\n")
        call.err(f"{command}: job {job.id} queued and waiting for resources\n")
        service.cluster.when_ended(job, lambda ended: _never_started(call, ended))


def _started(call: Call, job: Job, granted: Callable[[Job], None], waited: list[bool]) -> None:
    if waited:
        call.err(f"{call.command}: job {job.id} has been allocated resources\n")
    granted(job)


def _never_started(call: Call, job: Job) -> None:
    """Say that a waiting allocation was taken back."""
    if not job.nodes:
        call.err(f"{call.command}: error: Job allocation {job.id} has been revoked\n")
        call.finish(1)


def _hung_up(service: Service, call: Call, job: Job) -> None:
    """End the job of a command that is gone."""
    if job.ended and not job.completing:
        return
    actions.cancel(service.cluster, job, call.uid)
    service.cluster.finish(job, Exit(int(signal.SIGTERM)))


class _Step:
    """One srun's tasks in a job."""

    def __init__(self, service: Service, call: Call, given: Parsed, job: Job) -> None:
        self._service = service
        self._call = call
        self._given = given
        self._job = job
        self._in_job = False
        self._table: dict[str, Any] = {}
        self._nodes: list[str] = []

    def begin(self, *, in_job: bool = False) -> None:
        """Place the tasks and let the command run them.

        Raises:
            UsageError: the allocation is too small.
        """
        self._in_job = in_job
        self._nodes = self._place()
        if self._asks_too_much_memory():
            return  # srun waits in silence for memory that its job does not have
        job = self._job
        number, job.steps = job.steps, job.steps + 1
        label = os.path.basename(self._given.operands[0])
        self._table = begin_step(job, str(number), label, self._service.now(), len(self._nodes))
        self._service.cluster.save(job)
        self._service.cluster.post(job)
        self._service.runner.step_pids[job.id, str(number)] = self._call.pid
        spec = {
            "argv": self._given.operands,
            "cwd": self._given.get("chdir") or self._call.cwd,
            "label": self._given.has("label"),
            "tasks": [self._task(rank, number) for rank in range(len(self._nodes))],
        }
        self._call.run([json.dumps(spec)], self._ended)

    # -- placing

    def _number(self, option: str) -> int | None:
        text = self._given.get(option)
        if text is None:
            return None
        if not text.isdecimal() or text == "0":
            message = f'srun: error: Invalid numeric value "{text}" for --{option}.\n'
            raise UsageError(message)
        return int(text)

    def _place(self) -> list[str]:
        """Return the node of each task, in blocks."""
        allocated = list(self._job.nodes)
        nodes = self._nodes_wanted(allocated)
        tasks = self._tasks_wanted(len(nodes))
        if tasks < len(nodes) and not self._given.has("nodes") and self._in_job:
            text = f"can't run {tasks} processes on {len(nodes)} nodes, setting nnodes to {tasks}"
            self._call.err(f"srun: Warning: {text}\n")
        nodes = nodes[:tasks]
        each = self._number("cpus-per-task") or 1
        cpus = sum(self._job.nodes[name].cpus for name in nodes)
        if tasks * each > cpus and not self._given.has("overcommit"):
            text = "More processors requested than permitted"
            raise UsageError(f"srun: error: Unable to create step for job {self._job.id}: {text}\n")
        return sorted((nodes[rank * len(nodes) // tasks] for rank in range(tasks)), key=nodes.index)

    def _nodes_wanted(self, allocated: list[str]) -> list[str]:
        named = self._given.listed("nodelist")
        if named:
            return [name for name in allocated if name in named]
        wanted = self._number("nodes") if self._in_job else None
        if wanted is None:
            return allocated
        if wanted > len(allocated):
            text = f"Only allocated {len(allocated)} nodes asked for {wanted}"
            raise UsageError(f"srun: error: {text}\n")
        return allocated[:wanted]

    def _tasks_wanted(self, nodes: int) -> int:
        asked = self._number("ntasks")
        if asked is not None:
            return asked
        request = self._job.request
        if self._given.has("nodes") and self._in_job:
            return nodes
        return request.ntasks if request.asked_tasks or request.tasks_per_node else nodes

    def _asks_too_much_memory(self) -> bool:
        wanted = parse_memory(self._given.get("mem") or "0") or 0
        return self._in_job and wanted > max(a.memory for a in self._job.nodes.values())

    def _task(self, rank: int, number: int) -> dict[str, Any]:
        node = self._nodes[rank]
        local = rank - self._nodes.index(node)
        names = list(dict.fromkeys(self._nodes))
        env = {
            **self._exported(),
            **allocation_variables(self._service.site, self._job),
            **gpu_variables(self._job),
            "SLURMD_NODENAME": node,
            "SLURM_LOCALID": str(local),
            "SLURM_NODEID": str(names.index(node)),
            "SLURM_NTASKS": str(len(self._nodes)),
            "SLURM_NPROCS": str(len(self._nodes)),
            "SLURM_PROCID": str(rank),
            "SLURM_STEPID": str(number),
            "SLURM_STEP_ID": str(number),
            "SLURM_STEP_NODELIST": node,
            "SLURM_STEP_NUM_NODES": str(len(names)),
            "SLURM_STEP_NUM_TASKS": str(len(self._nodes)),
        }
        files = [self._file(option, rank, node) for option in ("output", "error")]
        return {"env": env, "node": node, "out": files[0], "err": files[1]}

    def _exported(self) -> dict[str, str]:
        """Return what the step inherits: all, or what --export or SLURM_EXPORT_ENV lets through."""
        export = self._given.get("export") or self._call.env.get("SLURM_EXPORT_ENV") or "ALL"
        names = export.split(",")
        env = self._call.env
        keep = dict(env) if "ALL" in names else _slurm_only(env)
        for name in names:
            key, equals, value = name.partition("=")
            if equals:
                keep[key] = value
            elif key in env:
                keep[key] = env[key]
        return keep

    def _file(self, option: str, rank: int, node: str) -> str:
        pattern = self._given.get(option)
        if not pattern:
            return ""
        pattern = pattern.replace("%t", str(rank)).replace("%N", node)
        path = fill_pattern(pattern.replace("%s", self._table["name"]), self._job)
        return os.path.join(self._call.cwd, path)

    # -- ending

    def _ended(self, report: str) -> None:
        """Write the step down, say what went wrong, and end the command with the tasks' status."""
        statuses = json.loads(report)
        job = self._job
        max_rss = max(entry[1] for entry in statuses)
        oom = self._table.get("state") == "OUT_OF_MEMORY" or self._over_limit(max_rss)
        codes = [_exit_code(entry[0]) for entry in statuses]
        worst = max(statuses, key=lambda entry: _exit_code(entry[0]))[0]
        state, raw = step_end(worst, oom=oom)
        cpu = sum(entry[2] for entry in statuses)
        if self._table["end"] is None:
            self._table.update(state=state, status=raw, end=self._service.now())
        self._table.update(max_rss=max_rss, cpu_seconds=cpu)
        job.derived = max(job.derived, raw, key=_weight)
        self._service.runner.step_pids.pop((job.id, self._table["name"]), None)
        self._complain([entry[0] for entry in statuses], oom=oom)
        if not self._in_job:
            self._service.cluster.finish(job, Exit(worst, max_rss, cpu))
        else:
            self._service.cluster.save(job)
            self._service.cluster.post(job)
        self._call.finish(1 if oom else max(codes))

    def _over_limit(self, max_rss: int) -> bool:
        limit = memory_limit(self._job)
        return bool(limit) and max_rss > limit

    def _complain(self, statuses: list[int], *, oom: bool) -> None:
        groups: dict[tuple[str, int], list[int]] = {}
        for rank, status in enumerate(statuses):
            if status:
                groups.setdefault((self._nodes[rank], status), []).append(rank)
        for (node, status), ranks in groups.items():
            tasks = f"tasks {compress_elements(ranks)}" if len(ranks) > 1 else f"task {ranks[0]}"
            words = "Out Of Memory" if oom else _how(status)
            self._call.err(f"srun: error: {node}: {tasks}: {words}\n")


def _slurm_only(env: dict[str, str]) -> dict[str, str]:
    """Return what a step has without an exported environment."""
    kept = {key: value for key, value in env.items() if key.startswith("SLURM_")}
    return {**kept, **{key: env[key] for key in ("PATH", "HOME", "USER") if key in env}}


def _exit_code(status: int) -> int:
    code, number = clean_status(status)
    return code or (128 + number if number else 0)


def _weight(status: int) -> int:
    return _exit_code(status)


def _how(status: int) -> str:
    code, number = clean_status(status)
    if number:
        return (signal.strsignal(number) or f"signal {number}").split(":")[0]
    return f"Exited with exit code {code}"
