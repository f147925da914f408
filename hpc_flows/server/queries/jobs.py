"""Jobs: submissions and what the scheduler says of them; clusters and what relays saw of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, func, literal_column, select

from hpc_flows.jobs.reasons import outlook
from hpc_flows.server.db.models import (
    IS_OPEN,
    attachments,
    flow_runs,
    job_parts,
    job_statuses,
    jobs,
    run_clusters,
    runs,
    task_runs,
)
from hpc_flows.server.db.people import surveys
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.db.texts import loads
from hpc_flows.server.queries.describing import QUEUED, described
from hpc_flows.server.queries.paging import checked_range, page, total_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection, Select

#: Most task runs that the detail of a job has.
SHOWN = 500

#: Phases that a scheduler tells of a job that has left its queue and has not ended.
UNDER_WAY = ("starting", "running", "suspended", "ending")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are meant.

    Attributes:
        run: id of the whole run; `flow_run`: of the flow run whose task runs they carry.
        cluster: where they went.
        phase: what the scheduler says of at least one element, such as `queued`.
    """

    run: str | None = None
    flow_run: str | None = None
    cluster: str | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """So many task runs of a job that stand at one place, for one reason."""

    cluster: str
    phase: str
    reason: str
    count: int


def list_jobs(
    connection: Connection, sight: Sight, chosen: JobFilter, limit: int = 50, offset: int = 0
) -> dict[str, Any]:
    """Return a part of the list of jobs, the newest first.

    Raises:
        ValueError: the limit or the offset cannot be.
    """
    checked_range(limit, offset)
    meant = select(jobs.c.pk).join(runs, runs.c.pk == jobs.c.run_pk).where(visible(sight))
    for condition in _conditions(chosen):
        meant = meant.where(condition)
    query = meant.order_by(jobs.c.pk.desc()).limit(limit + 1).offset(offset)
    shown = _described(connection, list(connection.scalars(query)))
    return page(shown, total_of(connection, meant), limit, offset)


def job(connection: Connection, sight: Sight, run: str, token: str) -> dict[str, Any] | None:
    """Return a job with its script and the first of its task runs."""
    query = select(jobs.c.pk, jobs.c.run_pk).join(runs, runs.c.pk == jobs.c.run_pk)
    query = query.where(runs.c.id == run, jobs.c.token == token, visible(sight))
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    table = task_runs.c
    carried = select(table.pk).where(table.run_pk == row.run_pk, table.token == token)
    keys = connection.scalars(carried.order_by(table.job_index, table.pk).limit(SHOWN))
    return {
        **_described(connection, [row.pk])[0],
        "script": _script(connection, row, token),
        "task_runs": described(connection, list(keys)),
    }


def clusters(connection: Connection, sight: Sight) -> list[dict[str, Any]]:
    """Return the clusters that one's relays speak of, or one's jobs went to, by name."""
    told = _surveys(connection, sight)
    living = _living(connection, sight)
    schedulers = _schedulers(connection, sight)
    shown = []
    for name in sorted({*told, *schedulers}):
        heard, survey = told.get(name, (None, None))
        asked = survey.get("scheduler") if isinstance(survey, dict) else None
        mine = living.get(name, [])
        shown.append(
            {
                "name": name,
                "scheduler": asked or schedulers.get(name),
                "heard": heard,
                "survey": survey,
                "jobs": _sums((part.phase, part.count) for part in mine),
                "reasons": _reasons(
                    (part.reason, part.count) for part in mine if part.phase == QUEUED
                ),
            }
        )
    return shown


def _conditions(chosen: JobFilter) -> list[ColumnElement[bool]]:
    meant: list[ColumnElement[bool]] = []
    if chosen.run is not None:
        meant.append(runs.c.id == chosen.run)
    if chosen.flow_run is not None:
        inside = select(flow_runs.c.run_pk).where(flow_runs.c.id == chosen.flow_run)
        meant.append(jobs.c.run_pk.in_(inside))
        carries = (task_runs.c.run_pk == jobs.c.run_pk) & (task_runs.c.token == jobs.c.token)
        meant.append(exists().where(carries, task_runs.c.flow_run == chosen.flow_run))
    if chosen.cluster is not None:
        meant.append(jobs.c.cluster == chosen.cluster)
    if chosen.phase is not None:
        mine = job_statuses.c.job_pk == jobs.c.pk
        meant.append(exists().where(mine, job_statuses.c.phase == chosen.phase))
    return meant


def _described(connection: Connection, keys: Sequence[int]) -> list[dict[str, Any]]:
    if not keys:
        return []
    parts = (job_parts.c.array, job_parts.c.resources)
    query = (
        select(jobs, *parts, runs.c.id.label("run"))
        .join(runs, runs.c.pk == jobs.c.run_pk)
        .outerjoin(job_parts, job_parts.c.pk == jobs.c.pk)
        .where(jobs.c.pk.in_(list(keys)))
    )
    rows = {row.pk: row for row in connection.execute(query)}
    said = _open(connection, sorted({row.run_pk for row in rows.values()}))
    return [_job(rows[key], said.get(key, [])) for key in keys]


def _job(row: Any, said: list[Part]) -> dict[str, Any]:
    resources = loads(row.resources)
    names = ("run", "token", "cluster", "scheduler", "job", "intended", "submitted", "refusal")
    return {
        **{name: getattr(row, name) for name in names},
        "array": loads(row.array),
        "cancelled": row.cancelled,
        "resources": resources if isinstance(resources, dict) else None,
        "members": row.members,
        "phases": _phases(row, said),
        "reasons": _reasons((part.reason, part.count) for part in said if part.phase == QUEUED),
    }


def _phases(row: Any, said: list[Part]) -> dict[str, int]:
    """Return how many of the job's task runs stand where; what is not open has ended."""
    if row.job is None:
        return {}
    phases = _sums((part.phase, part.count) for part in said)
    ended = row.members - sum(phases.values())
    return {**phases, "ended": ended} if ended > 0 else phases


def _open(connection: Connection, meant: Sequence[int] | Select[Any]) -> dict[int, list[Part]]:
    """Return where the open task runs of the meant runs stand in their jobs, by the job's key.

    A scheduler's last word alone is not enough: nobody asks it about a job once its task run has
    told of its end, and it has one line for all elements of an array that wait.
    """
    table, status = task_runs.c, job_statuses.c
    phase = case(
        (status.phase.in_(UNDER_WAY), status.phase),
        (table.started.is_not(None), "running"),
        else_=QUEUED,
    )
    query = (
        select(jobs.c.pk, jobs.c.cluster, phase.label("phase"), status.reason, func.count())
        .select_from(task_runs)
        .join(jobs, and_(jobs.c.run_pk == table.run_pk, jobs.c.token == table.token))
        .outerjoin(job_statuses, and_(status.job_pk == jobs.c.pk, status.element == table.id))
        .where(table.run_pk.in_(meant), literal_column(f"task_runs.{IS_OPEN}"))
        .where(jobs.c.job.is_not(None))
        .group_by(jobs.c.pk, jobs.c.cluster, phase, status.reason)
    )
    found: dict[int, list[Part]] = {}
    for key, cluster, where, reason, n in connection.execute(query):
        found.setdefault(key, []).append(Part(cluster, where, reason or "", n))
    return {key: _with_shared_reason(parts) for key, parts in found.items()}


def _with_shared_reason(parts: list[Part]) -> list[Part]:
    """Give the reason of an array's one waiting line to all elements that wait."""
    named = {part.reason for part in parts if part.phase == QUEUED and part.reason}
    if len(named) != 1:
        return parts
    (reason,) = named
    return [replace(part, reason=reason) if part.phase == QUEUED else part for part in parts]


def _script(connection: Connection, row: Any, token: str) -> str | None:
    """Return the script that the relay has sent, or the path or text that the intent has."""
    table = attachments.c
    sent = select(table.content).where(
        table.run_pk == row.run_pk, table.kind == "script", table.key == token
    )
    text: str | None = connection.scalar(sent)
    if text is None:
        text = connection.scalar(select(job_parts.c.script).where(job_parts.c.pk == row.pk))
    return text


def _surveys(connection: Connection, sight: Sight) -> dict[str, tuple[float, Any]]:
    query = select(surveys.c.cluster, surveys.c.heard, surveys.c.survey)
    if sight.run is not None:
        return {}
    if not sight.is_admin:
        query = query.where(surveys.c.user_id == sight.user_id)
    rows = connection.execute(query.order_by(surveys.c.heard))
    return {cluster: (heard, loads(survey)) for cluster, heard, survey in rows}


def _living(connection: Connection, sight: Sight) -> dict[str, list[Part]]:
    """Return where the open task runs of living runs stand in their jobs, by cluster."""
    living: dict[str, list[Part]] = {}
    meant = select(runs.c.pk).where(runs.c.ended.is_(None), visible(sight))
    for parts in _open(connection, meant).values():
        living.setdefault(parts[0].cluster, []).extend(parts)
    return living


def _schedulers(connection: Connection, sight: Sight) -> dict[str, str]:
    """Return the schedulers of the clusters that runs went to that may be seen."""
    query = (
        select(run_clusters.c.cluster, func.max(run_clusters.c.scheduler))
        .join(runs, runs.c.pk == run_clusters.c.run_pk)
        .where(visible(sight))
        .group_by(run_clusters.c.cluster)
    )
    return {row.cluster: row[1] for row in connection.execute(query)}


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, n in pairs:
        sums[name] = sums.get(name, 0) + n
    return sums


def _reasons(pairs: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return why jobs wait, the most frequent reason first."""
    sums = sorted(_sums(pairs).items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {"reason": reason, "words": outlook(reason).words, "count": n}
        for reason, n in sums
        if reason
    ]
