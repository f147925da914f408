"""Which runs there are, and which one a person means.

There is no index on disk that could be wrong: the folders are the list. A run is summed up from
its `run.json` and the end of its driver's journal.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from json import loads
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import JournalError, UnknownRun, close_match
from hpc_flows.journal.event import is_driver
from hpc_flows.journal.reader import decode, iter_run
from hpc_flows.journal.views import FlowRunView, TaskRunView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpc_flows.journal.event import Event

#: Bytes at the end of a driver's journal in which the root flow's last state is looked for first.
_TAIL = 64 * 1024

#: Seconds after which a journal that nobody writes to is read whole if no end was found in these.
_REST = 60.0

#: The ends of runs; of several that stand for one the last in this order counts.
_BY_WEIGHT = ("COMPLETED", "CANCELLED", "CRASHED", "FAILED")
_FINAL = frozenset(_BY_WEIGHT)

#: Bytes of the journals of tasks that were called outside of any flow, up to which they are read.
_FEW_TASKS = 1 << 20

#: Seconds by which the clocks of a process and of its run.json may differ.
_CLOCK_SLACK = 2.0

#: Fewest characters of an id that are taken for its beginning.
_SHORTEST = 4

#: How many runs an error names.
_NAMED = 5

#: Word for the run that was made last.
LATEST = "latest"


@dataclass(slots=True)
class RunSummary:
    """A run in a list of runs.

    Attributes:
        id, name, flow: of the root flow run; of a task that was called outside of any flow the
            run's id, the task's name, and nothing.
        path: the run's folder.
        created, started, ended: seconds since 1970, or None.
        state_type, state_name, message: of the root flow run, or None.
        host, pid: where the driver runs or ran.
        alive: whether the driver is still at work; None when that cannot be told from here,
            because it was started on another machine.
    """

    id: str
    path: str
    name: str = ""
    flow: str = ""
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    state_type: str | None = None
    state_name: str | None = None
    message: str | None = None
    host: str = ""
    pid: int | None = None
    alive: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-safe."""
        return asdict(self)


def list_runs(home: str) -> list[RunSummary]:
    """Return all runs under a home, the newest first; none when there is no home yet.

    Raises:
        JournalError: the home cannot be read.
    """
    runs = [summarise(path) for path in _folders(home)]
    return sorted(runs, key=lambda run: (run.created or 0.0, run.id), reverse=True)


def find_run(home: str, wanted: str) -> str:
    """Return the folder of the run that a person means.

    Args:
        home: the setting `home`.
        wanted: an id, the beginning of one (4 characters or more), a name (of several runs of
            one name the newest is meant), or `latest`.

    Raises:
        UnknownRun: there is none, or an id's beginning fits several.
        JournalError: the home cannot be read.
    """
    paths = {os.path.basename(path): path for path in _folders(home)}
    if wanted in paths:
        return paths[wanted]
    begun = [path for id_, path in paths.items() if _begins(id_, wanted)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UnknownRun(_ambiguous(wanted, begun))
    known = [_facts(path) for path in paths.values()]
    known.sort(key=lambda facts: facts["created"])
    named = [facts for facts in known if wanted in (facts["name"], LATEST)]
    if not named:
        raise UnknownRun(_unknown(home, wanted, known))
    return str(named[-1]["path"])


def summarise(run_dir: str) -> RunSummary:
    """Sum a run up, reading no more of it than needed; what is damaged is left out."""
    facts = _facts(run_dir)
    summary = RunSummary(
        facts["id"],
        run_dir,
        facts["name"],
        facts["flow"],
        created=facts["created"] or None,
        host=facts["host"],
        pid=facts["pid"],
        alive=_is_alive(facts["host"], facts["pid"], facts["created"] or None),
    )
    root = _root(run_dir, summary.id, is_gone=summary.alive is False)
    summary.started = root.started or summary.created
    summary.ended = root.ended
    if root.is_final:  # its process may do other things, or its number be somebody else's
        summary.alive = False
    summary.state_type = root.state_type
    summary.state_name = root.state_name
    summary.message = root.message
    if root.state is None and facts["task"] and summary.alive is False:
        _sum_up_tasks(summary)
    return summary


def _sum_up_tasks(summary: RunSummary) -> None:
    """Take the end of a task that was called outside of any flow, and of what it called."""
    runs: dict[str, TaskRunView] = {}
    try:
        if _size(summary.path) > _FEW_TASKS:
            return
        for event in iter_run(summary.path):
            if event.kind == "state" and event.data.get("subject") == "task":
                id_ = str(event.data.get("id"))
                runs.setdefault(id_, TaskRunView(id_)).change(event)
    except (JournalError, KeyError, TypeError, ValueError):
        return  # its end is not known
    ends = [run for run in runs.values() if run.ended is not None]
    if not ends or len(ends) < len(runs):
        return
    worst = max(ends, key=lambda run: _BY_WEIGHT.index(run.state_type or ""))
    summary.started = min((r.started for r in ends if r.started), default=summary.started)
    summary.ended = max(run.ended or 0.0 for run in ends)
    summary.state_type, summary.state_name = worst.state_type, worst.state_name
    summary.message = worst.message


def _size(run_dir: str) -> int:
    """Return the bytes of a run's journals."""
    try:
        with os.scandir(os.path.join(run_dir, "journal")) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except OSError:
        return 0


def _folders(home: str) -> list[str]:
    folder = os.path.join(os.path.expanduser(home), "runs")
    try:
        with os.scandir(folder) as entries:
            return [
                entry.path
                for entry in entries
                # What begins with a point is of file servers and notebooks, and no run.
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        msg = (
            f"The runs cannot be listed: {folder}: {error.strerror}. Set HPC_FLOWS_HOME to a "
            f"folder that you may read."
        )
        raise JournalError(msg) from error


def _facts(run_dir: str) -> dict[str, Any]:
    """Return what `run.json` says, with each field there and of its type."""
    try:
        with open(os.path.join(run_dir, "run.json"), "rb") as file:
            found = loads(file.read())
    except (
        OSError,
        ValueError,
        RecursionError,
    ):  # being made, or damaged: the folder's name is left
        found = {}
    if not isinstance(found, dict):
        found = {}
    created, pid = found.get("created"), found.get("pid")
    return {
        "path": run_dir,
        "id": os.path.basename(run_dir),
        "name": str(found.get("name", "")),
        "flow": str(found.get("flow", "")),
        "task": str(found.get("task", "")),
        "host": str(found.get("host", "")),
        "created": float(created) if isinstance(created, int | float) else 0.0,
        "pid": pid if isinstance(pid, int) else None,
    }


def _root(run_dir: str, run_id: str, *, is_gone: bool) -> FlowRunView:
    view = FlowRunView(run_id)
    for path in _drivers(run_dir):
        for event in _ends(path, run_id, is_gone=is_gone):
            try:
                view.change(event)
            except (KeyError, TypeError, ValueError):  # says nonsense, as replay counts it
                continue
    return view


def _drivers(run_dir: str) -> list[str]:
    folder = os.path.join(run_dir, "journal")
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [
        os.path.join(folder, name)
        for name in names
        if name.endswith(".jsonl") and is_driver(name.removesuffix(".jsonl"))
    ]


def _ends(path: str, run_id: str, *, is_gone: bool) -> list[Event]:
    """Return the first and the last states of the flow run in a driver's journal.

    All of them, if it was ever paused: that, and that it went on, may stand in the middle. And if
    it is at rest without an end in sight: what hooks and threads log after a run's end may be long.
    """
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_size <= 2 * _TAIL or _was_paused(path):
                return list(_states(file, run_id))
            found = list(_states(file.read(_TAIL).split(b"\n"), run_id))
            file.seek(facts.st_size - _TAIL)
            file.readline()  # the rest of a line whose beginning is not in sight
            found += _states(file, run_id)
            at_rest = is_gone or time.time() - facts.st_mtime > _REST
            if not at_rest or any(event.data.get("type") in _FINAL for event in found):
                return found
            file.seek(0)
            return list(_states(file, run_id))
    except OSError:
        return []


def _was_paused(path: str) -> bool:
    folder = os.path.dirname(os.path.dirname(path))
    return os.path.exists(os.path.join(folder, "control", "was-paused"))


def _states(lines: Iterable[bytes], run_id: str) -> Iterator[Event]:
    mark = run_id.encode()
    for line in lines:
        # Task runs have many more states than flow runs, and `decode` takes its time.
        if b'"subject":"flow"' not in line or mark not in line or b'"kind":"state"' not in line:
            continue
        try:
            event = decode(line.removesuffix(b"\n"))
        except ValueError:
            continue
        if event.data.get("id") == run_id and event.data.get("subject") == "flow":
            yield event


def _is_alive(host: str, pid: int | None, created: float | None) -> bool | None:
    if pid is None or host != os.uname().nodename:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: the number was given away again
        return False
    if is_zombie(pid):
        return False
    began = process_start(pid)
    # A process that is younger than the run has the driver's number, and is not the driver.
    return began is None or created is None or began <= created + _CLOCK_SLACK


def process_start(pid: int) -> float | None:
    """Return when a process of this machine began, in seconds since 1970; None if unknown."""
    try:
        ticks = int(_process_facts(pid)[19])
        with open("/proc/stat", encoding="utf-8") as file:
            boot = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and only its parent has not taken note of it."""
    try:
        return _process_facts(pid)[0] == "Z"
    except (OSError, IndexError):
        return False


def _process_facts(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat that come after the command's name (see proc(5))."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _begins(id_: str, wanted: str) -> bool:
    return len(wanted) >= _SHORTEST and id_.startswith(wanted)


def _ambiguous(wanted: str, paths: list[str]) -> str:
    ids = sorted(os.path.basename(path) for path in paths)
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return (
        f"{wanted!r} is the beginning of {len(ids)} runs' ids: {', '.join(ids[:_NAMED])}{more}. "
        f"Give more of the one that you mean."
    )


def _unknown(home: str, wanted: str, known: list[dict[str, Any]]) -> str:
    if not known:
        return f"There is no run {wanted!r}: {home} has no runs yet. Start one, then ask again."
    names = [text for facts in known for text in (facts["name"], facts["id"]) if text]
    return (
        f"There is no run {wanted!r} in {home}.{close_match(wanted, names)} `hpc-flows runs ls` "
        f"lists the {len(known)} that there are."
    )
