"""Log records, users' own events, and artifacts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hpc_flows.server.db.bulk import found, insert_rows, update_rows
from hpc_flows.server.db.models import artifacts, events, logs
from hpc_flows.server.db.texts import (
    LONGEST_ID,
    checked_id,
    clean,
    dumps,
    loads,
    seconds,
    short,
    whole,
)
from hpc_flows.server.ingest.batch import NONSENSE

if TYPE_CHECKING:
    from hpc_flows.journal.event import Event
    from hpc_flows.server.ingest.batch import Batch

#: Numbers of log levels, as the standard library has them.
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

_BODY = ("resource", "related", "payload", "follows", "tags")
_RESOURCE_ID = "prefect.resource.id"
_ARTIFACT = (
    *("pk", "type", "key", "description", "created", "updated", "flow_run", "task_run", "tags"),
    *("data", "size", "origin", "newest"),
)
_ORIGIN = ("created", "flow_run", "task_run", "tags")
_NEWEST = ("type", "key", "description", "updated", "data", "size")


def take_logs(batch: Batch, told: list[Event]) -> None:
    """Take log records."""
    names = ("pk", "run_pk", "wall", "level", "logger", "message", "task_run", "flow_run")
    insert_rows(batch.connection, logs, names, [_log(batch, event) for event in told])


def _log(batch: Batch, event: Event) -> tuple[Any, ...]:
    data = event.data
    dropped = whole(data.get("dropped"))
    if dropped is not None and dropped > 0:
        batch.dropped += min(dropped, 2**31)
    return (
        batch.new_key(),
        batch.run_pk,
        event.wall,
        _level(data.get("level")),
        short(data.get("logger")),
        clean(data.get("message")) or "",
        clean(data.get("task_run"), LONGEST_ID),
        clean(data.get("flow_run"), LONGEST_ID),
    )


def _level(level: object) -> int:
    number = LEVELS.get(level.upper(), 20) if isinstance(level, str) else whole(level)
    return 20 if number is None else max(0, min(number, 1000))


def take_events(batch: Batch, told: list[Event]) -> None:
    """Take users' own events."""
    rows = []
    for event in told:
        try:
            rows.append(_event(batch, event))
        except NONSENSE:
            batch.refused += 1
    names = (
        *("pk", "run_pk", "id", "name", "occurred", "resource", "flow_run", "task_run"),
        "body",
    )
    insert_rows(batch.connection, events, names, rows)


def _event(batch: Batch, event: Event) -> tuple[Any, ...]:
    data = event.data
    resource = data.get("resource")
    id_ = resource.get(_RESOURCE_ID) if isinstance(resource, dict) else None
    return (
        batch.new_key(),
        batch.run_pk,
        checked_id(data.get("id", event.id)),
        short(data["name"]),
        _when(data.get("occurred"), event.wall),
        clean(id_, 1000),
        clean(data.get("flow_run"), LONGEST_ID),
        clean(data.get("task_run"), LONGEST_ID),
        dumps({name: data[name] for name in _BODY if data.get(name) is not None}),
    )


def _when(occurred: object, wall: float) -> float:
    if not isinstance(occurred, str):
        return seconds(occurred) or wall
    try:
        when = datetime.fromisoformat(occurred)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return wall


class _Artifact:
    """An artifact as the events of a run tell of it; the rules are those of `artifacts.store`.

    Of one id, the event with the latest `updated` counts, and who made it first is its origin;
    events that say the same time are taken in the order of their writing.
    """

    def __init__(self) -> None:
        self.pk = 0
        self.origin: list[Any] | None = None
        self.newest: list[Any] | None = None

    def take(self, event: Event) -> None:
        data = event.data
        updated = seconds(data["updated"])
        if updated is None or seconds(data["created"]) is None:
            raise ValueError(updated)
        origin = [bool(data.get("update")), updated, *event.order]
        if self.origin is None or origin < self.origin[:5]:
            self.origin = [*origin, {name: data.get(name) for name in _ORIGIN}]
        newest = [updated, *event.order]
        if self.newest is None or _is_newer(newest, self.newest):
            self.newest = [*newest, {name: data.get(name) for name in _NEWEST}]

    def row(self) -> tuple[Any, ...]:
        assert self.origin is not None  # noqa: S101 - asked by the caller
        assert self.newest is not None  # noqa: S101 - asked by the caller
        first, last = self.origin[5], self.newest[4]
        data = last.pop("data", None)
        return (
            self.pk,
            short(last["type"]) or None,
            short(last["key"]) or None,
            clean(last["description"]),
            seconds(first["created"]),
            seconds(last["updated"]),
            clean(first["flow_run"], LONGEST_ID),
            clean(first["task_run"], LONGEST_ID),
            dumps(first["tags"] or []),
            None if data is None else dumps(data),
            whole(last["size"]),
            dumps(self.origin),
            dumps(self.newest),
        )


def _is_newer(one: list[Any], other: list[Any]) -> bool:
    """Tell which event has the later `updated`; of the same time the one written first counts."""
    return bool(one[0] > other[0] or (one[0] == other[0] and one[1:4] < other[1:4]))


def take_artifacts(batch: Batch, told: list[Event]) -> None:
    """Take events about artifacts."""
    by_id: dict[str, list[Event]] = {}
    for event in told:
        try:
            by_id.setdefault(checked_id(event.data["id"]), []).append(event)
        except NONSENSE:
            batch.refused += 1
    if not by_id:
        return
    known = {id_: _Artifact() for id_ in by_id}
    query = "SELECT pk, id, origin, newest, data FROM artifacts WHERE run_pk = %s AND id {among}"
    for pk, id_, origin, newest, data in found(
        batch.connection, query, (batch.run_pk,), list(by_id)
    ):
        known[id_].pk, known[id_].origin = pk, loads(origin)
        known[id_].newest = loads(newest)
        known[id_].newest[4]["data"] = loads(data)  # type: ignore[index] # just read
    for id_, each in by_id.items():
        for event in each:
            try:
                known[id_].take(event)
            except NONSENSE:
                batch.refused += 1
    _write_artifacts(batch, {id_: found_ for id_, found_ in known.items() if found_.newest})


def _write_artifacts(batch: Batch, known: dict[str, _Artifact]) -> None:
    new = {id_: artifact for id_, artifact in known.items() if not artifact.pk}
    old = [artifact for artifact in known.values() if artifact.pk]
    for artifact in new.values():
        artifact.pk = batch.new_key()
    names = (*_ARTIFACT, "run_pk", "id")
    rows = [(*artifact.row(), batch.run_pk, id_) for id_, artifact in new.items()]
    insert_rows(batch.connection, artifacts, names, rows)
    update_rows(batch.connection, artifacts, _ARTIFACT, [artifact.row() for artifact in old])
