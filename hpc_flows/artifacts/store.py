"""Where artifacts are kept: the journal of the run, its folder, and one file for each key."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from hpc_flows.context import current
from hpc_flows.events import OUTSIDE, record
from hpc_flows.exceptions import ArtifactError, JournalError
from hpc_flows.journal.event import masked
from hpc_flows.journal.reader import iter_run
from hpc_flows.serializers.base import write_file
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.journal.event import Event

#: Bytes of data as JSON that stand in the journal; more becomes a file.
INLINE = 65536

#: Characters of a key.
LONGEST_KEY = 240

_SUFFIX = ".json"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_FACTS = ("type", "key", "description", "run", "flow_run", "task_run", "created", "updated", "tags")
#: Facts about who made an artifact, which updates leave as they are.
_ORIGIN = ("run", "flow_run", "task_run", "created", "tags")


class StoredArtifact:
    """An artifact that is kept.

    Attributes:
        id: its UUID.
        type, key, description: as it was made.
        run: id of the run in whose folder it is, or `outside`.
        flow_run, task_run: ids of the runs that made it, or None; also as `flow_run_id` and
            `task_run_id`.
        created, updated: seconds since 1970.
        tags: those in force when it was made.
    """

    def __init__(self, home: str, facts: dict[str, Any]) -> None:
        self._home = home
        self._facts = facts
        self.id = UUID(facts["id"])
        self.type: str | None = facts.get("type")
        self.key: str | None = facts.get("key")
        self.description: str | None = facts.get("description")
        self.run: str | None = facts.get("run")
        self.flow_run: str | None = facts.get("flow_run")
        self.task_run: str | None = facts.get("task_run")
        self.created = float(facts["created"])
        self.updated = float(facts["updated"])
        self.tags: list[str] = list(facts.get("tags", ()))

    def __repr__(self) -> str:
        return f"StoredArtifact({str(self.id)!r}, type={self.type!r}, key={self.key!r})"

    @property
    def flow_run_id(self) -> str | None:
        """Id of the flow run that made it."""
        return self.flow_run

    @property
    def task_run_id(self) -> str | None:
        """Id of the task run that made it."""
        return self.task_run

    @property
    def data(self) -> Any:
        """What it holds: a text, or a number for progress; read from its file if it has one.

        Raises:
            ArtifactError: the file is gone, as when its run was deleted.
        """
        name = self._facts.get("file")
        if name is None:
            return self._facts.get("data")
        path = os.path.join(self._home, name)
        try:
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError) as error:
            msg = f"The data of artifact {self.key or self.id} cannot be read: {path}: {error}."
            raise ArtifactError(msg) from None

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-safe, without its data."""
        return {"id": str(self.id), **{name: getattr(self, name) for name in _FACTS}}


def home_and_run() -> tuple[str, str, str]:
    """Return the home, the id of the run, and its folder within the home."""
    context = current()
    root = None if context is None else context.root
    if root is None:
        return get_settings().home, OUTSIDE, OUTSIDE
    return root.settings.home, root.run_id, os.path.relpath(root.run_dir, root.settings.home)


def keep(type_: str | None, key: str | None, description: str | None, data: Any) -> StoredArtifact:
    """Keep a new artifact and return it.

    Raises:
        ArtifactError: the key cannot be one, or the data cannot be written.
    """
    if key is not None:
        _check_key(key)
    id_ = str(uuid4())
    facts = {"id": id_, "type": type_, "key": key, "description": description}
    return _record(id_, facts, data, {})


def update(id_: str, data: Any, description: str | None = None) -> StoredArtifact:
    """Give an artifact other data, and another description if there is one.

    Raises:
        ArtifactError: it is not there.
    """
    before = find(id_)
    if before is None:
        msg = (
            f"There is no artifact {id_!r} under a key or in this run. "
            f"`hpc-flows artifact ls` lists those with keys."
        )
        raise ArtifactError(msg)
    facts = {"id": id_, "type": before.type, "key": before.key}
    facts["description"] = before.description if description is None else description
    old = {name: getattr(before, name) for name in _ORIGIN}
    return _record(id_, facts, data, old)


def _record(id_: str, facts: dict[str, Any], data: Any, old: dict[str, Any]) -> StoredArtifact:
    home, run, folder = home_and_run()
    now = time.time()
    body = _body(home, folder, id_, data)
    facts = {**facts, **body, "created": old.get("created", now), "updated": now}
    told = {"update": True, **facts} if old else facts
    record("artifact", {name: value for name, value in told.items() if value is not None})
    context = current()
    if context is not None:
        facts["tags"] = list(context.tags)
        facts["flow_run"] = context.flow_run.id if context.flow_run is not None else None
        facts["task_run"] = context.task_run.id if context.task_run is not None else None
    made = StoredArtifact(home, {**facts, "run": run, **old})
    _remember(made)
    if made.key is not None:
        _point_to(home, made)
    return made


def _body(home: str, folder: str, id_: str, data: Any) -> dict[str, Any]:
    """Return the data for an event; large ones are written to a file that it names."""
    content = masked(json.dumps(data)).encode()
    if len(content) <= INLINE:
        return {"data": data}
    name = os.path.join(folder, "artifacts", id_ + _SUFFIX)
    path = os.path.join(home, name)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_file(path, [content])
    except OSError as error:
        msg = (
            f"An artifact of {len(content)} bytes cannot be kept: {path}: {error.strerror}. Make "
            f"room there, or keep less."
        )
        raise ArtifactError(msg) from error
    return {"file": name, "size": len(content)}


#: Artifacts that this process has made, the newest last, so that progress is updated quickly.
_made: dict[str, StoredArtifact] = {}
_MOST_MADE = 1000


def _remember(artifact: StoredArtifact) -> None:
    _made.pop(str(artifact.id), None)
    _made[str(artifact.id)] = artifact
    if len(_made) > _MOST_MADE:
        _made.pop(next(iter(_made)), None)


def find(id_: str) -> StoredArtifact | None:
    """Return the artifact of an id: one that was made here, in this run, or has a key."""
    if id_ in _made:
        return _made[id_]
    home, _, folder = home_and_run()
    run_dir = os.path.join(home, folder)
    found = next((each for each in of_run(home, run_dir) if str(each.id) == id_), None)
    return found or next((each for each in all_latest() if str(each.id) == id_), None)


def latest(key: str | None) -> StoredArtifact | None:
    """Return the newest artifact of a key, or of all keys; None if there is none.

    Raises:
        ArtifactError: its file cannot be read.
    """
    if key is None:
        return max(all_latest(), key=lambda artifact: artifact.updated, default=None)
    _check_key(key)
    return _read(home_and_run()[0], key)


def all_latest() -> list[StoredArtifact]:
    """Return the newest artifact of each key, sorted by key."""
    home = home_and_run()[0]
    try:
        names = os.listdir(os.path.join(home, "artifacts"))
    except FileNotFoundError:
        return []
    keys = sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
    found = (_read(home, key) for key in keys)
    return [artifact for artifact in found if artifact is not None]


def delete(key: str) -> bool:
    """Forget the newest artifact of a key, and tell whether there was one.

    The journals of the runs that made its versions keep them.
    """
    _check_key(key)
    try:
        os.unlink(_path(home_and_run()[0], key))
    except FileNotFoundError:
        return False
    return True


def of_run(home: str, run_dir: str) -> list[StoredArtifact]:
    """Return the artifacts of a run, each as it was last, in the order in which they were made."""
    try:
        return collect(home, iter_run(run_dir))
    except JournalError:  # a run without a journal
        return []


def collect(home: str, events: Iterable[Event]) -> list[StoredArtifact]:
    """Return the artifacts that some events tell of."""
    versions: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.kind == "artifact":
            versions.setdefault(str(event.data.get("id")), []).append(
                {**event.data, "run": event.run}
            )
    found = (_joined(home, each) for each in versions.values())
    return [artifact for artifact in found if artifact is not None]


def _joined(home: str, versions: list[dict[str, Any]]) -> StoredArtifact | None:
    """Return the artifact as it was last, made by who made it first; None if it makes no sense."""
    try:
        first = min(versions, key=lambda facts: (bool(facts.get("update")), facts["updated"]))
        last = max(versions, key=lambda facts: facts["updated"])
        origin = {name: first.get(name) for name in _ORIGIN if first.get(name) is not None}
        kept = {name: value for name, value in last.items() if name not in _ORIGIN}
        return StoredArtifact(home, {**kept, **origin})
    except (KeyError, TypeError, ValueError):
        return None  # of a newer version, or damaged


def _point_to(home: str, artifact: StoredArtifact) -> None:
    """Make an artifact the newest of its key, unless there is a newer one."""
    assert artifact.key is not None  # noqa: S101 - asked by the caller
    path = _path(home, artifact.key)
    before = _read(home, artifact.key)
    if before is not None and before.updated > artifact.updated:
        return
    facts = {"v": 1, **artifact._facts}  # noqa: SLF001 - same module
    content = masked(json.dumps(facts)).encode()
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_file(path, [content], fsync=False)  # the journal has it
    except OSError as error:
        msg = f"Artifact {artifact.key!r} is kept, but not under its key: {path}: {error.strerror}."
        raise ArtifactError(msg) from error


def _read(home: str, key: str) -> StoredArtifact | None:
    try:
        with open(_path(home, key), encoding="utf-8") as file:
            return StoredArtifact(home, json.load(file))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not there, or damaged, which the next version mends
    except OSError as error:
        raise ArtifactError(f"Artifact {key!r} cannot be read: {error}.") from error


def _path(home: str, key: str) -> str:
    return os.path.join(home, "artifacts", key + _SUFFIX)


def _check_key(key: str) -> None:
    if isinstance(key, str) and 0 < len(key) <= LONGEST_KEY and _LETTERS.issuperset(key):
        return
    msg = (
        f"{key!r} cannot be the key of an artifact: use 1 to {LONGEST_KEY} lower-case letters, "
        f"digits and '-', such as 'loss-curve'."
    )
    raise ArtifactError(msg)
