"""The description of a machine, as a profile gives it and as the rest of hpc_flows uses it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_flows.clusters import files
from hpc_flows.clusters.partition import Partition
from hpc_flows.clusters.parts import Fact, Grace, Limits, Login, Policies, Poll, Storage
from hpc_flows.clusters.placement import Placement, Site
from hpc_flows.clusters.provenance import facts_of, source_of
from hpc_flows.resources import Resources, format_memory, format_walltime
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: A profile that was not verified for longer than this is out of date.
STALE_AFTER_DAYS = 365


@dataclass(frozen=True, slots=True)
class Cluster:
    """A machine: its scheduler, its partitions, its site's rules.

    Every field is a key of the profile; docs/reference/cluster-profiles.md says more.

    Attributes:
        name: the cluster's name.
        title: its name for people.
        file: the profile that was read, or an empty text.
        mock_file: the file with its `[mock]` table, or `file`.
        status: `maintained`, `stale` or `retired`.
        contact: who answers for the profile.
        verified_on: when its facts were last checked.
        scheduler: `slurm`, or `package.module:Class`.
        transport: `local`.
        path: folders to put in front of PATH for scheduler commands, filled in.
        start: command that starts the scheduler where it does not answer, filled in; or empty.
        partitions: by name; empty where the live cluster must be asked.
        default_partition: taken when none is named and it holds the request.
        account: charged when the request names none.
        required: resources that every submission must name.
        memory: how memory is asked for: `per_node`, `per_cpu`, or `omit`.
        submit_from_jobs: whether jobs may submit jobs.
        requeue: whether the scheduler may run jobs again by itself.
        export: `CLEAN`, `NONE` or `ALL`: what jobs inherit of the submitter's environment.
        setup: shell lines at the beginning of every script.
        modules: shell line that loads modules, with `{modules}` in it.
        container: command that runs another in an image, with `{image}` in it; or empty.
        python: interpreter on the nodes; None for the one that runs the flow.
        quirks: sentences that a reader should know.
        ask: the site's own commands, by what they show.
        defaults: what lies under every request.
        limits, poll, grace, login, storage, policies: see the classes of those names.
        facts: sources by the names of `[provenance]`.
    """

    name: str
    title: str = ""
    file: str = ""
    mock_file: str = ""
    status: str = "maintained"
    contact: str = ""
    verified_on: date | None = None
    scheduler: str = "slurm"
    transport: str = "local"
    path: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    partitions: dict[str, Partition] = field(default_factory=dict)
    default_partition: str | None = None
    account: str | None = None
    required: tuple[str, ...] = ()
    memory: str = "per_node"
    submit_from_jobs: bool = True
    requeue: bool = True
    export: str = "CLEAN"
    setup: tuple[str, ...] = ()
    modules: str = "module load {modules}"
    container: tuple[str, ...] = ()
    python: str | None = None
    quirks: tuple[str, ...] = ()
    ask: dict[str, str] = field(default_factory=dict)
    defaults: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    poll: Poll = field(default_factory=Poll)
    grace: Grace = field(default_factory=Grace)
    login: Login = field(default_factory=Login)
    storage: Storage = field(default_factory=Storage)
    policies: Policies = field(default_factory=Policies)
    facts: dict[str, Fact] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> Cluster:
        """Return the cluster of a profile, by name or by the path of its file.

        Raises:
            UnknownCluster: there is no such profile.
            ClusterError: the profile cannot be read; with file and line.
        """
        return _built(files.read_profile(name))

    @staticmethod
    def names() -> list[str]:
        """Return the names of all profiles that can be found, in alphabetical order."""
        return files.names()

    def place(self, resources: Resources) -> Resources:
        """Return the complete request to submit, on a partition that can hold it.

        Raises:
            DoesNotFit: nothing here holds it; names the limit and what comes nearest.
            ResourceError: something that the site requires is missing, or the partition unknown.
        """
        return self.placement(resources).resources

    def placement(self, resources: Resources) -> Placement:
        """Do what `place` does, and return notes on what was decided for the user as well."""
        site = Site(
            name=self.name,
            partitions=self.partitions,
            default_partition=self.default_partition,
            required=self.required,
            memory=self.memory,
            defaults=Resources(account=self.account).merged(self.defaults),
            containers=bool(self.container),
            ask=self.ask,
            policies=self.policies,
        )
        return site.place(resources)

    def with_live_partitions(self, partitions: Iterable[Any]) -> Cluster:
        """Return this cluster completed by what its scheduler says of partitions.

        Args:
            partitions: objects like `schedulers.base.PartitionInfo`.

        A profile without partitions takes them all; one with partitions keeps its own, which may
        differ from the scheduler's where the site rewrites requests, and has gaps filled.
        """
        infos = list(partitions)
        live = {info.name: Partition.from_live(info) for info in infos}
        mine = {
            name: partition.filled_from(live[name]) if name in live else partition
            for name, partition in self.partitions.items()
        }
        default = next((info.name for info in infos if getattr(info, "default", False)), None)
        asks_live = not self.partitions and self.default_partition is None
        return replace(
            self,
            partitions=mine or live,
            default_partition=default if asks_live else self.default_partition,
        )

    def with_live(self, info: Any) -> Cluster:
        """Return this cluster completed by a `schedulers.base.SchedulerInfo`.

        The smaller of the two limits on arrays counts: a longer array would be refused.
        """
        sizes = (self.limits.max_array_size, info.max_array_size)
        smallest = min((size for size in sizes if size is not None), default=None)
        limits = replace(self.limits, max_array_size=smallest)
        return replace(self.with_live_partitions(info.partitions.values()), limits=limits)

    def differences(self, partitions: Iterable[Any]) -> list[str]:
        """Return, in sentences, where the profile contradicts what the scheduler says.

        Args:
            partitions: objects like `schedulers.base.PartitionInfo`.
        """
        live = {info.name: Partition.from_live(info) for info in partitions}
        gone = [
            f"partitions.{name} is in the profile and not on the cluster."
            for name in self.partitions
            if name not in live
        ]
        both = [(mine, live[name]) for name, mine in self.partitions.items() if name in live]
        pairs = [pair for mine, theirs in both for pair in _limit_pairs(mine, theirs)]
        return gone + [
            f"{name} is {said} in the profile and {found} on the cluster."
            for name, said, found in pairs
            if said is not None and found is not None and said != found
        ]

    def warnings(self, today: date | None = None) -> tuple[str, ...]:
        """Return, in sentences, what a user of this cluster should hear before relying on it."""
        return tuple(
            text for text in (self._age_warning(today or _today()), self._purge_warning()) if text
        )

    def wrap(self, command: Sequence[str], resources: Resources) -> list[str]:
        """Return a command as it runs on the node: inside the image that is asked for, if any."""
        image = resources.container
        if image is None:
            return list(command)
        return [*(part.replace("{image}", image) for part in self.container), *command]

    def fact(self, key: str) -> Fact | None:
        """Return where a fact comes from, for a key such as `partitions.gpu.max_nodes`."""
        return source_of(key, self.facts)

    def _age_warning(self, today: date) -> str:
        if self.status != "maintained":
            return f"The profile of {self.name} is marked as {self.status}."
        if self.verified_on is None or (today - self.verified_on).days <= STALE_AFTER_DAYS:
            return ""
        return (
            f"The profile of {self.name} was last verified on {self.verified_on}, more than "
            f"twelve months ago. `hpc-flows cluster check {self.name}` compares it with the "
            "cluster."
        )

    def _purge_warning(self) -> str:
        home = Path(get_settings().home).expanduser()
        for folder in self.storage.purged:
            if home.is_relative_to(os.path.expandvars(folder)):
                return (
                    f"{home} lies below {folder}, where {self.name} deletes files that were not "
                    f"used for {self.storage.purge_days} days. Keep results that matter "
                    "elsewhere, or set HPC_FLOWS_HOME to another place."
                )
        return ""


#: Tables of a profile and the classes that hold them.
_PARTS = {
    "limits": Limits,
    "poll": Poll,
    "grace": Grace,
    "login": Login,
    "storage": Storage,
    "policies": Policies,
}

#: Keys that are not fields of the class: they were used while reading, or are the mock's.
_NOT_KEPT = frozenset({"extends", "sources", "provenance", "mock", *_PARTS})


def _built(profile: files.ProfileFile) -> Cluster:
    table = profile.table
    fields = {key: value for key, value in table.items() if key not in _NOT_KEPT}
    fields |= {key: part(**table.get(key, {})) for key, part in _PARTS.items()}
    partitions = table.get("partitions", {})
    return Cluster(
        **{
            **fields,
            "name": profile.name,
            "file": str(profile.path),
            "mock_file": str(profile.mock_path),
            "partitions": {key: Partition(key, **value) for key, value in partitions.items()},
            "defaults": Resources.from_dict(table.get("defaults", {})),
            "path": tuple(_filled(part, profile) for part in table.get("path", ())),
            "start": tuple(_filled(part, profile) for part in table.get("start", ())),
            "quirks": tuple(table.get("quirks", {}).values()),
            "facts": facts_of(table),
        }
    )


def _filled(text: str, profile: files.ProfileFile) -> str:
    home = str(Path(get_settings().home).expanduser().absolute())
    known = {"{python}": sys.executable, "{home}": home, "{profile}": str(profile.mock_path)}
    for mark, value in known.items():
        text = text.replace(mark, value)
    return os.path.expandvars(Path(text).expanduser() if text.startswith("~") else text)


def _today() -> date:
    return date.today()  # noqa: DTZ011 - a day more or less does not matter in a year


#: Limits of partitions that a scheduler also says, and how they are written.
_COMPARED: dict[str, Callable[[int], str]] = {
    "max_walltime": format_walltime,
    "default_walltime": format_walltime,
    "min_nodes": str,
    "max_nodes": str,
    "cpus_per_node": str,
    "memory_per_node": format_memory,
    "default_memory_per_cpu": format_memory,
    "max_memory_per_cpu": format_memory,
}

#: What nodes have; a site may let one job use less of it, so only a promise of more is wrong.
_SIZES = frozenset({"cpus_per_node", "memory_per_node"})


def _limit_pairs(mine: Partition, live: Partition) -> list[tuple[str, Any, Any]]:
    at = f"partitions.{mine.name}"
    return [
        (f"{at}.{name}", _said(getattr(mine, name), say), _said(getattr(live, name), say))
        for name, say in _COMPARED.items()
        if not (name in _SIZES and (getattr(mine, name) or 0) <= (getattr(live, name) or 0))
    ]


def _said(value: int | None, say: Callable[[int], str]) -> str | None:
    return None if value is None else say(value)
