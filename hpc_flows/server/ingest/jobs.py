"""The rows of jobs, what the scheduler says of their elements, and which task runs they carry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.event import Event
from hpc_flows.journal.views import JobView
from hpc_flows.server.db.bulk import REPLACE, found, insert_rows, update_rows, upsert_rows
from hpc_flows.server.db.models import (
    job_cancels,
    job_parts,
    job_statuses,
    jobs,
    run_clusters,
)
from hpc_flows.server.db.texts import INDEXED, LONGEST_ID, checked_id, clean, dumps, loads, short
from hpc_flows.server.ingest.batch import NONSENSE

if TYPE_CHECKING:
    from hpc_flows.server.db.kept import Order
    from hpc_flows.server.ingest.batch import Batch
    from hpc_flows.server.ingest.task_runs import TaskSubject

_COLUMNS = (
    *("pk", "cluster", "scheduler", "job", "job_base", "intended", "submitted", "refusal"),
    *("cancelled", "members", "is_array", "taken"),
)
_QUERY = (
    "SELECT pk, token, cluster, scheduler, job, intended, submitted, refusal, cancelled, members, "
    "is_array, taken FROM jobs WHERE run_pk = %s AND "
)
_PARTS = ("pk", "array", "resources", "script", "task_runs")
_STATUS = (
    *("job_pk", "element", "wall", "writer", "seq", "job", "phase", "raw", "reason", "nodes"),
    "partition",
)
_NO_ORDER: Order = (0.0, "", 0)

#: The condition under which what a scheduler says is newer than what the row has.
_NEWER = {
    "sqlite": (
        '(excluded.wall, excluded.writer, excluded.seq) > ("{t}".wall, "{t}".writer, "{t}".seq)'
    ),
    # Python and SQLite compare texts by code points, PostgreSQL as its locale likes.
    "postgresql": (
        '(excluded.wall, excluded.writer COLLATE "C", excluded.seq) > '
        '("{t}".wall, "{t}".writer COLLATE "C", "{t}".seq)'
    ),
}


@dataclass(slots=True)
class Places:
    """Where jobs put task runs: by the task run's id, the jobs and the index within each."""

    found: dict[str, list[tuple[Job, int]]] = field(default_factory=dict)

    def put(self, batch: Batch, subjects: dict[str, TaskSubject]) -> None:
        """Put task runs into their jobs; of several the latest submission counts."""
        fresh = {job.view.token: job.view.order for all_ in self.found.values() for job, _ in all_}
        orders = _orders(batch, {s.token for s in subjects.values() if s.token} - fresh.keys())
        orders |= fresh
        for id_, places in self.found.items():
            subject = subjects[id_]
            for job, index in places:
                before = _NO_ORDER if subject.token is None else orders[subject.token]
                if subject.token is None or before <= job.view.order:
                    subject.token, subject.index = job.view.token, index


class Job:
    """A submission that a batch tells of.

    Attributes:
        view: what it looks like, without its script and what it carries unless `is_intended`.
        pk: key of its row, or 0 if it has none yet.
        taken: by kind of event, the order of the one that counts.
        members: how many task runs it carries.
        is_array: whether it is an array.
        is_intended: whether its announcement came with this batch.
    """

    __slots__ = ("is_array", "is_intended", "members", "pk", "taken", "view")

    def __init__(self, token: str) -> None:
        self.view = JobView(token)
        self.pk = 0
        self.taken: dict[str, list[Any]] = {}
        self.members = 0
        self.is_array = False
        self.is_intended = False

    def load(self, row: Any) -> None:
        """Take what the row has."""
        self.pk, self.members, self.is_array = row[0], row[9], bool(row[10])
        self.taken = loads(row[11])
        view = self.view
        view.cluster, view.scheduler, view.job = row[2], row[3], row[4]
        view.intended, view.submitted, view.refusal, view.cancelled = row[5:9]
        view.order = self._order("job-intent")

    def take(self, event: Event) -> None:
        """Take an event about the job, unless a later one of its kind was taken.

        Raises:
            AttributeError, KeyError, TypeError, ValueError, OverflowError: it says nonsense.
        """
        if event.kind == "job-status":
            self.view.report(event)
            return
        if self._order(event.kind) > event.order:
            return
        {
            "job-intent": self.view.intend,
            "job-submitted": self.view.submit,
            "job-refused": self.view.refuse,
            "job-cancel": self.view.cancel,
        }[event.kind](event)
        self.taken[event.kind] = list(event.order)
        if event.kind == "job-intent":
            self.is_intended = True
            self.members = len(self.view.task_runs)
            self.is_array = bool(self.view.array)

    def _order(self, kind: str) -> Order:
        wall, writer, seq = self.taken.get(kind, _NO_ORDER)
        return wall, writer, seq

    def row(self) -> tuple[Any, ...]:
        """Return the row as in `_COLUMNS`."""
        view = self.view
        return (
            self.pk,
            short(view.cluster),
            short(view.scheduler),
            clean(view.job, LONGEST_ID),
            _base(view.job),
            view.intended,
            view.submitted,
            clean(view.refusal),
            clean(view.cancelled),
            self.members,
            self.is_array,
            dumps(self.taken),
        )

    def parts(self) -> tuple[Any, ...]:
        """Return what the intent says, as in `_PARTS`."""
        view = self.view
        script = None if view.script is None else clean(view.script)
        runs = dumps(list(view.task_runs))
        return (self.pk, dumps(view.array), dumps(view.resources), script, runs)


def take_jobs(batch: Batch, told: dict[str, list[Event]], cancels: list[Event]) -> Places:
    """Take the events of jobs, given by their tokens, and the cancellations of any."""
    bases = _keep_cancels(batch, cancels)
    if not told and not bases:
        return Places()
    known = {token: Job(token) for token in told}
    _load(batch, known, list(told), bases)
    for token, events in told.items():
        for event in events:
            _take(batch, known[token], event)
    _cancel(batch, known, {e.data["token"] for es in told.values() for e in es if _tells_id(e)})
    for job in known.values():
        for base_event in bases.get(_base(job.view.job) or "", ()):
            job.take(base_event)
    _write(batch, list(known.values()))
    return _places(batch, known)


def _take(batch: Batch, job: Job, event: Event) -> None:
    try:
        job.take(event)
    except NONSENSE:
        batch.refused += 1


def _tells_id(event: Event) -> bool:
    return event.kind == "job-submitted"


def _load(
    batch: Batch, known: dict[str, Job], tokens: list[str], bases: dict[str, list[Event]]
) -> None:
    given = (batch.run_pk,)
    rows = list(found(batch.connection, _QUERY + "token {among}", given, tokens))
    if bases:
        rows += found(batch.connection, _QUERY + "job_base {among}", given, list(bases))
    for row in rows:
        job = known.setdefault(row[1], Job(row[1]))
        if not job.pk:
            job.load(row)


def _keep_cancels(batch: Batch, cancels: list[Event]) -> dict[str, list[Event]]:
    """Write down which jobs were cancelled; return the cancellations by the job's id."""
    bases: dict[str, list[Event]] = {}
    for event in cancels:
        try:
            ids = {_base(str(id_)) or "" for id_ in event.data["jobs"]}
        except NONSENSE:
            batch.refused += 1
            continue
        for base in ids:
            bases.setdefault(base, []).append(event)
    rows = []
    for base, events in sorted(bases.items()):
        event = max(events, key=lambda each: each.order)
        reason = clean(event.data.get("reason") or "cancelled")
        rows.append((batch.run_pk, base, *event.order, reason))
    names = ("run_pk", "job_base", "wall", "writer", "seq", "reason")
    taking = tuple((name, REPLACE) for name in names[2:])
    newer = _NEWER[batch.connection.dialect.name]
    upsert_rows(batch.connection, job_cancels, names, rows, taking=taking, when=newer)
    return bases


def _cancel(batch: Batch, known: dict[str, Job], tokens: set[str]) -> None:
    """Cancel jobs whose ids came now, and whose cancellation came before."""
    jobs_by_base: dict[str, list[Job]] = {}
    for token in tokens:
        base = _base(known[token].view.job)
        if base is not None:
            jobs_by_base.setdefault(base, []).append(known[token])
    if not jobs_by_base:
        return
    query = "SELECT job_base, wall, writer, seq, reason FROM job_cancels WHERE run_pk = %s AND "
    rows = found(batch.connection, query + "job_base {among}", (batch.run_pk,), list(jobs_by_base))
    for base, wall, writer, seq, reason in rows:
        data = {"reason": reason}
        for job in jobs_by_base[base]:
            job.take(Event(batch.run, writer, seq, wall, 0.0, "job-cancel", data))


def _write(batch: Batch, known: list[Job]) -> None:
    connection = batch.connection
    new = [job for job in known if not job.pk]
    old = [job for job in known if job.pk]
    for job in new:
        job.pk = batch.new_key()
    insert_rows(
        connection,
        jobs,
        (*_COLUMNS, "run_pk", "token"),
        [(*job.row(), batch.run_pk, job.view.token) for job in new],
    )
    update_rows(connection, jobs, _COLUMNS, [job.row() for job in old])
    intended = [job for job in known if job.is_intended]
    taking = tuple((name, REPLACE) for name in _PARTS[1:])
    upsert_rows(connection, job_parts, _PARTS, [job.parts() for job in intended], taking=taking)
    _write_statuses(batch, known)
    clusters = {
        short(job.view.cluster): (short(job.view.scheduler),)
        for job in intended
        if job.view.cluster
    }
    rows = [(batch.run_pk, name, *scheduler) for name, scheduler in sorted(clusters.items())]
    upsert_rows(connection, run_clusters, ("run_pk", "cluster", "scheduler"), rows)


def _write_statuses(batch: Batch, known: list[Job]) -> None:
    rows = [
        (
            job.pk,
            clean(element, LONGEST_ID) or "",
            *status[:3],
            clean(status.job, LONGEST_ID),
            *(clean(text, INDEXED) for text in status[4:]),
        )
        for job in known
        for element, status in job.view.statuses.items()
    ]
    newer = _NEWER[batch.connection.dialect.name]
    taking = tuple((name, REPLACE) for name in _STATUS[2:])
    upsert_rows(batch.connection, job_statuses, _STATUS, rows, taking=taking, when=newer)


def _places(batch: Batch, known: dict[str, Job]) -> Places:
    places = Places()
    for job in known.values():
        if not job.is_intended:
            continue
        for index, id_ in enumerate(job.view.task_runs):
            try:
                places.found.setdefault(checked_id(id_), []).append((job, index))
            except ValueError:
                batch.refused += 1
    return places


def _orders(batch: Batch, tokens: set[str]) -> dict[str, Order]:
    """Return when other jobs were announced."""
    if not tokens:
        return {}
    query = "SELECT token, taken FROM jobs WHERE run_pk = %s AND token {among}"
    rows = found(batch.connection, query, (batch.run_pk,), sorted(tokens))
    orders = {token: loads(taken).get("job-intent", _NO_ORDER) for token, taken in rows}
    return {token: (at[0], at[1], at[2]) for token, at in orders.items()}


def _base(job: str | None) -> str | None:
    """Return the id of the whole job, which those of its elements begin with."""
    return None if job is None else clean(job.partition("_")[0], LONGEST_ID)
