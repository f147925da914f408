"""What a pretend site has: nodes, partitions, accounts, QOS, limits and timings.

A site is read from a cluster profile (docs/reference/cluster-profiles.md), whose `[mock]` table
names the nodes; without one it is `default_site()`, the small site at the head of the Slurm notes.
Memory is in MiB and time limits in minutes here, because those are Slurm's own units.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster.hostlist import expand_hosts

if TYPE_CHECKING:
    from pathlib import Path


class SiteError(ValueError):
    """A profile, a setting or a faults file of the mock cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One pretend machine; memory in MiB, gpus as (type, count), type "" where it has none."""

    name: str
    cpus: int
    memory: int
    gpus: tuple[tuple[str, int], ...] = ()
    features: tuple[str, ...] = ()
    weight: int = 1

    @property
    def gres(self) -> str:
        """The node's generic resources as Slurm writes them, or an empty text."""
        return ",".join(f"gpu:{kind}:{n}" if kind else f"gpu:{n}" for kind, n in self.gpus)

    @property
    def gpu_count(self) -> int:
        """How many GPUs of all types it has."""
        return sum(n for _, n in self.gpus)


@dataclass(slots=True)
class PartitionSpec:
    """One partition; times in minutes, memory in MiB, None is "no limit" or "not set"."""

    name: str
    nodes: tuple[str, ...]
    default: bool = False
    max_time: int | None = None
    default_time: int | None = None
    min_nodes: int = 0
    max_nodes: int | None = None
    max_cpus_per_node: int | None = None
    min_cpus: int | None = None
    max_cpus: int | None = None
    max_gpus: int | None = None
    gpus_required: bool = False
    def_mem_per_cpu: int | None = None
    max_mem_per_cpu: int | None = None
    max_mem_per_node: int | None = None
    tier: int = 1
    preempt: bool = False
    state: str = "UP"


@dataclass(frozen=True, slots=True)
class Qos:
    """A quality of service: its limits for one user; `max_wall` in minutes."""

    name: str
    priority: int = 0
    max_wall: int | None = None
    max_jobs: int | None = None
    max_submit: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things take, in seconds unless said; every one is a `--set NAME=VALUE` of start.

    Attributes:
        tick: least time between two passes of the scheduler (a real one has about 1 s).
        kill_wait: from TERM to KILL.
        min_job_age: from a job's end until the queue forgets it.
        dbd_lag: from an event until accounting knows of it.
        limit_grain: how often time limits are looked at; a job ends up to this much late.
        minute: how long a minute of a time limit lasts (60 is real).
        requeue_delay: how long a requeued job waits with the reason BeginTime.
        slurmd_timeout: from a node's death until it does not respond; it is down after twice it.
        message_timeout: how long a command waits for a controller that is not there.
        memory_grain: least time between two looks at the memory of running jobs.
    """

    tick: float = 0.1
    kill_wait: float = 2.0
    min_job_age: float = 300.0
    dbd_lag: float = 0.2
    limit_grain: float = 1.0
    minute: float = 60.0
    requeue_delay: float = 120.0
    slurmd_timeout: float = 10.0
    message_timeout: float = 10.0
    memory_grain: float = 0.25

    @staticmethod
    def from_texts(settings: dict[str, str | float]) -> Timings:
        """Return the defaults with some of them changed.

        Raises:
            SiteError: a name is unknown or a value is no positive number.
        """
        known = [entry.name for entry in dataclasses.fields(Timings)]
        values: dict[str, float] = {}
        for name, text in settings.items():
            if name not in known:
                raise SiteError(_unknown("timing", name, known))
            try:
                values[name] = float(text)
            except ValueError:
                message = f"the timing {name} is {text!r}; give a number of seconds"
                raise SiteError(message) from None
            if values[name] < 0:
                message = f"the timing {name} is {text}; it cannot be negative"
                raise SiteError(message)
        return Timings(**values)


@dataclass(slots=True)
class Site:
    """Everything fixed about a pretend cluster."""

    name: str
    nodes: dict[str, NodeSpec]
    partitions: dict[str, PartitionSpec]
    accounts: tuple[str, ...] = ()
    default_account: str | None = None
    account_required: bool = False
    spent_accounts: tuple[str, ...] = ()
    qos: dict[str, Qos] = field(default_factory=lambda: {"normal": Qos("normal")})
    licenses: tuple[str, ...] = ()
    max_array_size: int = 1001
    max_jobs: int = 20000
    max_submitted: int | None = None
    requeue: bool = True
    submit_from_jobs: bool = True
    accounting: bool = True
    store_comment: bool = True
    version: str = "22.05.8"
    timings: Timings = field(default_factory=Timings)

    @property
    def default_partition(self) -> PartitionSpec | None:
        """The partition of jobs that name none, or None."""
        return next((p for p in self.partitions.values() if p.default), None)

    @property
    def release(self) -> tuple[int, int]:
        """The played version as numbers, such as (22, 5)."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


VERSIONS = ("22.05.8", "24.11.5")


def default_site() -> Site:
    """Return the built-in site: c1 to c4 with six partitions, as the recorded real site had."""
    old = ("afton", "skylake")
    nodes = [
        NodeSpec("c1", 40, 384000, features=old, weight=10),
        NodeSpec("c2", 40, 384000, features=old, weight=10),
        NodeSpec("c3", 96, 1000000, features=("afton", "genoa", "largemem"), weight=50),
        NodeSpec("c4", 64, 512000, (("a100", 4),), ("afton", "a100_80gb"), weight=100),
    ]
    day, hour = 1440, 60
    pair, three = ("c1", "c2"), ("c1", "c2", "c3")
    partitions = [
        PartitionSpec("standard", pair, True, 7 * day, 5 * hour, 0, 1, def_mem_per_cpu=9000),
        PartitionSpec("parallel", three, False, 3 * day, 5 * hour, 2, def_mem_per_cpu=9000),
        PartitionSpec("largemem", ("c3",), False, 4 * day, 5 * hour, 0, 1, def_mem_per_cpu=10000),
        PartitionSpec("interactive", pair, False, 12 * hour, hour, 0, 2, def_mem_per_cpu=6000),
        PartitionSpec("preempt", pair, False, day, hour, 0, 1, def_mem_per_cpu=1000),
        PartitionSpec("gpu", ("c4",), False, 3 * day, 5 * hour, 0, 4, def_mem_per_cpu=8000),
    ]
    for partition in partitions:
        partition.tier = {"interactive": 20, "preempt": 1}.get(partition.name, 10)
        partition.preempt = partition.name == "preempt"
    qos = [Qos("normal"), Qos("short", 100, max_wall=60), Qos("tiny", max_jobs=1, max_submit=2)]
    return Site(
        "testcluster",
        {node.name: node for node in nodes},
        {partition.name: partition for partition in partitions},
        accounts=("mylab", "spent"),
        default_account="mylab",
        spent_accounts=("spent",),
        qos={entry.name: entry for entry in qos},
    )


def load_site(path: Path | None) -> Site:
    """Return the site of a cluster profile, or the built-in one.

    Raises:
        SiteError: the file cannot be read, or something in it cannot be used.
    """
    if path is None:
        return default_site()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"the cluster profile {path} cannot be read: {error}"
        raise SiteError(message) from error
    try:
        return _site_of(table, path.stem)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, SiteError):
            raise
        message = f"the cluster profile {path} cannot be used by the mock: {error!r}"
        raise SiteError(message) from error


def _site_of(table: dict[str, Any], stem: str) -> Site:
    mock = table.get("mock", {})
    partitions = {
        name: _partition(name, entry) for name, entry in table.get("partitions", {}).items()
    }
    if not partitions or not mock.get("nodes"):
        site = default_site()
        site.name = table.get("name", stem)
    else:
        nodes = _nodes(mock["nodes"], partitions)
        site = Site(table.get("name", stem), nodes, partitions)
        site.accounts = tuple(mock.get("accounts", ()))
        site.default_account = mock.get("default_account")
    _mark_default(site, table)
    _apply_rules(site, table, mock)
    return site


def _mark_default(site: Site, table: dict[str, Any]) -> None:
    """Make the profile's default partition the default one; none where it names none."""
    chosen = table.get("default_partition")
    if chosen is None:
        return
    if chosen not in site.partitions:
        raise SiteError(_unknown("default partition", chosen, list(site.partitions)))
    for partition in site.partitions.values():
        partition.default = partition.name == chosen


def _apply_rules(site: Site, table: dict[str, Any], mock: dict[str, Any]) -> None:
    """Set what a profile says about limits and policies."""
    limits = table.get("limits", {})
    site.max_array_size = int(limits.get("max_array_size") or site.max_array_size)
    site.max_submitted = limits.get("max_submitted") or None
    site.max_jobs = int(mock.get("max_jobs", site.max_jobs))
    site.account_required = "account" in table.get("required", ())
    site.requeue = bool(mock.get("requeue", table.get("requeue", True)))
    site.submit_from_jobs = bool(table.get("submit_from_jobs", True))
    site.accounting = bool(mock.get("accounting", True))
    site.licenses = tuple(mock.get("licenses", ()))
    site.version = str(mock.get("version", site.version))
    site.spent_accounts = tuple(mock.get("spent_accounts", site.spent_accounts))
    for name, entry in mock.get("qos", {}).items():
        site.qos[name] = Qos(name, **entry)
    site.timings = Timings.from_texts(mock.get("timings", {}))


def _partition(name: str, entry: dict[str, Any]) -> PartitionSpec:
    spec = PartitionSpec(name, ())
    spec.max_time = _minutes(entry.get("max_walltime"))
    spec.default_time = _minutes(entry.get("default_walltime"))
    spec.min_nodes = int(entry.get("min_nodes") or 0)
    spec.max_nodes = entry.get("max_nodes")
    spec.def_mem_per_cpu = _optional_mib(entry.get("default_memory_per_cpu"))
    spec.max_mem_per_cpu = _optional_mib(entry.get("max_memory_per_cpu"))
    spec.min_cpus, spec.max_cpus = entry.get("min_cpus"), entry.get("max_cpus")
    spec.max_gpus = entry.get("max_gpus")
    spec.gpus_required = bool(entry.get("gpus_required", False))
    spec.preempt = bool(entry.get("preemptible", False))
    spec.tier = 1 if spec.preempt else 10
    return spec


def _nodes(
    entries: list[dict[str, Any]], partitions: dict[str, PartitionSpec]
) -> dict[str, NodeSpec]:
    """Make the nodes of the `[mock]` table and put each into its partitions."""
    nodes: dict[str, NodeSpec] = {}
    for entry in entries:
        for name in expand_hosts(entry["name"]):
            nodes[name] = _node(name, entry)
            for partition in entry.get("partitions", list(partitions)):
                if partition not in partitions:
                    raise SiteError(_unknown("partition of a node", partition, list(partitions)))
                partitions[partition].nodes += (name,)
    empty = [partition.name for partition in partitions.values() if not partition.nodes]
    for name in empty:
        del partitions[name]
    return nodes


def _node(name: str, entry: dict[str, Any]) -> NodeSpec:
    return NodeSpec(
        name,
        int(entry["cpus"]),
        parse_mib(str(entry["memory"])),
        _gpus(str(entry.get("gpus", ""))),
        tuple(entry.get("features", ())),
        int(entry.get("weight", 1)),
    )


def _gpus(text: str) -> tuple[tuple[str, int], ...]:
    """Read `a100:4`, `gpu:a100:4`, `4` or several with commas."""
    gpus: list[tuple[str, int]] = []
    for part in filter(None, text.split(",")):
        kind, _, number = part.removeprefix("gpu:").rpartition(":")
        gpus.append((kind, int(number)))
    return tuple(gpus)


_MEMORY = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$", re.IGNORECASE)


def parse_mib(text: str) -> int:
    """Return MiB of `1500G`, `384000M` or a bare number of MiB.

    Raises:
        SiteError: it is no amount of memory.
    """
    match = _MEMORY.match(text.strip())
    if match is None:
        message = f"{text!r} is no amount of memory; write it as 384000M or 1500G"
        raise SiteError(message)
    scale = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
    return int(float(match[1]) * scale[match[2].upper()])


def _optional_mib(value: str | int | None) -> int | None:
    return None if value is None else parse_mib(str(value))


_CLOCK = re.compile(r"^(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$")
_WORDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _minutes(value: str | int | None) -> int | None:
    """Return minutes of `7d`, `12h`, `90m`, `7-00:00:00`, `12:00:00`, or seconds as a number."""
    if value is None:
        return None
    if isinstance(value, int):
        return value // 60
    spans = re.findall(r"(\d+)\s*([smhdw])", value)
    if spans:
        return sum(int(n) * _WORDS[unit] for n, unit in spans) // 60
    match = _CLOCK.match(value)
    if match is None:
        message = f"{value!r} is no time limit; write it as 7d, 12h or 7-00:00:00"
        raise SiteError(message)
    return _clock_minutes(*(match[i] for i in range(1, 5)))


def _clock_minutes(days: str | None, first: str, second: str | None, third: str | None) -> int:
    if days is not None:
        return int(days) * 1440 + int(first) * 60 + int(second or 0)
    if third is not None:
        return int(first) * 60 + int(second or 0)
    return int(first)


def _unknown(what: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
    return f"unknown {what} {name!r}{hint}"


def unknown_name(what: str, name: str, known: list[str]) -> SiteError:
    """Return the error for a name that is none of the known ones, with the close match."""
    return SiteError(_unknown(what, name, known))
