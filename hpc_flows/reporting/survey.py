"""How full clusters are: partitions, the queue, and why jobs wait.

The scheduler is asked kindly: one `squeue` and one `sinfo` a minute for all relays of a home
together, and only while runs live that send jobs there.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from json import loads
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_flows.clusters import Cluster
from hpc_flows.exceptions import HpcFlowsError, LeaseError, TransportError
from hpc_flows.journal.event import encode
from hpc_flows.leases import Lease
from hpc_flows.reporting.cursors import write_whole
from hpc_flows.schedulers.opening import open_transport
from hpc_flows.schedulers.slurm_commands import command_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Seconds between two surveys of a cluster, and the longest that a command may take.
PERIOD, TIMEOUT = 60.0, 30.0
#: Most reasons that are told; the rest is summed up as `other`.
_MOST_REASONS = 20
_LONGEST_ERROR = 500

#: Fields of a job in the queue. The reason stands last, as it may hold anything.
QUEUE = ("squeue", "--noheader", "--all", "--format=%P|%T|%u|%i|%r")
NODES = ("sinfo", "--noheader", "--all", "--format=%R|%F|%C")

_PENDING, _RUNNING = "PENDING", frozenset({"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"})


class QueuedJobs(NamedTuple):
    """One line of the queue: a job, or what is left of an array.

    Attributes:
        partitions: those that it may start in.
        state, user, reason: in the scheduler's words.
        jobs: how many it stands for.
    """

    partitions: tuple[str, ...]
    state: str
    user: str
    jobs: int
    reason: str


def read_queue(text: str) -> list[QueuedJobs]:
    """Return what squeue printed in the form `QUEUE`; lines of another form are left out."""
    found = []
    for line in text.splitlines():
        fields = line.split("|", 4)
        if len(fields) == 5:  # noqa: PLR2004 - the fields of QUEUE
            names, state, user, id_, reason = fields
            partitions = tuple(names.split(","))
            found.append(QueuedJobs(partitions, state, user, elements(id_), reason))
    return found


def elements(id_: str) -> int:
    """Return for how many jobs an id stands: `7_[1-99%5]` for 99, `7_[0,4-8:2]` for 4."""
    _, bracket, inner = id_.partition("_[")
    if not bracket:
        return 1
    ranges = inner.rstrip("]").partition("%")[0].split(",")
    return max(sum(_length(part) for part in ranges), 1)


def _length(part: str) -> int:
    span, _, step = part.partition(":")
    first, dash, last = span.partition("-")
    try:
        return (int(last) - int(first)) // int(step or 1) + 1 if dash else 1
    except (ValueError, ZeroDivisionError):  # `…`: squeue cuts long lists
        return 1


def read_partitions(text: str) -> dict[str, dict[str, Any]]:
    """Return what sinfo printed in the form `NODES`, by partition."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        name, _, rest = line.strip().partition("|")
        nodes, _, cpus = rest.partition("|")
        counts = [_numbers(nodes), _numbers(cpus)]
        if not name or None in counts:
            continue
        row = found.setdefault(
            name, {"name": name, "nodes": 0, "idle_nodes": 0, "cpus": 0, "idle_cpus": 0}
        )
        for what, numbers in zip(("nodes", "cpus"), counts, strict=True):
            row[what] += numbers[3] if numbers else 0
            row[f"idle_{what}"] += numbers[1] if numbers else 0
    return found


def _numbers(text: str) -> list[int] | None:
    """Return the four numbers of `allocated/idle/other/total`; thousands may be `1.2K`."""
    try:
        found = [_number(part) for part in text.split("/")]
    except ValueError:
        return None
    return found if len(found) == 4 else None  # noqa: PLR2004 - as the text above says


def _number(text: str) -> int:
    scale = {"K": 1000, "M": 1_000_000}.get(text[-1:].upper(), 1)
    return int(float(text[:-1] if scale > 1 else text) * scale)


def summed_up(
    jobs: Iterable[QueuedJobs], partitions: Mapping[str, dict[str, Any]], user: str
) -> dict[str, Any]:
    """Return the survey that queue and partitions make, but for its time and scheduler."""
    rows = {name: {**row, "pending": 0, "running": 0} for name, row in partitions.items()}
    queue, mine, reasons = Counter[str](), Counter[str](), Counter[str]()
    for each in jobs:
        phase = _phase(each.state)
        queue[phase] += each.jobs
        mine[phase] += each.jobs if each.user == user else 0
        if phase == "pending":
            reasons[each.reason.strip("()") or "None"] += each.jobs
        for name in each.partitions if phase in {"pending", "running"} else ():
            if name in rows:
                rows[name][phase] += each.jobs
    told = dict(reasons.most_common(_MOST_REASONS))
    rest = sum(reasons.values()) - sum(told.values())
    return {
        "partitions": sorted(rows.values(), key=lambda row: str(row["name"])),
        "queue": {
            "pending": queue["pending"],
            "running": queue["running"],
            "reasons": {**told, **({"other": rest} if rest else {})},
        },
        "mine": {"pending": mine["pending"], "running": mine["running"]},
        "error": None,
    }


def _phase(state: str) -> str:
    if state == _PENDING:
        return "pending"
    return "running" if state in _RUNNING else "other"


def take_survey(name: str) -> dict[str, Any]:
    """Ask the scheduler of a cluster; what goes wrong is told in `error`."""
    facts: dict[str, Any] = {"time": time.time(), "scheduler": "", "partitions": []}
    try:
        cluster = Cluster.load(name)
        facts["scheduler"] = cluster.scheduler
        return facts | _asked(cluster)
    except HpcFlowsError as error:
        facts["error"] = str(error)[:_LONGEST_ERROR]
        return {**facts, "queue": None, "mine": None}


def _asked(cluster: Cluster) -> dict[str, Any]:
    if cluster.scheduler != "slurm":
        msg = f"The queue of a {cluster.scheduler!r} scheduler is not surveyed, only Slurm's."
        raise TransportError(msg)
    with open_transport(cluster) as transport:
        environment = command_environment(transport.environment(), cluster.path)
        answers = []
        for argv in (QUEUE, NODES):
            done = transport.run(argv, env=environment, timeout=TIMEOUT)
            if done.returncode != 0:
                why = done.stderr.strip().partition("\n")[0]
                msg = f"{argv[0]} ended with status {done.returncode}: {why}"
                raise TransportError(msg)
            answers.append(done.stdout)
        user = environment.get("USER") or environment.get("LOGNAME") or _user_name()
    return summed_up(read_queue(answers[0]), read_partitions(answers[1]), user)


def _user_name() -> str:
    import pwd  # noqa: PLC0415 - only where the environment does not say

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


class Surveys:
    """The surveys of some clusters, each not older than a minute or two.

    One relay of a home takes the survey, in a thread of its own, and all read the file it leaves.

    Args:
        home: the setting `home`.
    """

    def __init__(self, home: str) -> None:
        self._folder = os.path.join(home, "relay", "surveys")
        self._threads: dict[str, Thread] = {}
        self._next: dict[str, float] = {}

    def of(self, clusters: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the newest survey of each cluster that has one, and have old ones renewed."""
        found = {}
        for name in clusters:
            survey = self._read(name)
            if survey is not None:
                found[name] = survey
            age = time.time() - float(survey["time"]) if survey else PERIOD
            if age >= PERIOD or age < -PERIOD:
                self._renew(name)
        return found

    def _path(self, name: str) -> str:
        safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
        return os.path.join(self._folder, f"{safe.lstrip('.')}.json")

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with open(self._path(name), "rb") as file:
                found = loads(file.read())
            float(found["time"])
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found if isinstance(found, dict) else None

    def _renew(self, name: str) -> None:
        thread, now = self._threads.get(name), time.monotonic()
        if (thread is not None and thread.is_alive()) or now < self._next.get(name, 0.0):
            return
        self._next[name] = now + PERIOD
        # A scheduler that hangs must hold up neither events nor heartbeats.
        self._threads[name] = Thread(target=self._take, args=(name,), daemon=True)
        self._threads[name].start()

    def _take(self, name: str) -> None:
        path = self._path(name)
        try:
            lease = Lease.try_acquire(f"{path}.lease", note="survey", ttl=3 * TIMEOUT)
            if lease is None:
                return
            with lease:
                write_whole(path, encode(take_survey(name)).encode("ascii"))
        except (LeaseError, OSError):
            return  # a full disk: the survey is missing, and says its age
