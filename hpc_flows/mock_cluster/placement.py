"""Where a job fits: CPUs, memory and GPUs of nodes, and which nodes a request gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.job import Allocation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.mock_cluster.job import Request
    from hpc_flows.mock_cluster.sites import NodeSpec, PartitionSpec


@dataclass(slots=True)
class Node:
    """A node and what is free on it; memory in MiB."""

    spec: NodeSpec
    free_cpus: int
    free_memory: int
    free_gpus: list[int]
    down: bool = False
    drained: bool = False
    responding: bool = True
    reason: str = ""
    reason_time: float = 0.0
    reason_user: str = "root"
    jobs: int = 0

    @staticmethod
    def empty(spec: NodeSpec) -> Node:
        """Return the node with nothing on it."""
        return Node(spec, spec.cpus, spec.memory, list(range(spec.gpu_count)))

    @property
    def usable(self) -> bool:
        """Whether new jobs may start on it."""
        return not self.down and not self.drained and self.responding

    @property
    def used_cpus(self) -> int:
        """How many CPUs jobs hold."""
        return self.spec.cpus - self.free_cpus

    @property
    def state(self) -> str:
        """Slurm's word for it, such as `IDLE`, `MIXED`, `ALLOCATED*`, `DOWN*`, `IDLE+DRAIN`."""
        word = "IDLE"
        if self.down:
            word = "DOWN"
        elif self.used_cpus:
            word = "MIXED" if self.free_cpus else "ALLOCATED"
        if self.drained:
            word += "+DRAIN"
        return word if self.responding else word + "*"

    def take(self, held: Allocation) -> None:
        """Give a job what it holds here."""
        self.free_cpus -= held.cpus
        self.free_memory -= held.memory
        self.free_gpus = [gpu for gpu in self.free_gpus if gpu not in held.gpus]
        self.jobs += 1

    def release(self, held: Allocation) -> None:
        """Take back what a job held here."""
        self.free_cpus += held.cpus
        self.free_memory += held.memory
        self.free_gpus = sorted([*self.free_gpus, *held.gpus])
        self.jobs -= 1

    def copy(self) -> Node:
        """Return a node with the same free resources, to try things on."""
        return Node(
            self.spec,
            self.free_cpus,
            self.free_memory,
            list(self.free_gpus),
            self.down,
            self.drained,
            self.responding,
            jobs=self.jobs,
        )


def memory_for(request: Request, partition: PartitionSpec, spec: NodeSpec, cpus: int) -> int:
    """Return the MiB that so many CPUs of a request hold on a node.

    A partition without a default gives a CPU its even share of the node's memory.
    """
    if request.exclusive and request.mem_per_node is None and request.mem_per_cpu is None:
        return spec.memory if partition.def_mem_per_cpu is None else _default(partition, spec, cpus)
    if request.mem_per_node is not None:
        return request.mem_per_node or spec.memory
    if request.mem_per_cpu is not None:
        return request.mem_per_cpu * cpus
    return _default(partition, spec, cpus)


def _default(partition: PartitionSpec, spec: NodeSpec, cpus: int) -> int:
    if partition.def_mem_per_cpu is None:
        return spec.memory * cpus // spec.cpus
    return min(partition.def_mem_per_cpu * cpus, spec.memory)


def has_features(spec: NodeSpec, wanted: str) -> bool:
    """Return whether a node satisfies a constraint of names with `&` and `|`."""
    if not wanted:
        return True
    alternatives = wanted.replace(",", "&").split("|")
    return any(all(name in spec.features for name in way.split("&")) for way in alternatives)


def candidates(request: Request, partition: PartitionSpec, nodes: dict[str, Node]) -> list[Node]:
    """Return the nodes of a partition that a request may use, the cheapest weight first."""
    chosen = [
        nodes[name]
        for name in partition.nodes
        if name not in request.exclude and has_features(nodes[name].spec, request.features)
    ]
    if request.nodelist:
        chosen = [node for node in chosen if node.spec.name in request.nodelist]
    return sorted(chosen, key=lambda node: node.spec.weight)


def pick_gpus(node: Node, wanted: dict[str, int]) -> list[int] | None:
    """Return free GPU indexes on a node that satisfy (type, count), or None."""
    free = list(node.free_gpus)
    picked: list[int] = []
    for kind, count in wanted.items():
        fitting = [gpu for gpu in free if not kind or gpu_type(node.spec, gpu) == kind][:count]
        if len(fitting) < count:
            return None
        picked += fitting
        free = [gpu for gpu in free if gpu not in fitting]
    return sorted(picked)


def gpu_type(spec: NodeSpec, index: int) -> str:
    """Return the type of a node's GPU."""
    for kind, count in spec.gpus:
        if index < count:
            return kind
        index -= count
    return ""


def tasks_that_fit(request: Request, partition: PartitionSpec, node: Node) -> int:
    """Return how many tasks of a request a node can take now (0 for none)."""
    if request.exclusive and node.jobs:
        return 0
    wanted = dict(request.gpus_per_node)
    if request.gpus_total and not wanted:
        wanted = request.gpus_total if request.min_nodes <= 1 else {}
    if pick_gpus(node, wanted) is None:
        return 0
    fitting = node.free_cpus // request.cpus_per_task
    if partition.max_cpus_per_node:
        fitting = min(fitting, partition.max_cpus_per_node // request.cpus_per_task)
    if request.tasks_per_node:
        fitting = min(fitting, request.tasks_per_node)
    while fitting and _memory(request, partition, node, fitting) > node.free_memory:
        if request.mem_per_node is not None:
            return 0
        fitting -= 1
    return fitting


def _memory(request: Request, partition: PartitionSpec, node: Node, tasks: int) -> int:
    cpus = node.spec.cpus if request.exclusive else tasks * request.cpus_per_task
    return memory_for(request, partition, node.spec, cpus)


def place(
    request: Request, partition: PartitionSpec, nodes: Iterable[Node]
) -> dict[str, Allocation] | None:
    """Return what a request gets on which of the given nodes, or None if it does not fit now."""
    rooms = [(node, tasks_that_fit(request, partition, node)) for node in nodes]
    rooms = [(node, room) for node, room in rooms if room]
    if request.nodelist:
        return _place_on_named(request, partition, rooms)
    if request.min_nodes <= 1 and not (request.tasks_per_node and request.asked_nodes):
        for node, room in rooms:
            if room >= request.ntasks:
                return _share(request, partition, [(node, room)])
    return _place_on_several(request, partition, rooms)


def _place_on_named(
    request: Request, partition: PartitionSpec, rooms: list[tuple[Node, int]]
) -> dict[str, Allocation] | None:
    if {node.spec.name for node, _ in rooms} != set(request.nodelist):
        return None
    return _share(request, partition, rooms)


def _place_on_several(
    request: Request, partition: PartitionSpec, rooms: list[tuple[Node, int]]
) -> dict[str, Allocation] | None:
    """Take the fewest nodes, from the node range, whose room is enough."""
    most = min(x for x in (request.max_nodes, partition.max_nodes, len(rooms)) if x is not None)
    for number in range(max(request.min_nodes, 1), most + 1):
        if sum(room for _, room in rooms[:number]) >= request.ntasks:
            return _share(request, partition, rooms[:number])
    return None


def _share(
    request: Request, partition: PartitionSpec, rooms: list[tuple[Node, int]]
) -> dict[str, Allocation] | None:
    """Spread the tasks over the chosen nodes, evenly as far as there is room."""
    left = max(request.ntasks, len(rooms))
    if left > sum(room for _, room in rooms):
        return None
    shares: dict[str, Allocation] = {}
    for position, (node, room) in enumerate(rooms):
        others = sum(space for _, space in rooms[position + 1 :])
        even = -(-left // (len(rooms) - position))
        tasks = max(min(room, even), left - others)
        left -= tasks
        shares[node.spec.name] = _allocation(request, partition, node, tasks)
    return shares


def _allocation(request: Request, partition: PartitionSpec, node: Node, tasks: int) -> Allocation:
    cpus = node.spec.cpus if request.exclusive else tasks * request.cpus_per_task
    gpus = pick_gpus(node, request.gpus_per_node or request.gpus_total) or []
    memory = memory_for(request, partition, node.spec, cpus)
    return Allocation(cpus, min(memory, node.free_memory), gpus, tasks)
