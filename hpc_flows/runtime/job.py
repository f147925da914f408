"""Facts about the batch job around the code that asks: `from hpc_flows.runtime import job`.

They are those with which the scheduler started the job, from its environment, also where the
task has changed `os.environ` since. Outside of jobs every attribute is None. A flow that itself
runs in a job (`sbatch` of a script that runs it) gets the facts of that one.

| attribute | what it is |
|---|---|
| `id` | the scheduler's number, `351`, or `351_3` for an element of an array |
| `array_job_id`, `array_index` | the array's number (text) and the element's index; None without |
| `partition`, `account`, `qos`, `cluster` | where it runs, and on whose behalf |
| `nodes`, `node` | names of all its nodes, and of this one |
| `cpus` | CPUs for this task: as asked for, or what it has on this node |
| `memory` | bytes on this node; None where the site does not limit it |
| `gpus` | how many on this node |
| `deadline`, `seconds_left` | when the time limit ends it (aware, UTC), and how long until then |
| `token` | our name of the submission |
| `restart_count` | how often the scheduler had started it before |
"""

from __future__ import annotations

import os
from time import monotonic, time

from hpc_flows.context import current
from hpc_flows.runtime.hosts import expand
from hpc_flows.runtime.lookup import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Any

_MIB = 1 << 20


def _own() -> Any:
    """Return the `Job` of jobs.inside that runs here, or None in other processes."""
    context = current()
    root = None if context is None else context.root
    return getattr(root, "job", None)


def _environ() -> Mapping[str, str] | None:
    job = _own()
    if job is not None:
        started: Mapping[str, str] = job.environ
        return started
    return os.environ if os.environ.get("SLURM_JOB_ID") else None


def _text(name: str) -> Callable[[], str | None]:
    def lookup() -> str | None:
        environ = _environ()
        return None if environ is None else environ.get(name) or None

    return lookup


def _first_number(*names: str) -> int | None:
    environ = _environ() or {}
    texts = (environ.get(name, "") for name in names)
    return next((int(text) for text in texts if text.isdecimal()), None)


def _id() -> str | None:
    environ = _environ()
    if environ is None:
        return None
    array = environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return environ.get("SLURM_JOB_ID") or None


def _cluster() -> str | None:
    environ = _environ()
    if environ is None:
        return None
    context = current()
    root = None if context is None else context.root
    named = None if root is None else root.settings.cluster
    return named or environ.get("SLURM_CLUSTER_NAME") or None


def _nodes() -> list[str] | None:
    environ = _environ()
    return None if environ is None else expand(environ.get("SLURM_JOB_NODELIST", ""))


def _node() -> str | None:
    environ = _environ()
    if environ is None:
        return None
    return environ.get("SLURMD_NODENAME") or os.uname().nodename


def _memory() -> int | None:
    whole = _first_number("SLURM_MEM_PER_NODE")
    if whole is not None:
        return whole * _MIB or None  # 0 asks for all that the node has
    each, cpus = _first_number("SLURM_MEM_PER_CPU"), _first_number("SLURM_CPUS_ON_NODE")
    return each * (cpus or 1) * _MIB if each else None


def _gpus() -> int | None:
    environ = _environ()
    if environ is None:
        return None
    count = _first_number("SLURM_GPUS_ON_NODE")
    if count is not None:
        return count
    held = environ.get("SLURM_JOB_GPUS") or environ.get("SLURM_STEP_GPUS") or ""
    return len([gpu for gpu in held.split(",") if gpu])


def _ends() -> float | None:
    """Return when the time limit is reached, in seconds since 1970.

    Slurm says it since 23.02; before, it is what was asked for, counted from our own start.
    """
    told = _first_number("SLURM_JOB_END_TIME")
    if told is not None:
        return float(told)
    job, context = _own(), current()
    run = None if context is None else context.task_run
    asked: int | None = None if run is None or run.resources is None else run.resources.walltime
    if job is None or asked is None:
        return None
    began: float = job.began
    return time() - (monotonic() - began) + asked


def _deadline() -> datetime | None:
    from datetime import UTC, datetime  # noqa: PLC0415 - only for those who ask

    ends = _ends()
    return None if ends is None else datetime.fromtimestamp(ends, UTC)


def _seconds_left() -> float | None:
    ends = _ends()
    return None if ends is None else max(0.0, ends - time())


def _token() -> str | None:
    job = _own()
    return None if job is None else str(job.token)


def _restart_count() -> int | None:
    job = _own()
    if job is not None:
        return int(job.restart)
    return None if _environ() is None else _first_number("SLURM_RESTART_COUNT") or 0


#: What gives each attribute its value; tests may replace one.
FIELDS: dict[str, Callable[[], Any]] = {
    "id": _id,
    "array_job_id": _text("SLURM_ARRAY_JOB_ID"),
    "array_index": lambda: _first_number("SLURM_ARRAY_TASK_ID"),
    "partition": _text("SLURM_JOB_PARTITION"),
    "account": _text("SLURM_JOB_ACCOUNT"),
    "qos": _text("SLURM_JOB_QOS"),
    "cluster": _cluster,
    "nodes": _nodes,
    "node": _node,
    "cpus": lambda: _first_number("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    "memory": _memory,
    "gpus": _gpus,
    "deadline": _deadline,
    "seconds_left": _seconds_left,
    "token": _token,
    "restart_count": _restart_count,
}

#: Types of overriding values where the real one is None.
_KINDS: dict[str, Callable[[str], Any]] = {
    "array_index": int,
    "cpus": int,
    "memory": int,
    "gpus": int,
    "restart_count": int,
    "seconds_left": float,
}


def __getattr__(name: str) -> Any:
    return find("job", FIELDS, name, _KINDS.get(name))


def __dir__() -> list[str]:
    return sorted(FIELDS)
