"""Artifacts: what runs have left to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, select

from hpc_flows.server.db.models import artifacts, attachments, runs
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.db.texts import loads
from hpc_flows.server.problems import encode
from hpc_flows.server.queries.paging import checked_range, page, total_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

#: Characters of data that one list has in all; what does not fit is in the single artifact.
DATA_IN_LIST = 4 * 1024 * 1024

#: Bytes of data of one artifact in a list.
IN_LIST = 1024 * 1024


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
    rows = {row.pk: row for row in connection.execute(_query(IN_LIST).where(table.pk.in_(keys)))}
    room = DATA_IN_LIST
    shown = []
    for key in keys:
        item = _artifact(rows[key], room)
        room -= len(rows[key].data or rows[key].content or "")
        shown.append(item)
    return page(shown, total_of(connection, meant), limit, offset)


def artifact(connection: Connection, sight: Sight, id_: str) -> bytes | None:
    """Return an artifact with its data, as JSON."""
    query = _query(None).where(artifacts.c.id == id_, visible(sight))
    row = connection.execute(query.order_by(artifacts.c.pk).limit(1)).one_or_none()
    if row is None:
        return None
    if row.data is not None or row.content is None or len(row.content) <= IN_LIST:
        return encode(_artifact(row, None))
    # It was checked when it came in parts. Sixteen megabytes become ten times that as objects.
    facts = {name: value for name, value in _artifact(row, 0).items() if name != "data"}
    data: bytes = row.content.encode()
    return encode(facts)[:-1] + b',"data":' + data + b"}"


def _query(most: int | None) -> Select[Any]:
    """Return the query for artifacts; with the data of those only that have at most some bytes."""
    sent = and_(
        attachments.c.run_pk == artifacts.c.run_pk,
        attachments.c.kind == "artifact",
        attachments.c.key == artifacts.c.id,
    )
    table = attachments.c
    content = table.content if most is None else case((table.size <= most, table.content))
    columns = (runs.c.id.label("run"), content.label("content"), table.size.label("sent"))
    return (
        select(artifacts, *columns)
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
        "has_data": row.data is not None or row.sent is not None,
    }


def _parsed(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:  # a relay has sent it as plain text
        return text
