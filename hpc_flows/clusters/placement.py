"""Where a request fits: the site's rules, the choice of the partition, and why nothing fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.clusters.partition import in_equal_parts
from hpc_flows.clusters.parts import Policies
from hpc_flows.exceptions import DoesNotFit, ResourceError, close_match
from hpc_flows.resources import Resources, format_memory, format_walltime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpc_flows.clusters.partition import Partition, Problem


class Placement(NamedTuple):
    """A complete request, and what was decided on the user's behalf.

    Attributes:
        resources: what to submit.
        notes: sentences for the user, one for each decision.
    """

    resources: Resources
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """What placing needs to know of a cluster; see `Cluster` for the fields."""

    name: str
    partitions: Mapping[str, Partition]
    default_partition: str | None
    required: Sequence[str]
    memory: str
    defaults: Resources
    containers: bool
    ask: Mapping[str, str] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)

    def place(self, request: Resources) -> Placement:
        """Return the request as it can be submitted.

        Raises:
            DoesNotFit: no partition, or not the one that is named, can hold it.
            ResourceError: something that the site requires is missing, or cannot be said there.
        """
        asked = self.defaults.merged(request)
        notes = self._default_notes(request)
        self._check_sayable(asked)
        chosen = self._choose(asked, notes)
        placed = self._placed(asked, chosen, notes)
        self._check_required(placed)
        notes += self._policy_notes(placed, chosen)
        return Placement(placed, tuple(notes))

    def _policy_notes(self, placed: Resources, chosen: list[Partition]) -> list[str]:
        hours = self.policies.gpu_idle_hours
        notes = []
        if hours and placed.gpus and (placed.walltime or 0) > hours * 3600:
            notes.append(f"{self.name} kills jobs whose GPUs do nothing for {hours:g} hours.")
        if self.policies.memory_charged_as_cpus and len(chosen) == 1:
            notes += _charge_notes(chosen[0], placed)
        return notes

    def _default_notes(self, request: Resources) -> list[str]:
        walltime = self.defaults.walltime
        if walltime is None or request.walltime is not None:
            return []
        taken = format_walltime(walltime)
        return [f"No walltime was asked for; the profile of {self.name} takes {taken}."]

    def _check_sayable(self, asked: Resources) -> None:
        if asked.container is not None and not self.containers:
            msg = (
                f"container={asked.container!r} cannot be honoured: the profile of {self.name} "
                "does not say how to start containers. Add for example "
                'container = ["apptainer", "exec", "{image}"] to it, or leave container= out.'
            )
            raise ResourceError(msg)
        if asked.gpus and any(option.startswith("--gres") for option in asked.extra):
            msg = (
                f"gpus={asked.gpus!r} and extra={list(asked.extra)!r} ask for generic resources "
                "twice, and the scheduler would take one of them. Use one."
            )
            raise ResourceError(msg)

    def _check_required(self, placed: Resources) -> None:
        for name in self.required:
            if getattr(placed, name) is None:
                raise ResourceError(self._missing(name))

    def _missing(self, name: str) -> str:
        command = self.ask.get(name)
        way = f" To see yours, run `{command}` on {self.name}." if command else ""
        return (
            f"{self.name} takes no job without {name}=, and neither the task nor the profile "
            f"gives it.{way} Give {name}= in the task's Resources, or for all tasks in the file "
            f"clusters/{self.name}.toml of the hpc_flows home (~/.hpc_flows): "
            f'extends = "{self.name}" and, below [defaults], {name} = "...".'
        )

    def _choose(self, asked: Resources, notes: list[str]) -> list[Partition]:
        if asked.partition is not None:
            return self._named(asked, asked.partition.split(","))
        if not self.partitions:
            return []
        if self.default_partition is not None:
            self._check_known(self.default_partition)
            default = self.partitions[self.default_partition]
            if not self._problems(default, asked):
                return [default]
        best = self._best(asked)
        notes.append(
            f"No partition was named; {best.name} is the smallest of {self.name} that holds "
            f"{asked.describe()}."
        )
        return [best]

    def _named(self, asked: Resources, names: list[str]) -> list[Partition]:
        if not self.partitions:
            return []
        for name in names:
            self._check_known(name)
            problems = self._problems(self.partitions[name], asked)
            if problems:
                raise DoesNotFit(self._refusal(name, asked, problems))
        return [self.partitions[name] for name in names]

    def _check_known(self, name: str) -> None:
        if name not in self.partitions:
            known = ", ".join(self.partitions)
            match = close_match(name, self.partitions)
            msg = f"{self.name} has no partition {name!r}.{match} Its partitions are {known}."
            raise ResourceError(msg)

    def _best(self, asked: Resources) -> Partition:
        fitting = self._fitting(asked)
        automatic = [partition for partition in fitting if partition.automatic]
        if automatic:
            return min(automatic, key=lambda partition: partition.smallness())
        msg = f"The request ({asked.describe()}) does not fit {self.name}: "
        msg += self._why_nowhere(asked)
        if fitting:
            names = " and ".join(partition.name for partition in fitting)
            msg += f" It fits partition {names}, only taken when named with partition=."
        raise DoesNotFit(msg)

    def _fitting(self, asked: Resources) -> list[Partition]:
        return [p for p in self.partitions.values() if not self._problems(p, asked)]

    def _problems(self, partition: Partition, asked: Resources) -> list[Problem]:
        return partition.problems(self._fitted(partition, asked))

    def _fitted(self, partition: Partition, asked: Resources) -> Resources:
        raised = partition.raised(asked)
        return in_equal_parts(raised) if self.memory == "per_cpu" else raised

    def _refusal(self, name: str, asked: Resources, problems: list[Problem]) -> str:
        why = ", and ".join(str(problem) for problem in problems)
        head = f"The request ({asked.describe()}) does not fit partition {name} of {self.name}: "
        fitting = sorted(self._fitting(asked), key=lambda partition: partition.smallness())
        if fitting:
            fitting.sort(key=lambda partition: not partition.automatic)
            return f"{head}{why}. Nearest that fits: partition {fitting[0].name}."
        return f"{head}{why}. No other partition holds it: {self._why_nowhere(asked)}"

    def _why_nowhere(self, asked: Resources) -> str:
        up = {name: p for name, p in self.partitions.items() if p.up} or self.partitions
        found = {name: self._problems(p, asked) for name, p in up.items()}
        for limit in _common_limits(found):
            if text := self._most(limit, found):
                return text
        automatic = [name for name in found if self.partitions[name].automatic]

        def distance(name: str) -> tuple[bool, float]:
            too_much = sum(problem.over for problem in found[name])
            return bool(asked.gpus) != self.partitions[name].has_gpus, too_much

        nearest = min(automatic or found, key=distance)
        why = ", and ".join(str(problem) for problem in found[nearest])
        return f"nearest is partition {nearest}, where {why}."

    def _most(self, limit: str, found: Mapping[str, list[Problem]]) -> str:
        """Say what the partitions that hold most of what is asked for do hold."""
        broken = [(name, p) for name, problems in found.items() for p in problems]
        ranked = sorted(
            ((name, p) for name, p in broken if p.limit == limit and p.most),
            key=lambda pair: -(pair[1].most or 0),
        )
        if not ranked:
            return ""
        asked = ranked[0][1].asked
        first, *rest = [f"{p.holds} in partition {name}" for name, p in ranked[:3]]
        more = "".join(f", {text.replace('partition ', '')}" for text in rest)
        return f"it asks for {asked}; the most on {self.name} is {first}{more} ({limit})."

    def _placed(self, asked: Resources, chosen: list[Partition], notes: list[str]) -> Resources:
        placed = asked
        for partition in chosen:
            placed = self._fitted(partition, placed)
            if (placed.cpus or 1) > (asked.cpus or 1):
                notes.append(_raise_note(partition, asked, placed))
        if chosen:
            placed = placed.merged({"partition": ",".join(p.name for p in chosen)})
        if len(chosen) == 1 and placed.qos is None:
            placed = placed.merged({"qos": chosen[0].default_qos})
        if not chosen:
            placed = self._unchecked(placed)
        return self._without_memory(placed, chosen) if self.memory == "omit" else placed

    def _unchecked(self, asked: Resources) -> Resources:
        """Return what is said where the partitions are not known; the scheduler will judge it."""
        placed = Resources(partition=self.default_partition).merged(asked)
        return in_equal_parts(placed) if self.memory == "per_cpu" else placed

    def _without_memory(self, placed: Resources, chosen: list[Partition]) -> Resources:
        """Leave memory out where nodes are given whole, once it is certain that a node has it."""
        if placed.memory is None:
            return placed
        if not chosen or any(partition.memory_per_node is None for partition in chosen):
            msg = (
                f"{self.name} takes no memory requests, and its profile does not say how much "
                "memory a node has, so memory= cannot be honoured. Leave it out, or add "
                "memory_per_node to the partition in the profile."
            )
            raise ResourceError(msg)
        fields = placed.to_dict()
        del fields["memory"]
        return Resources.from_dict(fields)


def _common_limits(found: Mapping[str, list[Problem]]) -> list[str]:
    """Return the limits that every partition breaks, in the order in which they are checked."""
    sets = [{problem.limit for problem in problems} for problems in found.values()]
    common = set.intersection(*sets) if sets else set()
    first = next(iter(found.values()), [])
    return [problem.limit for problem in first if problem.limit in common]


def _charge_notes(partition: Partition, placed: Resources) -> list[str]:
    """Say what memory costs where more than a CPU's share is charged as further CPUs."""
    share = partition.default_memory_per_cpu
    cpus = (placed.cpus or 1) * (placed.tasks_per_node or 1)
    charged = -(-(placed.memory or 0) // share) if share else 0
    if not share or charged <= cpus:
        return []
    asked, each = format_memory(placed.memory or 0), format_memory(share)
    charge = (
        f"{asked} of memory is the share of {charged} cpus in partition {partition.name} ({each} "
        f"each); the site charges about as much, not {cpus}."
    )
    return [charge]


def _raise_note(partition: Partition, asked: Resources, placed: Resources) -> str:
    most, wanted = (
        format_memory(partition.max_memory_per_cpu or 0),
        format_memory(asked.memory or 0),
    )
    return (
        f"Partition {partition.name} gives at most {most} of memory per cpu, so {wanted} takes "
        f"{placed.cpus} cpus instead of {asked.cpus or 1}."
    )
