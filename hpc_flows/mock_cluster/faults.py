"""Faults by script: what goes wrong, when, how often; seeded, and counted when it fires.

A fault is a table with a `kind` and conditions. Conditions that every kind has:

* `times`: fire at most so often (1 where nothing else bounds it; 0 for no bound);
* `skip`: let the first n chances pass; `every`: take every n-th chance only;
* `probability`: take a chance with this probability, from the seeded generator;
* `start`, `for`: seconds after it was set from which, and for how long, it may fire;
* `job`: only jobs whose name matches this pattern; `name`: how counters call the fault.
"""

from __future__ import annotations

import fnmatch
import json
import random
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster.sites import SiteError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hpc_flows.mock_cluster.clock import Clock

_CONDITIONS = {
    "times",
    "skip",
    "every",
    "probability",
    "start",
    "for",
    "job",
    "name",
    "fired",
    "seen",
}
_STATES = {"set_at"}

#: Every kind with the options of its own.
KINDS: dict[str, set[str]] = {
    "sbatch_times_out": {"delay"},
    "controller_dies": set(),
    "max_job_count": set(),
    "banner": {"text", "stream"},
    "refuse": {"commands", "text", "status", "delay"},
    "controller_down": {"delay"},
    "controller_hung": {"delay"},
    "slurmdbd_down": set(),
    "accounting_late": {"seconds"},
    "accounting_loses": set(),
    "accounting_absent": set(),
    "output_late": {"seconds"},
    "node_dies": {"node", "at", "after", "percent", "back_after"},
    "node_drained": {"node", "at", "reason"},
    "out_of_memory": {"at", "after", "percent"},
    "preempt": {"at", "after", "percent"},
    "requeue": {"at", "after", "percent"},
    "kill": {"at", "after", "percent", "signal"},
    "job_vanishes": {"at", "after", "percent"},
    "id_reset": {"at", "to"},
    "foreign_job": {"at", "comment", "job_name", "user"},
}
#: Kinds that happen to jobs or nodes at a time, not to a command.
INCIDENTS = frozenset(kind for kind, options in KINDS.items() if "at" in options)


@dataclass(slots=True)
class Fault:
    """One scripted fault and how often it has fired."""

    kind: str
    name: str
    options: dict[str, Any]
    set_at: float
    seen: int = 0
    fired: int = 0

    def number(self, option: str, default: float) -> float:
        """Return an option as a number."""
        return float(self.options.get(option, default))

    def text(self, option: str, default: str) -> str:
        """Return an option as a text."""
        return str(self.options.get(option, default))

    @property
    def most(self) -> int:
        """How often it may fire; 0 for no bound."""
        bounded = {"for", "every", "probability"} & self.options.keys()
        return int(self.options.get("times", 0 if bounded else 1))

    def in_time(self, now: float) -> bool:
        """Return whether its time has come and is not over."""
        begin = self.set_at + self.number("start", 0.0)
        if now < begin:
            return False
        return "for" not in self.options or now < begin + self.number("for", 0.0)

    def spent(self) -> bool:
        """Return whether it has fired as often as it may."""
        return bool(self.most) and self.fired >= self.most

    def matches(self, job: str | None) -> bool:
        """Return whether a job's name is one that it is for."""
        pattern = self.options.get("job")
        return pattern is None or (job is not None and fnmatch.fnmatchcase(job, str(pattern)))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-safe values, counters included."""
        counters = {"seen": self.seen, "fired": self.fired, "set_at": self.set_at}
        return {"kind": self.kind, "name": self.name, **self.options, **counters}


@dataclass(slots=True)
class Faults:
    """All faults of a mock cluster, and the generator behind their chances."""

    clock: Clock
    seed: int = 0
    entries: list[Fault] = field(default_factory=list)
    on_change: Callable[[], None] = lambda: None
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - seeded

    def replace(self, table: dict[str, Any]) -> None:
        """Set the faults of `{"seed": n, "fault": [{...}, ...]}` in place of those there were.

        Raises:
            SiteError: a kind or an option is unknown.
        """
        self.entries = [self._read(entry) for entry in check(table)]
        self.seed = int(table.get("seed", 0))
        self.chance = random.Random(self.seed)  # noqa: S311 - repeatable, not secret
        self.on_change()

    def add(self, entry: dict[str, Any]) -> Fault:
        """Add one fault to those there are."""
        fault = self._read(check({"fault": [entry]})[0])
        self.entries.append(fault)
        self.on_change()
        return fault

    def _read(self, entry: dict[str, Any]) -> Fault:
        options = dict(entry)
        kind = options.pop("kind")
        taken = {fault.name for fault in self.entries}
        name = str(options.pop("name", kind))
        fault = Fault(kind, name if name not in taken else f"{name}-{len(taken) + 1}", options, 0.0)
        fault.set_at = float(options.pop("set_at", self.clock.now()))
        fault.seen, fault.fired = int(options.pop("seen", 0)), int(options.pop("fired", 0))
        return fault

    def fire(
        self, kind: str, *, job: str | None = None, command: str | None = None
    ) -> Fault | None:
        """Let the first fitting fault of a kind take its chance; return it if it fires."""
        for fault in self.entries:
            if fault.kind == kind and self.fire_one(fault, job, command):
                return fault
        return None

    def fire_one(self, fault: Fault, job: str | None, command: str | None = None) -> bool:
        """Let one fault take its chance, and count it if it fires."""
        if not self._takes(fault, job, command):
            return False
        fault.fired += 1
        self.on_change()
        return True

    def _takes(self, fault: Fault, job: str | None, command: str | None) -> bool:
        if fault.spent() or not fault.in_time(self.clock.now()) or not fault.matches(job):
            return False
        commands = fault.options.get("commands")
        if commands is not None and command not in commands:
            return False
        fault.seen += 1
        chance = fault.seen - int(fault.number("skip", 0))
        if chance < 1 or chance % max(int(fault.number("every", 1)), 1):
            return False
        return self.chance.random() < fault.number("probability", 1.0)

    def active(self, kind: str) -> bool:
        """Return whether a fault of a kind is on now, without counting."""
        now = self.clock.now()
        return any(f.kind == kind and not f.spent() and f.in_time(now) for f in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Return all faults with their counters as JSON-safe values."""
        return {"seed": self.seed, "fault": [fault.to_dict() for fault in self.entries]}


def check(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the faults of a table once every kind and option in it is known.

    Raises:
        SiteError: one is not; it names the close match.
    """
    for key in table.keys() - {"seed", "fault"}:
        raise unknown_name("key of a faults file", key, ["seed", "fault"])
    entries = table.get("fault", [])
    if not isinstance(entries, list):
        message = "`fault` of a faults file is no list; write [[fault]] tables"
        raise SiteError(message)
    for entry in entries:
        kind = entry.get("kind")
        if kind not in KINDS:
            raise unknown_name("fault", str(kind), list(KINDS))
        known = KINDS[kind] | _CONDITIONS | _STATES | {"kind"}
        for option in entry.keys() - known:
            raise unknown_name(f"option of the fault {kind}", option, sorted(known - _STATES))
    return entries


def read_file(path: Path) -> dict[str, Any]:
    """Return the table of a faults file, TOML or JSON by its ending, checked.

    Raises:
        SiteError: it cannot be read, or something in it is unknown.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        message = f"the faults file {path} cannot be read: {error}"
        raise SiteError(message) from error
    check(table)
    return table


def parse_words(words: list[str]) -> dict[str, Any]:
    """Return a fault of `kind key=value ...`, as the command line gives it.

    Values that read as JSON are numbers, lists and so on; others are texts.
    """
    if not words:
        message = "name a fault, such as `sbatch_times_out times=1`; known: " + ", ".join(KINDS)
        raise SiteError(message)
    entry: dict[str, Any] = {"kind": words[0]}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            message = f"{word!r} is no key=value of the fault {words[0]}"
            raise SiteError(message)
        try:
            entry[key] = json.loads(value)
        except ValueError:
            entry[key] = value
    check({"fault": [entry]})
    return entry
