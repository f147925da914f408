"""Jobs of the pretend cluster: what was asked for, and where each record stands.

As in Slurm, an array begins as one record that stands for all its waiting elements; an element
gets a record and a raw id of its own when it leaves the common one, and the last element keeps the
array's number as its raw id.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from hpc_flows.mock_cluster.hostlist import compress_elements

PENDING = "PENDING"
RUNNING = "RUNNING"
COMPLETED = "COMPLETED"
CANCELLED = "CANCELLED"
FAILED = "FAILED"
TIMEOUT = "TIMEOUT"
NODE_FAIL = "NODE_FAIL"
PREEMPTED = "PREEMPTED"
OUT_OF_MEMORY = "OUT_OF_MEMORY"
DEADLINE = "DEADLINE"
REQUEUED = "REQUEUED"

HELD_BY_USER = "JobHeldUser"
HELD_BY_ADMIN = "JobHeldAdmin"


@dataclass(slots=True)
class Request:
    """What one submission asked for, already checked; memory in MiB, times in minutes."""

    name: str
    uid: int
    gid: int
    user: str
    partition: str
    account: str | None
    qos: str | None
    ntasks: int = 1
    cpus_per_task: int = 1
    min_nodes: int = 1
    max_nodes: int | None = None
    tasks_per_node: int | None = None
    asked_nodes: bool = False
    asked_tasks: bool = False
    asked_cpus: bool = False
    mem_per_node: int | None = None
    mem_per_cpu: int | None = None
    gpus_per_node: dict[str, int] = field(default_factory=dict)
    gpus_total: dict[str, int] = field(default_factory=dict)
    gres_text: str = ""
    exclusive: bool = False
    features: str = ""
    nodelist: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    time_limit: int | None = None
    begin: float | None = None
    deadline: float | None = None
    hold: bool = False
    dependency: str = ""
    kill_invalid: bool = False
    requeue: bool = True
    no_kill: bool = False
    nice: int = 0
    comment: str | None = None
    licenses: str = ""
    reservation: str = ""
    array: str | None = None
    throttle: int = 0
    workdir: str = "/"
    submit_dir: str = "/"
    stdout: str | None = None
    stderr: str | None = None
    stdin: str = "/dev/null"
    append: bool = False
    export: str | None = None
    signal: tuple[int, float, bool] | None = None
    command: str | None = None
    script: str = ""
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    umask: int = 0o022
    batch: bool = True
    submit_line: str = ""
    submit_host: str = "login"
    sid: int = 0

    @property
    def cpus(self) -> int:
        """CPUs of all tasks together."""
        return self.ntasks * self.cpus_per_task

    def shape(self) -> tuple[object, ...]:
        """Return what decides where it fits, to try like requests only once."""
        gpus = (tuple(self.gpus_per_node.items()), tuple(self.gpus_total.items()))
        size = (self.ntasks, self.cpus_per_task, self.min_nodes, self.max_nodes)
        memory = (self.mem_per_node, self.mem_per_cpu, self.tasks_per_node, self.exclusive)
        place = (self.partition, self.features, self.nodelist, self.exclude)
        return (size, memory, gpus, place, self.time_limit, self.qos, self.account, self.user)


@dataclass(slots=True)
class Allocation:
    """What a running job holds on one node; memory in MiB, gpus by index."""

    cpus: int
    memory: int
    gpus: list[int] = field(default_factory=list)
    tasks: int = 1


@dataclass(slots=True)
class Job:
    """One record of the queue."""

    id: int
    spec: int
    request: Request
    submit: float
    array_id: int | None = None
    task: int | None = None
    waiting: list[int] = field(default_factory=list)
    state: str = PENDING
    completing: bool = False
    reason: str = "None"
    priority: int = 1000
    eligible: float | None = None
    start: float | None = None
    end: float | None = None
    last_eval: float | None = None
    restarts: int = 0
    time_limit: int | None = None
    nodes: dict[str, Allocation] = field(default_factory=dict)
    status: int = 0
    derived: int = 0
    cancelled_by: int | None = None
    held: str = ""
    dependencies: list[dict[str, Any]] = field(default_factory=list)
    comment: str | None = None
    begin: float | None = None
    oom: bool = False
    ending: str = ""
    pid: int = 0
    pid_born: int = 0
    max_rss: int = 0
    cpu_seconds: float = 0.0
    steps: int = 0
    posted: bool = False
    run: int = 0
    output_late: float = 0.0
    collapsed: bool = False
    step_rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_array(self) -> bool:
        """Whether it is an array's common record or one of its elements."""
        return self.array_id is not None

    @property
    def is_common(self) -> bool:
        """Whether it stands for the waiting elements of an array."""
        return self.array_id is not None and self.task is None

    @property
    def ended(self) -> bool:
        """Whether it will not run (again) as it stands."""
        return self.state not in {PENDING, RUNNING}

    @property
    def active(self) -> bool:
        """Whether plain squeue shows it: not ended, or ending."""
        return not self.ended or self.completing

    @property
    def display_id(self) -> str:
        """The id as users write it: `351`, `351_3`, `351_[4-9%2]`."""
        if self.array_id is None or self.collapsed:
            return str(self.id)
        if self.task is not None:
            return f"{self.array_id}_{self.task}"
        return f"{self.array_id}_[{self.element_text}]"

    @property
    def element_text(self) -> str:
        """The array element or the waiting elements with the throttle; empty for plain jobs."""
        if self.array_id is None or self.collapsed:
            return ""
        if self.task is not None:
            return str(self.task)
        text = compress_elements(self.waiting)
        return f"{text}%{self.request.throttle}" if self.request.throttle else text

    @property
    def node_names(self) -> list[str]:
        """The nodes that it runs on or ran on."""
        return list(self.nodes)

    @property
    def limit_seconds(self) -> float | None:
        """Its time limit in minutes as seconds of Slurm's time, or None for none."""
        return None if self.time_limit is None else self.time_limit * 60.0

    def to_dict(self) -> dict[str, Any]:
        """Return all but the request as JSON-safe values."""
        table = {name: getattr(self, name) for name in _STORED}
        table["nodes"] = {name: dataclasses.asdict(held) for name, held in self.nodes.items()}
        return table

    @staticmethod
    def from_dict(table: dict[str, Any], request: Request) -> Job:
        """Return the record that `to_dict` wrote."""
        values = dict(table)
        values["nodes"] = {name: Allocation(**held) for name, held in table["nodes"].items()}
        return Job(request=request, **values)


_STORED = tuple(entry.name for entry in dataclasses.fields(Job) if entry.name != "request")


def request_to_dict(request: Request) -> dict[str, Any]:
    """Return a request as JSON-safe values."""
    return dataclasses.asdict(request)


def request_from_dict(table: dict[str, Any]) -> Request:
    """Return the request that `request_to_dict` wrote."""
    values = dict(table)
    for name in ("nodelist", "exclude", "argv"):
        values[name] = tuple(values[name])
    if values["signal"] is not None:
        values["signal"] = tuple(values["signal"])
    return Request(**values)


def clean_status(status: int) -> tuple[int, int]:
    """Return (exit code, signal) of a raw wait status."""
    return status >> 8 & 0xFF, status & 0x7F
