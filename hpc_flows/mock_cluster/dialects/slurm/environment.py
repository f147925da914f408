"""The environment and the files of a batch job, as slurmd and slurmstepd make them."""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm.words import counted
from hpc_flows.mock_cluster.hostlist import compress_hosts
from hpc_flows.mock_cluster.supervisor import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from hpc_flows.mock_cluster.job import Job
    from hpc_flows.mock_cluster.sites import Site

_PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
_PATTERN = re.compile(r"%(\d*)([%AJNajnstux])")
#: The element number that Slurm prints where a common record has none.
NO_ELEMENT = 4294967294


def fill_pattern(pattern: str, job: Job) -> str:
    """Return an output path with `%j %A %a %x %N %u` and their kind filled in."""
    node = next(iter(job.nodes), "")
    element = job.task if job.task is not None else NO_ELEMENT
    values = {
        "%": "%",
        "A": str(job.array_id or job.id),
        "a": str(element),
        "J": str(job.id),
        "j": str(job.id),
        "N": node,
        "n": "0",
        "s": "batch",
        "t": "0",
        "u": job.request.user,
        "x": job.request.name,
    }

    def fill(match: re.Match[str]) -> str:
        value = values[match[2]]
        return value.zfill(min(int(match[1]), 10)) if match[1] and value.isdecimal() else value

    return _PATTERN.sub(fill, pattern)


def output_paths(job: Job) -> tuple[str, str, str]:
    """Return the absolute paths of a job's stdin, stdout and stderr."""
    request = job.request
    default = "slurm-%A_%a.out" if job.is_array else "slurm-%j.out"
    out = _absolute(job, request.stdout or default)
    err = out if request.stderr is None else _absolute(job, request.stderr)
    return _absolute(job, request.stdin), out, err


def _absolute(job: Job, pattern: str) -> str:
    path = fill_pattern(pattern, job)
    return path if path.startswith("/") else os.path.join(job.request.workdir, path)


def make_plan(site: Site, mock_folder: Path, job: Job, spool: Path) -> Plan:
    """Return what a supervisor needs to run a job's script."""
    stdin, out, err = output_paths(job)
    return Plan(
        folder=spool,
        argv=[str(spool / "slurm_script"), *job.request.argv],
        workdir=job.request.workdir,
        stdin=stdin,
        stdout=out,
        stderr=None if err == out else err,
        append=job.request.append,
        umask=job.request.umask,
        environment=job_environment(site, mock_folder, job),
    )


def job_environment(site: Site, mock_folder: Path, job: Job) -> dict[str, str]:
    """Return the environment of a job's batch script."""
    env = base_environment(job, mock_folder)
    node = next(iter(job.nodes), "")
    env.update(ENVIRONMENT="BATCH", HOSTNAME=node)
    env.setdefault("TMPDIR", "/tmp")  # noqa: S108 - what slurmstepd sets
    env.update(allocation_variables(site, job))
    env.update(
        SLURMD_NODENAME=node,
        SLURM_CONF=str(mock_folder / "slurm.conf"),
        SLURM_GTIDS="0",
        SLURM_LOCALID="0",
        SLURM_NODEID="0",
        SLURM_PRIO_PROCESS="0",
        SLURM_PROCID="0",
        SLURM_TOPOLOGY_ADDR=node,
        SLURM_TOPOLOGY_ADDR_PATTERN="node",
    )
    env.update(gpu_variables(job))
    env.update(_array_variables(job))
    if job.restarts:
        env["SLURM_RESTART_COUNT"] = str(job.restarts)
    if job.request.export is not None:
        env.update(SLURM_EXPORT_ENV=job.request.export, SLURM_GET_USER_ENV="1")
    return env


def base_environment(job: Job, mock_folder: Path) -> dict[str, str]:
    """Return what `--export` lets through: all, nothing, or what is named."""
    export = job.request.export
    submitted = job.request.environment
    names = [] if export is None else export.split(",")
    if export is None or names[0] == "ALL":
        env = dict(submitted)
    else:
        env = _login_environment(job, mock_folder)
    for name in names:
        key, equals, value = name.partition("=")
        if equals:
            env[key] = value
        elif key in submitted:
            env[key] = submitted[key]
    return env


def _login_environment(job: Job, mock_folder: Path) -> dict[str, str]:
    """Return a login-like environment; the mock's commands stay on its PATH, as on a node."""
    person = pwd.getpwuid(job.request.uid)
    return {
        "HOME": person.pw_dir,
        "LOGNAME": person.pw_name,
        "MAIL": f"/var/mail/{person.pw_name}",
        "PATH": f"{mock_folder / 'bin'}:{_PLAIN_PATH}",
        "SHELL": person.pw_shell,
        "USER": person.pw_name,
    }


def allocation_variables(site: Site, job: Job) -> dict[str, str]:
    """Return the SLURM_* variables that tell of a job's request and allocation."""
    request = job.request
    names = compress_hosts(job.nodes)
    held = list(job.nodes.values())
    tasks = counted([share.tasks for share in held])
    env = {
        "SLURM_CLUSTER_NAME": site.name,
        "SLURM_CPUS_ON_NODE": str(held[0].cpus if held else 1),
        "SLURM_JOBID": str(job.id),
        "SLURM_JOB_CPUS_PER_NODE": counted([share.cpus for share in held]),
        "SLURM_JOB_GID": str(request.gid),
        "SLURM_JOB_ID": str(job.id),
        "SLURM_JOB_NAME": request.name,
        "SLURM_JOB_NODELIST": names,
        "SLURM_JOB_NUM_NODES": str(len(held)),
        "SLURM_JOB_PARTITION": request.partition,
        "SLURM_JOB_UID": str(request.uid),
        "SLURM_JOB_USER": request.user,
        "SLURM_NNODES": str(len(held)),
        "SLURM_NODELIST": names,
        "SLURM_NODE_ALIASES": "(null)",
        "SLURM_SUBMIT_DIR": request.submit_dir,
        "SLURM_SUBMIT_HOST": request.submit_host,
        "SLURM_TASKS_PER_NODE": tasks,
        "SLURM_WORKING_CLUSTER": f"{site.name}:127.0.0.1:16817:9728:109",
    }
    if request.account:
        env["SLURM_JOB_ACCOUNT"] = request.account
    if request.qos:
        env["SLURM_JOB_QOS"] = request.qos
    env.update(_asked_variables(site, job))
    return env


def _asked_variables(site: Site, job: Job) -> dict[str, str]:
    """Return the variables that stand only where something was asked for, and the memory."""
    request = job.request
    env: dict[str, str] = {}
    if request.asked_tasks or request.tasks_per_node:
        env["SLURM_NTASKS"] = env["SLURM_NPROCS"] = str(request.ntasks)
    if request.tasks_per_node:
        env["SLURM_NTASKS_PER_NODE"] = str(request.tasks_per_node)
    if request.asked_cpus:
        env["SLURM_CPUS_PER_TASK"] = str(request.cpus_per_task)
    default = site.partitions[request.partition].def_mem_per_cpu
    if request.mem_per_node is not None:
        env["SLURM_MEM_PER_NODE"] = str(request.mem_per_node)
    elif request.mem_per_cpu is not None or default is not None:
        env["SLURM_MEM_PER_CPU"] = str(request.mem_per_cpu or default)
    if job.dependencies or request.dependency:
        env["SLURM_JOB_DEPENDENCY"] = request.dependency
    if site.release >= (23, 2) and job.start is not None:
        env["SLURM_JOB_START_TIME"] = str(int(job.start))
        env["SLURM_JOB_END_TIME"] = str(int(job.start + (job.limit_seconds or 0)))
    return env


def gpu_variables(job: Job) -> dict[str, str]:
    """Return the variables of the first node's GPUs, none where there are none."""
    held = next(iter(job.nodes.values()), None)
    if held is None or not held.gpus:
        return {}
    visible = ",".join(str(position) for position in range(len(held.gpus)))
    indexes = ",".join(str(gpu) for gpu in held.gpus)
    return {
        "CUDA_VISIBLE_DEVICES": indexes,
        "GPU_DEVICE_ORDINAL": visible,
        "SLURM_GPUS_ON_NODE": str(len(held.gpus)),
        "SLURM_JOB_GPUS": indexes,
    }


def _array_variables(job: Job) -> dict[str, str]:
    if job.array_id is None or job.task is None or job.request.array is None:
        return {}
    from hpc_flows.mock_cluster.hostlist import parse_elements  # noqa: PLC0415 - arrays only

    elements = parse_elements(job.request.array.partition("%")[0])
    step = elements[1] - elements[0] if len(elements) > 1 else 1
    return {
        "SLURM_ARRAY_JOB_ID": str(job.array_id),
        "SLURM_ARRAY_TASK_COUNT": str(len(elements)),
        "SLURM_ARRAY_TASK_ID": str(job.task),
        "SLURM_ARRAY_TASK_MAX": str(elements[-1]),
        "SLURM_ARRAY_TASK_MIN": str(elements[0]),
        "SLURM_ARRAY_TASK_STEP": str(step),
    }
