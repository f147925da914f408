"""What is counted as events come, so that no query has to count: states, spans, edges."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hpc_flows.server.db.bulk import ADD, GREATEST, LEAST, found, upsert_rows
from hpc_flows.server.db.kept import opened
from hpc_flows.server.db.models import edges, open_edges, task_counts, task_spans
from hpc_flows.server.db.texts import LONGEST_ID, clean, short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.server.ingest.batch import Batch
    from hpc_flows.server.ingest.task_runs import TaskSubject

_ENDS = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})

#: A flow run's id and a task's name.
Group = tuple[str, str]


def count_task_runs(batch: Batch, subjects: list[TaskSubject]) -> None:
    """Count the task runs of a batch anew."""
    changed: Counter[tuple[str, str, str, str]] = Counter()
    spans: dict[Group, tuple[float | None, float | None]] = {}
    for subject in subjects:
        key = subject.counts_as
        if subject.counted != key:
            changed[key] += 1
            if subject.counted is not None:
                changed[subject.counted] -= 1
        spans[key[:2]] = _wider(spans.get(key[:2], (None, None)), _span(subject))
    names = ("run_pk", "flow_run", "task", "state_type", "state_name", "n")
    rows = [(batch.run_pk, *key, n) for key, n in sorted(changed.items()) if n]
    upsert_rows(batch.connection, task_counts, names, rows, taking=(("n", ADD),))
    upsert_rows(
        batch.connection,
        task_spans,
        ("run_pk", "flow_run", "task", "first_started", "last_ended"),
        [(batch.run_pk, *group, *span) for group, span in sorted(spans.items()) if any(span)],
        taking=(("first_started", LEAST), ("last_ended", GREATEST)),
    )


def _span(subject: TaskSubject) -> tuple[float | None, float | None]:
    """Return when any attempt began first and ended last, by the clocks that say so."""
    started = min((c[0] for c in subject.changes if c[3]["type"] == "RUNNING"), default=None)
    ended = max((c[0] for c in subject.changes if c[3]["type"] in _ENDS), default=None)
    return started, ended


def _wider(
    one: tuple[float | None, float | None], other: tuple[float | None, float | None]
) -> tuple[float | None, float | None]:
    starts = [at for at in (one[0], other[0]) if at is not None]
    ends = [at for at in (one[1], other[1]) if at is not None]
    return min(starts, default=None), max(ends, default=None)


def count_edges(batch: Batch, subjects: list[TaskSubject]) -> None:
    """Count which tasks take results of which, for the task runs that began with a batch."""
    begun = [subject for subject in subjects if subject.has_begun]
    if not begun:
        return
    if any(subject.old_made is not None for subject in begun):
        _count_all(batch)
        return
    known = {s.view.id: _group(s) for s in subjects if s.made is not None}
    wanted = {up for s in begun for up in _upstream(s.view.upstream)} - known.keys()
    known |= _groups(batch, wanted)
    counted: Counter[tuple[str, str, str, str]] = Counter()
    waiting: Counter[tuple[str, str, str]] = Counter()
    for subject in begun:
        _count(subject.view.upstream, _group(subject), known, counted, waiting)
    _settle(batch, {s.view.id: _group(s) for s in begun}, counted)
    _write(batch, counted, waiting)


def _count(
    upstream: Iterable[Any],
    group: Group,
    known: dict[str, Group],
    counted: Counter[tuple[str, str, str, str]],
    waiting: Counter[tuple[str, str, str]],
) -> None:
    for id_ in _upstream(upstream):
        source = known.get(id_)
        if source is None:
            waiting[(id_, *group)] += 1
        else:
            counted[(*source, *group)] += 1


def _upstream(ids: Iterable[Any]) -> set[str]:
    return {clean(id_, LONGEST_ID) or "" for id_ in ids if isinstance(id_, str)}


def _group(subject: TaskSubject) -> Group:
    return subject.flow_run, short(subject.view.task)


def _groups(batch: Batch, ids: set[str]) -> dict[str, Group]:
    if not ids:
        return {}
    query = (
        "SELECT t.id, t.flow_run, t.task FROM task_runs t JOIN task_run_facts f ON f.pk = t.pk "
        "WHERE f.made IS NOT NULL AND t.run_pk = %s AND t.id {among}"
    )
    rows = found(batch.connection, query, (batch.run_pk,), sorted(ids))
    return {id_: (flow_run or "", task) for id_, flow_run, task in rows}


def _settle(
    batch: Batch, begun: dict[str, Group], counted: Counter[tuple[str, str, str, str]]
) -> None:
    """Let edges begin that waited for one of the task runs."""
    query = (
        "SELECT upstream, target_flow, target, n FROM open_edges "
        "WHERE run_pk = %s AND upstream {among}"
    )
    rows = found(batch.connection, query, (batch.run_pk,), list(begun))
    for upstream, target_flow, target, n in rows:
        counted[(*begun[upstream], target_flow, target)] += n
    if rows:
        query = "DELETE FROM open_edges WHERE run_pk = %s AND upstream {among} RETURNING n"
        found(batch.connection, query, (batch.run_pk,), sorted({row[0] for row in rows}))


def _write(
    batch: Batch,
    counted: Counter[tuple[str, str, str, str]],
    waiting: Counter[tuple[str, str, str]],
) -> None:
    names = ("run_pk", "source_flow", "source", "target_flow", "target", "n")
    rows = [(batch.run_pk, *key, n) for key, n in sorted(counted.items())]
    upsert_rows(batch.connection, edges, names, rows, taking=(("n", ADD),))
    open_names = ("run_pk", "upstream", "target_flow", "target", "n")
    open_rows = [(batch.run_pk, *key, n) for key, n in sorted(waiting.items())]
    upsert_rows(batch.connection, open_edges, open_names, open_rows, taking=(("n", ADD),))


def _count_all(batch: Batch) -> None:
    """Count all edges of the run again, because what one of its task runs takes has changed."""
    connection = batch.connection
    connection.execute(edges.delete().where(edges.c.run_pk == batch.run_pk))
    connection.execute(open_edges.delete().where(open_edges.c.run_pk == batch.run_pk))
    query = (
        "SELECT t.id, t.flow_run, t.task, f.made FROM task_runs t JOIN task_run_facts f "
        "ON f.pk = t.pk WHERE f.made IS NOT NULL AND t.run_pk {among}"
    )
    rows = found(connection, query, (), [batch.run_pk])
    known = {id_: (flow_run or "", task) for id_, flow_run, task, _ in rows}
    counted: Counter[tuple[str, str, str, str]] = Counter()
    waiting: Counter[tuple[str, str, str]] = Counter()
    for id_, _, _, made in rows:
        upstream = opened(made)[1].get("upstream") or ()
        _count(upstream, known[id_], known, counted, waiting)
    _write(batch, counted, waiting)
