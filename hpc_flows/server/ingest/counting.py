"""What is counted as events come, so that no query has to count: states, spans, edges."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hpc_flows.server.db.bulk import ADD, GREATEST, LEAST, found, insert_rows, upsert_rows
from hpc_flows.server.db.kept import opened
from hpc_flows.server.db.models import edges, links, task_counts, task_spans
from hpc_flows.server.db.texts import LONGEST_ID, clean, short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.server.ingest.batch import Batch
    from hpc_flows.server.ingest.task_runs import TaskSubject

_ENDS = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})

#: A flow run's id and a task's name.
Group = tuple[str, str]

#: When the first was made, the first one started, and the last one ended.
Span = tuple[float | None, float | None, float | None]
_NO_SPAN: Span = (None, None, None)

#: Flow run and task of the source, and of the target.
Edge = tuple[str, str, str, str]


def count_task_runs(batch: Batch, subjects: list[TaskSubject]) -> None:
    """Count the task runs of a batch anew."""
    changed: Counter[tuple[str, str, str, str]] = Counter()
    spans: dict[Group, Span] = {}
    for subject in subjects:
        key = subject.counts_as
        if subject.counted != key:
            changed[key] += 1
            if subject.counted is not None:
                changed[subject.counted] -= 1
        spans[key[:2]] = _wider(spans.get(key[:2], _NO_SPAN), _span(subject))
    names = ("run_pk", "flow_run", "task", "state_type", "state_name", "n")
    rows = [(batch.run_pk, *key, n) for key, n in sorted(changed.items()) if n]
    upsert_rows(batch.connection, task_counts, names, rows, taking=(("n", ADD),))
    upsert_rows(
        batch.connection,
        task_spans,
        ("run_pk", "flow_run", "task", "first_made", "first_started", "last_ended"),
        [(batch.run_pk, *group, *span) for group, span in sorted(spans.items())],
        taking=(("first_made", LEAST), ("first_started", LEAST), ("last_ended", GREATEST)),
    )


def _span(subject: TaskSubject) -> Span:
    """Return when it was made, when any attempt began first and ended last, by their clocks."""
    started = min((c[0] for c in subject.changes if c[3]["type"] == "RUNNING"), default=None)
    ended = max((c[0] for c in subject.changes if c[3]["type"] in _ENDS), default=None)
    return subject.view.created, started, ended


def _wider(one: Span, other: Span) -> Span:
    made, started = (_least(one[at], other[at]) for at in (0, 1))
    ends = [at for at in (one[2], other[2]) if at is not None]
    return made, started, max(ends, default=None)


def _least(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)


def count_edges(batch: Batch, subjects: list[TaskSubject]) -> None:
    """Count which tasks take results of which, for the task runs that began with a batch."""
    begun = [subject for subject in subjects if subject.has_begun]
    if not begun:
        return
    if any(subject.old_made is not None for subject in begun):
        _count_all(batch)
        return
    known = {s.view.id: _group(s) for s in subjects if s.made is not None}
    taken = {s.pk: _upstream(s.view.upstream) for s in begun}
    known |= _groups(batch, {id_ for ids in taken.values() for id_ in ids} - known.keys())
    counted: Counter[Edge] = Counter()
    for subject in begun:
        sources = (known[id_] for id_ in taken[subject.pk] if id_ in known)
        counted.update((*source, *_group(subject)) for source in sources)
    _settle(batch, {s.view.id: _group(s) for s in begun}, counted)
    _write(batch, counted, taken)


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


def _settle(batch: Batch, begun: dict[str, Group], counted: Counter[Edge]) -> None:
    """Count the edges of task runs that were heard of only after those that take their results."""
    query = (
        "SELECT l.upstream, t.flow_run, t.task, count(*) FROM links l "
        "JOIN task_runs t ON t.pk = l.pk WHERE l.run_pk = %s AND l.upstream {among} "
        "GROUP BY l.upstream, t.flow_run, t.task"
    )
    for id_, flow_run, task, n in found(batch.connection, query, (batch.run_pk,), list(begun)):
        counted[(*begun[id_], flow_run or "", task)] += n


def _write(batch: Batch, counted: Counter[Edge], taken: dict[int, set[str]]) -> None:
    names = ("run_pk", "source_flow", "source", "target_flow", "target", "n")
    rows = [(batch.run_pk, *key, n) for key, n in sorted(counted.items())]
    upsert_rows(batch.connection, edges, names, rows, taking=(("n", ADD),))
    pairs = [(batch.run_pk, id_, pk) for pk, ids in taken.items() for id_ in sorted(ids)]
    insert_rows(batch.connection, links, ("run_pk", "upstream", "pk"), pairs)


def _count_all(batch: Batch) -> None:
    """Count all edges of the run again, because what one of its task runs takes has changed."""
    connection = batch.connection
    connection.execute(edges.delete().where(edges.c.run_pk == batch.run_pk))
    connection.execute(links.delete().where(links.c.run_pk == batch.run_pk))
    query = (
        "SELECT t.pk, t.id, t.flow_run, t.task, f.made FROM task_runs t "
        "JOIN task_run_facts f ON f.pk = t.pk WHERE f.made IS NOT NULL AND t.run_pk {among}"
    )
    rows = found(connection, query, (), [batch.run_pk])
    known = {id_: (flow_run or "", task) for _, id_, flow_run, task, _ in rows}
    counted: Counter[Edge] = Counter()
    taken: dict[int, set[str]] = {}
    for pk, id_, _, _, made in rows:
        taken[pk] = _upstream(opened(made)[1].get("upstream") or ())
        sources = (known[up] for up in taken[pk] if up in known)
        counted.update((*source, *known[id_]) for source in sources)
    _write(batch, counted, taken)
