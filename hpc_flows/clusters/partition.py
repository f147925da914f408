"""One partition: what it holds, and what speaks against running a request in it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from hpc_flows.resources import MIB, Resources, format_memory, format_walltime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: Words in the name of a live partition that is meant for something else than batch jobs; such a
#: one is only taken by name. Slurm itself has no field that says so.
SPECIAL = frozenset(
    {"interactive", "debug", "dev", "devel", "test", "preempt", "preemptable", "scavenge", "ood"}
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition or queue as users may use it; None is "no limit" or "not said".

    Memory in bytes, times in seconds, per node where the name says so and per job otherwise.

    Attributes:
        name: its name.
        purpose: one line for people.
        max_walltime, default_walltime: limits of time.
        min_nodes, max_nodes, min_cpus, max_cpus, max_gpus: of one job, all nodes together.
        cpus_per_node, memory_per_node: what the largest node gives to a job.
        default_memory_per_cpu, max_memory_per_cpu: of one CPU.
        gpus: types and how many of them a node has; the type is empty where it has no name.
        gpus_required: requests without GPUs are refused; with no `gpus` said, any are taken.
        automatic: whether it may be taken by a request that does not name it.
        preemptible: whether jobs may be interrupted for others.
        default_qos: asked for with this partition when the request names none.
        up: whether it takes jobs now.
    """

    name: str
    purpose: str = ""
    max_walltime: int | None = None
    default_walltime: int | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    min_cpus: int | None = None
    max_cpus: int | None = None
    max_gpus: int | None = None
    cpus_per_node: int | None = None
    memory_per_node: int | None = None
    default_memory_per_cpu: int | None = None
    max_memory_per_cpu: int | None = None
    gpus: dict[str, int] = field(default_factory=dict)
    gpus_required: bool = False
    automatic: bool = True
    preemptible: bool = False
    default_qos: str | None = None
    up: bool = True

    @classmethod
    def from_live(cls, info: Any) -> Partition:
        """Return what a scheduler said of a partition (`schedulers.base.PartitionInfo`).

        Any object with some of the attributes will do. A partition whose name holds one of the
        words of `SPECIAL` is not automatic.
        """
        known = {f.name: getattr(info, f.name) for f in fields(cls) if hasattr(info, f.name)}
        gres = known.get("gpus", {})
        known["gpus"] = gres if isinstance(gres, dict) else _gpu_table(gres)
        words = {*str(info.name).lower().replace("_", "-").split("-")}
        return cls(**{"automatic": not words & SPECIAL, **known})

    def filled_from(self, live: Partition) -> Partition:
        """Return this partition with what it does not say taken from the live one."""
        gaps = {
            f.name: getattr(live, f.name)
            for f in fields(self)
            if getattr(self, f.name) in (None, {}) and getattr(live, f.name) not in (None, {})
        }
        return replace(self, up=live.up, **gaps)

    def raised(self, asked: Resources) -> Resources:
        """Return the request with as many CPUs as its memory makes the scheduler count.

        Slurm gives a job more CPUs when its memory is above `MaxMemPerCPU` for those it has; a
        request that says so itself is charged and checked for what it gets.
        """
        if asked.memory is None or self.max_memory_per_cpu is None:
            return asked
        tasks = asked.tasks_per_node or 1
        needed = -(-asked.memory // (self.max_memory_per_cpu * tasks))
        return asked.merged({"cpus": needed}) if needed > (asked.cpus or 1) else asked

    def problems(self, asked: Resources) -> list[Problem]:
        """Return what speaks against a request here; nothing when it fits."""
        found = [] if self.up else [Problem("up", "a place to run", "it is down")]
        demand = Demand.of(asked)
        found += _above(self, demand)
        found += _below(self, demand)
        found += _gpu_problems(self, demand)
        return found

    @property
    def has_gpus(self) -> bool:
        """Whether its nodes have GPUs, of known types or not."""
        return self.gpus_required or bool(self.gpus)

    def smallness(self) -> tuple[Any, ...]:
        """Return a sort key that puts the partition that wastes least before the others."""
        unlimited = 2**62
        return (
            self.has_gpus,
            self.preemptible,
            self.memory_per_node or unlimited,
            self.cpus_per_node or unlimited,
            self.max_walltime or unlimited,
            self.name,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """A limit that a request breaks.

    Attributes:
        limit: the limit's name in the profile.
        asked: what the request asks for, in words that follow "asks for" or "asks".
        holds: what the partition allows: an amount where `most` is set, else a clause.
        most: the allowed amount, where it is a maximum; compared between partitions.
        over: how many times too much, or too little, is asked for.
    """

    limit: str
    asked: str
    holds: str
    most: int | None = None
    over: float = 1000.0

    def __str__(self) -> str:
        there = f"the most there is {self.holds}" if self.most else self.holds
        return f"it asks for {self.asked}; {there} ({self.limit})"


@dataclass(frozen=True, slots=True)
class Demand:
    """A request in the quantities that partitions limit."""

    walltime: int | None
    nodes: int
    cpus_per_node: int
    cpus: int
    memory: int | None
    gpus_per_node: int
    gpus: int
    gpu_type: str | None

    @classmethod
    def of(cls, asked: Resources) -> Demand:
        """Count what a request needs; what it leaves out counts as one node, task and CPU."""
        nodes = asked.nodes or 1
        on_node = (asked.cpus or 1) * (asked.tasks_per_node or 1)
        gpus = asked.gpu_count
        return cls(
            walltime=asked.walltime,
            nodes=nodes,
            cpus_per_node=on_node,
            cpus=on_node * nodes,
            memory=asked.memory,
            gpus_per_node=gpus,
            gpus=gpus * nodes,
            gpu_type=asked.gpu_type,
        )


def _count(one: str, more: str) -> Callable[[int], str]:
    return lambda n: f"{n} {one if n == 1 else more}"


#: The partition's limit, the demand that it bounds, and how both are said.
_MAXIMA: tuple[tuple[str, str, Callable[[int], str], str], ...] = (
    ("max_walltime", "walltime", format_walltime, " of walltime"),
    ("max_nodes", "nodes", _count("node", "nodes"), ""),
    ("cpus_per_node", "cpus_per_node", _count("cpu", "cpus"), " per node"),
    ("max_cpus", "cpus", _count("cpu", "cpus"), " in one job"),
    ("memory_per_node", "memory", format_memory, " of memory per node"),
    ("max_gpus", "gpus", _count("GPU", "GPUs"), " in one job"),
)

_MINIMA: tuple[tuple[str, str, Callable[[int], str], str], ...] = (
    ("min_nodes", "nodes", _count("node", "nodes"), ""),
    ("min_cpus", "cpus", _count("cpu", "cpus"), " in one job"),
)


def _above(partition: Partition, demand: Demand) -> Iterator[Problem]:
    for limit, name, say, of in _MAXIMA:
        most, asked = getattr(partition, limit), getattr(demand, name)
        if most is not None and asked is not None and asked > most:
            yield Problem(limit, say(asked) + of, say(most), most, asked / most)


def _below(partition: Partition, demand: Demand) -> Iterator[Problem]:
    for limit, name, say, of in _MINIMA:
        least, asked = getattr(partition, limit), getattr(demand, name)
        if least is not None and asked < least:
            holds = f"it takes {say(least)} or more"
            yield Problem(limit, say(asked) + of, holds, over=least / asked)


def _gpu_problems(partition: Partition, demand: Demand) -> Iterator[Problem]:
    count, kind = demand.gpus_per_node, demand.gpu_type
    if not count:
        if partition.gpus_required:
            yield Problem("gpus_required", "no GPUs", "it takes only jobs with GPUs")
        return
    asked = f"{count} {kind + ' ' if kind else ''}{'GPU' if count == 1 else 'GPUs'} per node"
    if partition.gpus_required and not partition.gpus:
        return  # it has some, and the profile does not say which
    if kind and partition.gpus and kind not in partition.gpus:
        known = ", ".join(name or "GPUs without a type" for name in partition.gpus)
        yield Problem("gpus", asked, f"it has {known}", 0)
        return
    most = partition.gpus.get(kind, 0) if kind else max(partition.gpus.values(), default=0)
    if not most:
        yield Problem("gpus", asked, "it has no GPUs", 0)
    elif count > most:
        yield Problem("gpus", asked, f"{most} per node", most, count / most)


def _gpu_table(gres: Any) -> dict[str, int]:
    """Return `{"a100": 4}` for gres texts such as `gpu:a100:4(S:0-1)` or `a100:4`."""
    table: dict[str, int] = {}
    for item in gres:
        kind, _, number = str(item).partition("(")[0].removeprefix("gpu:").rpartition(":")
        if number.isdigit():
            table[kind] = max(int(number), table.get(kind, 0))
    return table


def in_equal_parts(asked: Resources) -> Resources:
    """Return the request with memory that divides into whole MiB for each CPU of a node."""
    if asked.memory is None:
        return asked
    cpus = (asked.cpus or 1) * (asked.tasks_per_node or 1)
    return asked.merged({"memory": -(-asked.memory // (MIB * cpus)) * MIB * cpus})
