"""Artifacts: what runs have left to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select

from hpc_flows.server.db.models import artifacts, attachments, runs
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.db.texts import loads
from hpc_flows.server.queries.paging import checked_range, page, total_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

#: Characters of data that one list has in all; what does not fit is in the single artifact.
DATA_IN_LIST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArtifactFilter:
    """Which artifacts are meant: those of a run, flow run or task run, of a key, of a type."""

    run: str | None = None
    flow_run: str | None = None
    task_run: str | None = None
    key: str | None = None
    type: str | None = None


def list_artifacts(
    connection: Connection, sight: Sight, chosen: ArtifactFilter, limit: int = 50, offset: int = 0
) -> dict[str, Any]:
    """Return a part of the list of artifacts, the newest first.

    Raises:
        ValueError: the limit or the offset cannot be.
    """
    checked_range(limit, offset)
    table = artifacts.c
    meant = select(table.pk).join(runs, runs.c.pk == table.run_pk).where(visible(sight))
    if chosen.run is not None:
        meant = meant.where(runs.c.id == chosen.run)
    for name in ("flow_run", "task_run", "key", "type"):
        wanted = getattr(chosen, name)
        if wanted is not None:
            meant = meant.where(table[name] == wanted)
    query = meant.order_by(table.updated.desc(), table.pk.desc()).limit(limit + 1).offset(offset)
    keys = list(connection.scalars(query))
    rows = {row.pk: row for row in connection.execute(_query().where(table.pk.in_(keys)))}
    room = DATA_IN_LIST
    shown = []
    for key in keys:
        item = _artifact(rows[key], room)
        room -= len(rows[key].data or rows[key].content or "")
        shown.append(item)
    return page(shown, total_of(connection, meant), limit, offset)


def artifact(connection: Connection, sight: Sight, id_: str) -> dict[str, Any] | None:
    """Return an artifact with its data."""
    query = _query().where(artifacts.c.id == id_, visible(sight)).order_by(artifacts.c.pk).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _artifact(row, None)


def _query() -> Select[Any]:
    sent = and_(
        attachments.c.run_pk == artifacts.c.run_pk,
        attachments.c.kind == "artifact",
        attachments.c.key == artifacts.c.id,
    )
    return (
        select(artifacts, runs.c.id.label("run"), attachments.c.content)
        .join(runs, runs.c.pk == artifacts.c.run_pk)
        .outerjoin(attachments, sent)
    )


def _artifact(row: Any, room: int | None) -> dict[str, Any]:
    text = row.data if row.data is not None else row.content
    fits = text is not None and (room is None or len(text) <= room)
    names = ("id", "run", "flow_run", "task_run", "key", "type", "description", "created")
    return {
        **{name: getattr(row, name) for name in names},
        "updated": row.updated,
        "tags": loads(row.tags),
        "size": row.size,
        "data": _parsed(text) if fits else None,
        "has_data": text is not None,
    }


def _parsed(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:  # a relay has sent it as plain text
        return text
