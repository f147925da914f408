"""What Slurm says about a site: its limits, partitions and nodes. Pure functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.exceptions import ResourceError
from hpc_flows.resources import MIB, parse_walltime
from hpc_flows.schedulers.base import PartitionInfo, SchedulerInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

_PAIR = re.compile(r"(?:^|\s)([A-Za-z][\w/:.]*)=(\S*)")
_SETTING = re.compile(r"^(\w+)\s*= (.*)$", re.MULTILINE)
_GPU = re.compile(r"gpu(?::(?P<type>[^:(),]+))?:(?P<count>\d+)(?:\([^)]*\))?")
_ABSENT = frozenset({"", "UNLIMITED", "NONE", "INFINITE", "N/A", "(null)", "Partition_Limit"})


class Node(NamedTuple):
    """One node as `scontrol show node` describes it; memory in bytes."""

    name: str
    partitions: tuple[str, ...]
    cpus: int | None
    memory: int | None
    gpus: tuple[str, ...]


def settings(output: str) -> dict[str, str]:
    """Read `scontrol show config`."""
    return {name: value.strip() for name, value in _SETTING.findall(output)}


def nodes(output: str) -> list[Node]:
    """Read `scontrol show node -o`."""
    return [_node(pairs) for pairs in _lines(output, "NodeName")]


def _node(pairs: dict[str, str]) -> Node:
    memory = _count(pairs.get("RealMemory"))
    return Node(
        name=pairs["NodeName"],
        partitions=tuple(filter(None, pairs.get("Partitions", "").split(","))),
        cpus=_count(pairs.get("CPUTot")),
        memory=None if memory is None else memory * MIB,
        gpus=_gpus(pairs.get("Gres", "")),
    )


def partitions(output: str, members: Iterable[Node]) -> dict[str, PartitionInfo]:
    """Read `scontrol show partition -o`, with the sizes of the nodes that belong to each."""
    known = list(members)
    found = {}
    for pairs in _lines(output, "PartitionName"):
        name = pairs["PartitionName"]
        found[name] = _partition(name, pairs, [node for node in known if name in node.partitions])
    return found


def _partition(name: str, pairs: dict[str, str], members: list[Node]) -> PartitionInfo:
    gpus = {gpu: None for node in members for gpu in node.gpus}
    return PartitionInfo(
        name=name,
        nodes=_count(pairs.get("TotalNodes")),
        max_walltime=_time(pairs.get("MaxTime")),
        default_walltime=_time(pairs.get("DefaultTime")),
        min_nodes=_count(pairs.get("MinNodes")) or None,
        max_nodes=_count(pairs.get("MaxNodes")),
        cpus_per_node=max((node.cpus for node in members if node.cpus), default=None),
        memory_per_node=max((node.memory for node in members if node.memory), default=None),
        default_memory_per_cpu=_megabytes(pairs.get("DefMemPerCPU")),
        max_memory_per_cpu=_megabytes(pairs.get("MaxMemPerCPU")),
        gpus=tuple(gpus),
        default=pairs.get("Default") == "YES",
        up=pairs.get("State") == "UP",
    )


def describe(config: str, parts: str, node_lines: str, *, accounting: bool) -> SchedulerInfo:
    """Put the three answers together."""
    said = settings(config)
    return SchedulerInfo(
        kind="slurm",
        version=said.get("SLURM_VERSION", ""),
        cluster=said.get("ClusterName", ""),
        max_array_size=_count(said.get("MaxArraySize")),
        max_jobs=_count(said.get("MaxJobCount")),
        forgets_after=_count(said.get("MinJobAge", "").removesuffix(" sec")),
        accounting=accounting,
        partitions=partitions(parts, nodes(node_lines)),
    )


def keeps_accounts(config: str) -> bool:
    """Tell whether a site's configuration names an accounting database."""
    kind = settings(config).get("AccountingStorageType", "")
    return kind not in _ABSENT and not kind.endswith("/none")


def _lines(output: str, key: str) -> Iterable[dict[str, str]]:
    for line in output.splitlines():
        # Values are not quoted, and a comment may hold `Key=value`: the first of a key counts.
        pairs: dict[str, str] = {}
        for name, value in _PAIR.findall(line):
            pairs.setdefault(name, value)
        if key in pairs:
            yield pairs


def _gpus(gres: str) -> tuple[str, ...]:
    found = _GPU.finditer(gres)
    return tuple(f"{g['type']}:{g['count']}" if g["type"] else g["count"] for g in found)


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _megabytes(text: str | None) -> int | None:
    count = _count(text)
    return None if count is None else count * MIB


def _time(text: str | None) -> int | None:
    if text is None or text in _ABSENT:
        return None
    try:
        return parse_walltime(text)
    except ResourceError:
        # A later Slurm's new word for "no limit" must not make a whole site unreadable.
        return None
