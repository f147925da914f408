"""What a person sees first: what needs attention, what is active, what changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from hpc_flows.jobs.reasons import Outlook, outlook
from hpc_flows.server.db.models import (
    flow_run_tags,
    flow_runs,
    job_statuses,
    jobs,
    runs,
    task_run_facts,
    task_runs,
)
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.db.texts import loads, seconds
from hpc_flows.server.queries.describing import QUEUED
from hpc_flows.server.queries.flow_runs import described
from hpc_flows.server.queries.paging import BAD, FINAL, step_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select

#: Seconds without a word after which a run that has not ended counts as silent.
SILENT = 60.0

#: Part of its walltime after which a running task run is told of.
NEARLY = 0.9

#: Most flow runs that are shown as active, most points of attention of a kind, and most running
#: task runs that are looked at for their walltime.
ACTIVE, OF_A_KIND, LOOKED_AT = 50, 20, 1000

#: Bars of the strip of what ended when.
BARS = 48

#: Longest time that the dashboard looks back, in hours.
LONGEST = 24 * 366

#: Seconds by which `changed_since` asks again for what it has told: a transaction that began
#: earlier may have ended later.
_OVERLAP = 3.0


def dashboard(connection: Connection, sight: Sight, hours: float = 24) -> dict[str, Any]:
    """Return what needs attention, what is active, and what ended in the last hours.

    Raises:
        ValueError: the hours cannot be.
    """
    if not 0 < hours <= LONGEST:
        raise ValueError(f"hours is more than 0 and at most {LONGEST}, and {hours} is not.")
    end = time.time()
    begin = end - hours * 3600
    attention = [
        *_failed(connection, sight, begin),
        *_silent(connection, sight, end),
        *_stuck(connection, sight),
        *_near_walltime(connection, sight, end),
    ]
    return {
        "attention": attention,
        "active": described(connection, _active(connection, sight)),
        "states": _states(connection, sight, begin),
        "strip": _strip(connection, sight, begin, end),
    }


def tags(connection: Connection, sight: Sight) -> list[dict[str, Any]]:
    """Return the tags of the flow runs that may be seen, with how many have each."""
    query = (
        select(flow_run_tags.c.tag, func.count())
        .join(flow_runs, flow_runs.c.pk == flow_run_tags.c.flow_run_pk)
        .join(runs, runs.c.pk == flow_runs.c.run_pk)
        .where(visible(sight))
        .group_by(flow_run_tags.c.tag)
        .order_by(flow_run_tags.c.tag)
    )
    return [{"tag": tag, "flow_runs": n} for tag, n in connection.execute(query)]


def versions(
    connection: Connection, sight: Sight, run_ids: Sequence[str] | None = None
) -> dict[str, int]:
    """Return the versions of runs that may be seen: of some, or of all that have not ended."""
    query = select(runs.c.id, runs.c.version).where(visible(sight))
    if run_ids is None:
        query = query.where(runs.c.ended.is_(None))
    else:
        query = query.where(runs.c.id.in_(list(run_ids)))
    return {id_: version for id_, version in connection.execute(query)}  # noqa: C416 - typed rows


def changed_since(connection: Connection, marker: float) -> tuple[float, list[tuple[str, int]]]:
    """Return the runs that have changed since a marker, with their versions, and a new marker.

    A run may be told of twice with the same version; none is left out.
    """
    at = time.time()
    query = select(runs.c.id, runs.c.version).where(runs.c.changed >= marker - _OVERLAP)
    return at, [(id_, version) for id_, version in connection.execute(query)]


def _mine(sight: Sight, *columns: Any) -> Select[Any]:
    """Return the query for columns of root flow runs that may be seen."""
    query = select(*columns).select_from(flow_runs).join(runs, runs.c.pk == flow_runs.c.run_pk)
    return query.where(visible(sight), flow_runs.c.is_root)


def _active(connection: Connection, sight: Sight) -> list[int]:
    table = flow_runs.c
    query = _mine(sight, table.pk).where(runs.c.ended.is_(None))
    return list(connection.scalars(query.order_by(table.created.desc()).limit(ACTIVE)))


def _states(connection: Connection, sight: Sight, begin: float) -> dict[str, int]:
    table = flow_runs.c
    query = _mine(sight, table.state_type, func.count()).where(table.created >= begin)
    rows = connection.execute(query.group_by(table.state_type))
    return {type_: n for type_, n in rows if type_}


def _strip(connection: Connection, sight: Sight, begin: float, end: float) -> list[dict[str, Any]]:
    step = (end - begin) / BARS
    table = flow_runs.c
    bar = step_of(connection, (table.ended - begin) / step, BARS - 1)
    query = _mine(sight, bar, table.state_type, func.count()).where(table.ended >= begin)
    bars = [{"t": begin + at * step, "completed": 0, "failed": 0} for at in range(BARS)]
    for at, type_, n in connection.execute(query.group_by(bar, table.state_type)):
        name = "completed" if type_ == "COMPLETED" else "failed" if type_ in BAD else None
        if name is not None:
            bars[at][name] += n
    return bars


def _failed(connection: Connection, sight: Sight, begin: float) -> list[dict[str, Any]]:
    table = flow_runs.c
    query = _mine(sight, table.pk).where(table.state_type.in_(BAD), table.ended >= begin)
    keys = list(connection.scalars(query.order_by(table.ended.desc()).limit(OF_A_KIND)))
    return [
        _point("failed", run["id"], run["name"], _first_line(run), run["ended"])
        for run in described(connection, keys)
    ]


def _first_line(run: dict[str, Any]) -> str:
    message = str(run["message"] or "").strip()
    return f"{run['state_name']}: {message.splitlines()[0]}" if message else str(run["state_name"])


def _silent(connection: Connection, sight: Sight, now: float) -> list[dict[str, Any]]:
    table = flow_runs.c
    last = func.coalesce(runs.c.heard, runs.c.changed)
    query = _mine(sight, table.id, table.name, last).where(
        runs.c.ended.is_(None), last < now - SILENT, table.state_type.not_in(FINAL)
    )
    return [
        _point("silent", id_, name, "Nothing was heard of its driver since then.", since)
        for id_, name, since in connection.execute(query.order_by(last.desc()).limit(OF_A_KIND))
    ]


def _stuck(connection: Connection, sight: Sight) -> list[dict[str, Any]]:
    """Return the runs with jobs that wait for what waiting will not bring."""
    table = job_statuses.c
    query = (
        _mine(sight, flow_runs.c.id, flow_runs.c.name, table.reason, func.count())
        .add_columns(func.min(table.wall))
        .join(jobs, jobs.c.run_pk == runs.c.pk)
        .join(job_statuses, table.job_pk == jobs.c.pk)
        .where(runs.c.ended.is_(None), table.phase == QUEUED, table.reason != "")
        .group_by(flow_runs.c.id, flow_runs.c.name, table.reason)
    )
    found = []
    for id_, name, reason, n, since in connection.execute(query):
        meaning = outlook(reason)
        if meaning.kind is not Outlook.WAITS:
            what = "A job waits" if n == 1 else f"{n} jobs wait"
            found.append(_point("stuck", id_, name, f"{what}: {meaning.words}.", since))
    return found[:OF_A_KIND]


def _near_walltime(connection: Connection, sight: Sight, now: float) -> list[dict[str, Any]]:
    table = task_runs.c
    query = (
        _mine(sight, flow_runs.c.id, flow_runs.c.name, table.name, table.started)
        .add_columns(task_run_facts.c.made)
        .join(task_runs, table.run_pk == runs.c.pk)
        .join(task_run_facts, task_run_facts.c.pk == table.pk)
        .where(runs.c.ended.is_(None), table.is_open, table.state_type == "RUNNING")
        .where(table.token.is_not(None))
        .limit(LOOKED_AT)
    )
    found = []
    for id_, name, task_run, started, made in connection.execute(query):
        resources = loads(made)[3].get("resources") if made else None
        asked = seconds(resources.get("walltime")) if isinstance(resources, dict) else None
        if asked and started is not None and now - started > NEARLY * asked:
            text = f"{task_run} has used {(now - started) / asked:.0%} of its walltime."
            found.append(_point("walltime", id_, name, text, started + NEARLY * asked))
    return found[:OF_A_KIND]


def _point(kind: str, flow_run: str, name: str, text: str, since: float) -> dict[str, Any]:
    return {"kind": kind, "flow_run": flow_run, "name": name, "text": text, "since": since}
