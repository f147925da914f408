"""Users' own events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from hpc_flows.server.db.models import events, runs
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.db.texts import loads
from hpc_flows.server.queries.paging import checked_range, page, total_of

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are meant.

    Attributes:
        run: id of the run in which they were emitted.
        name: the whole name, or its beginning with a star behind it (`model.*`).
        resource: id of the resource that they are about.
        since, until: when they occurred, in seconds since 1970; `until` is not included.
    """

    run: str | None = None
    name: str | None = None
    resource: str | None = None
    since: float | None = None
    until: float | None = None


def list_events(
    connection: Connection, sight: Sight, chosen: EventFilter, limit: int = 50, offset: int = 0
) -> dict[str, Any]:
    """Return a part of the list of users' events, the newest first.

    Raises:
        ValueError: the limit or the offset cannot be.
    """
    checked_range(limit, offset)
    meant = select(events, runs.c.id.label("run")).join(runs, runs.c.pk == events.c.run_pk)
    meant = meant.where(visible(sight), *_conditions(chosen))
    order = (events.c.occurred.desc(), events.c.pk.desc())
    rows = connection.execute(meant.order_by(*order).limit(limit + 1).offset(offset))
    keys = meant.with_only_columns(events.c.pk)
    return page([_event(row) for row in rows], total_of(connection, keys), limit, offset)


def _conditions(chosen: EventFilter) -> list[ColumnElement[bool]]:
    table = events.c
    meant: list[ColumnElement[bool]] = []
    if chosen.run is not None:
        meant.append(runs.c.id == chosen.run)
    if chosen.name is not None and chosen.name.endswith("*"):
        meant.append(table.name.startswith(chosen.name[:-1], autoescape=True))
    elif chosen.name is not None:
        meant.append(table.name == chosen.name)
    if chosen.resource is not None:
        meant.append(or_(table.resource == chosen.resource))
    if chosen.since is not None:
        meant.append(table.occurred >= chosen.since)
    if chosen.until is not None:
        meant.append(table.occurred < chosen.until)
    return meant


def _event(row: Any) -> dict[str, Any]:
    body = loads(row.body)
    return {
        "id": row.id,
        "run": row.run,
        "t": row.occurred,
        "name": row.name,
        "resource": body.get("resource"),
        "related": body.get("related") or [],
        "payload": body.get("payload"),
        "follows": body.get("follows"),
        "tags": body.get("tags") or [],
        "flow_run": row.flow_run,
        "task_run": row.task_run,
    }
