"""`sinfo`: partitions and nodes as a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm import words
from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, Parser, UsageError, options_of
from hpc_flows.mock_cluster.dialects.slurm.preliminaries import answered_at_once
from hpc_flows.mock_cluster.hostlist import compress_hosts, expand_hosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.placement import Node
    from hpc_flows.mock_cluster.service import Service
    from hpc_flows.mock_cluster.sites import PartitionSpec

_PARSER = Parser(
    "sinfo",
    options_of("""
Node N flag
all a flag
clusters M value
dead d flag refused
exact e flag
federation - flag refused
format o value
Format O value refused
help - flag
hide - flag
iterate i value refused
json - maybe refused
list-reasons R flag
local - flag
long l flag
nodes n value
noconvert - flag
noheader h flag
partition p value
reservation T flag refused
responding r flag refused
sort S value refused
states t value
summarize s flag
usage - flag
verbose v flag
version V flag
yaml - maybe refused
"""),
)
_SHORT = {"ALLOCATED": "alloc", "MIXED": "mix", "IDLE": "idle", "DOWN": "down"}
_PIECE = re.compile(r"%(\.?)(\d*)([#A-Za-z])")


@dataclass(frozen=True, slots=True)
class Group:
    """Like nodes of one partition, one line of sinfo."""

    partition: PartitionSpec
    nodes: list[Node]

    @property
    def first(self) -> Node:
        """One of the nodes; they are alike in what is printed."""
        return self.nodes[0]

    @property
    def short_state(self) -> str:
        """The state as `idle`, `mix`, `alloc*`, `drain`, `drng`."""
        if not self.nodes:
            return "n/a"
        return short_state(self.first)

    @property
    def long_state(self) -> str:
        """The state as `idle`, `mixed`, `allocated*`, `drained`, `draining`."""
        if not self.nodes:
            return "n/a"
        word = self.first.state.lower()
        if self.first.drained and not self.first.down:
            return "draining" if self.first.used_cpus else "drained"
        return word


def short_state(node: Node) -> str:
    """Return a node's state as sinfo's `%t` prints it."""
    star = "" if node.responding else "*"
    if node.drained and not node.down:
        return ("drng" if node.used_cpus else "drain") + star
    return _SHORT[node.state.split("+")[0].rstrip("*")] + star


def _spread(numbers: list[int]) -> str:
    """Return a number, with `+` behind the least where nodes differ."""
    if not numbers:
        return "0"
    return str(min(numbers)) + ("+" if len(set(numbers)) > 1 else "")


def _cpus(group: Group) -> str:
    used = sum(node.used_cpus for node in group.nodes)
    out = sum(node.spec.cpus for node in group.nodes if not node.usable and not node.used_cpus)
    total = sum(node.spec.cpus for node in group.nodes)
    return f"{used}/{total - used - out}/{out}/{total}"


def _limit(minutes: int | None) -> str:
    return "infinite" if minutes is None else words.show_short_limit(minutes)


def _job_size(partition: PartitionSpec) -> str:
    least = max(partition.min_nodes, 1)
    most = "infinite" if partition.max_nodes is None else str(partition.max_nodes)
    return most if most == str(least) else f"{least}-{most}"


def _node_counts(group: Group) -> str:
    used = sum(1 for node in group.nodes if node.used_cpus)
    out = sum(1 for node in group.nodes if not node.usable and not node.used_cpus)
    return f"{used}/{len(group.nodes) - used - out}/{out}/{len(group.nodes)}"


_FIELDS: dict[str, tuple[str, Callable[[Group], str]]] = {
    "a": ("AVAIL", lambda g: "up" if g.partition.state == "UP" else g.partition.state.lower()),
    "c": ("CPUS", lambda g: _spread([n.spec.cpus for n in g.nodes])),
    "C": ("CPUS(A/I/O/T)", _cpus),
    "D": ("NODES", lambda g: str(len(g.nodes))),
    "e": ("FREE_MEM", lambda g: _spread([n.free_memory for n in g.nodes])),
    "f": ("AVAIL_FEATURES", lambda g: ",".join(g.first.spec.features) if g.nodes else "(null)"),
    "G": ("GRES", lambda g: (g.first.spec.gres if g.nodes else "") or "(null)"),
    "l": ("TIMELIMIT", lambda g: _limit(g.partition.max_time)),
    "L": ("DEFAULTTIME", lambda g: words.show_short_limit(g.partition.default_time)),
    "m": ("MEMORY", lambda g: _spread([n.spec.memory for n in g.nodes])),
    "n": ("HOSTNAMES", lambda g: ",".join(n.spec.name for n in g.nodes)),
    "N": ("NODELIST", lambda g: compress_hosts(n.spec.name for n in g.nodes)),
    "O": ("CPU_LOAD", lambda _g: "0.00"),
    "P": ("PARTITION", lambda g: g.partition.name + ("*" if g.partition.default else "")),
    "R": ("PARTITION", lambda g: g.partition.name),
    "g": ("GROUPS", lambda _g: "all"),
    "h": ("OVERSUBS", lambda _g: "NO"),
    "r": ("ROOT", lambda _g: "no"),
    "s": ("JOB_SIZE", lambda g: _job_size(g.partition)),
    "t": ("STATE", lambda g: g.short_state),
    "T": ("STATE", lambda g: g.long_state),
    "w": ("WEIGHT", lambda g: _spread([n.spec.weight for n in g.nodes])),
    "E": ("REASON", lambda g: (g.first.reason if g.nodes else "") or "none"),
    "F": ("NODES(A/I/O/T)", _node_counts),
}


def sinfo(service: Service, call: Call) -> None:
    """Answer one sinfo."""
    given = _PARSER.parse(call.argv)
    if answered_at_once(service, call, given):
        return
    with words.zone_of(call.env):
        if given.has("list-reasons"):
            call.out(_reasons(service, call, given))
        else:
            if given.has("long") and not given.has("noheader"):
                call.out(words.show_date(service.now()) + "\n")
            call.out(_table(service, given, call.env))
    call.finish()


def _groups(service: Service, given: Parsed, letters: set[str]) -> list[Group]:
    """Return the lines: like nodes of each partition together, or node by node with `-N`."""
    wanted = given.listed("partition")
    nodes = set(expand_hosts(given.get("nodes") or ""))
    groups: list[Group] = []
    for spec in service.site.partitions.values():
        if wanted and spec.name not in wanted:
            continue
        members = [service.cluster.nodes[name] for name in spec.nodes]
        members = [node for node in members if not nodes or node.spec.name in nodes]
        groups += _alike(spec, members, letters, each=given.has("Node"))
    if given.has("Node"):
        groups.sort(key=lambda group: group.first.spec.name)
    states = {state.lower() for state in given.listed("states")}
    if states:
        groups = [g for g in groups if {g.short_state, g.long_state} & states]
    return groups


def _alike(
    spec: PartitionSpec, members: list[Node], letters: set[str], *, each: bool
) -> list[Group]:
    """Group nodes that would print alike."""
    groups: dict[tuple[str, ...], Group] = {}
    split_by = letters & {"t", "T", "f", "G", "E"}
    for node in members:
        single = Group(spec, [node])
        key = tuple(_FIELDS[letter][1](single) for letter in sorted(split_by))
        if each:
            key += (node.spec.name,)
        groups.setdefault(key, Group(spec, [])).nodes.append(node)
    return list(groups.values()) or ([] if each else [Group(spec, [])])


def _table(service: Service, given: Parsed, env: dict[str, str]) -> str:
    names = [spec.name + "*" * spec.default for spec in service.site.partitions.values()]
    wanted = given.listed("partition")
    shown = [name for name in names if not wanted or name.rstrip("*") in wanted]
    width = max([len("PARTITION"), *(len(name) for name in shown)])
    if given.has("Node"):
        nodes = max([9, *(len(name) for name in service.site.nodes)])
        default = f"%{nodes}N %.6D %.{width}P %6t"
    else:
        default = f"%{width}P %.5a %.10l %.6D %.6t %N"
    form = given.get("format") or env.get("SINFO_FORMAT") or default
    if given.has("long") and not given.has("Node") and not given.has("format"):
        form = f"%{width}P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N"
    if given.has("summarize") and not given.has("format"):
        form = f"%{width}P %.5a %.10l %.16F %N"
    pieces = _pieces(form)
    groups = _groups(service, given, {match[3] for match in _PIECE.finditer(form)})
    lines = [] if given.has("noheader") else ["".join(piece(None) for piece in pieces)]
    lines += ["".join(piece(group) for piece in pieces) for group in groups]
    return "".join(f"{line}\n" for line in lines)


def _pieces(form: str) -> list[Callable[[Group | None], str]]:
    pieces: list[Callable[[Group | None], str]] = []
    end = 0
    for match in _PIECE.finditer(form):
        pieces.append(_literal(form[end : match.start()]))
        end = match.end()
        if match[3] not in _FIELDS:
            raise UsageError(f"sinfo: error: Invalid node format specification: {match[3]}\n")
        pieces.append(_cell(match[3], int(match[2] or 0), right=bool(match[1])))
    pieces.append(_literal(form[end:]))
    return pieces


def _literal(text: str) -> Callable[[Group | None], str]:
    return lambda _group: text


def _cell(letter: str, width: int, *, right: bool) -> Callable[[Group | None], str]:
    header, value = _FIELDS[letter]

    def cell(group: Group | None) -> str:
        text = header if group is None else value(group)
        if not width:
            return text
        return text[:width].rjust(width) if right else text[:width].ljust(width)

    return cell


def _reasons(service: Service, call: Call, given: Parsed) -> str:
    lines = (
        [] if given.has("noheader") else [f"{'REASON':<20} {'USER':<9} {'TIMESTAMP':<19} NODELIST"]
    )
    for node in service.cluster.nodes.values():
        if node.reason:
            when = words.show_time(node.reason_time, call.env)
            lines.append(f"{node.reason:<20.20} {node.reason_user:<9} {when:<19} {node.spec.name}")
    return "".join(f"{line}\n" for line in lines)
