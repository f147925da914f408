"""The rows of task runs, and where their jobs put them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_flows.journal.views import TaskRunView
from hpc_flows.server.db.bulk import found, insert_rows, update_rows
from hpc_flows.server.db.models import task_run_facts, task_runs
from hpc_flows.server.db.texts import INDEXED, LONGEST_ID, clean, short, whole
from hpc_flows.server.ingest.subjects import Subject

if TYPE_CHECKING:
    from hpc_flows.journal.event import Event
    from hpc_flows.server.ingest.batch import Batch
    from hpc_flows.server.ingest.jobs import Places

_FACTS = ("name", "task", "key", "flow_run", "upstream", "resources", "tags", "map_index")
_ENDS = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_BAD = frozenset({"FAILED", "CRASHED"})

#: What changes with each state, and what only the event changes that made the task run.
_MOVING = (
    *("pk", "state_type", "state_name", "is_open", "is_bad", "attempt", "created", "queued"),
    *("started", "ended", "token", "job_index", "job", "node"),
)
_FIXED = ("flow_run", "name", "task", "map_index")

_QUERY = (
    "SELECT t.pk, t.id, f.made, f.changes, t.flow_run, t.task, t.state_type, t.state_name, "
    "t.token, t.job_index FROM task_runs t JOIN task_run_facts f ON f.pk = t.pk "
    "WHERE t.run_pk = %s AND t.id {among}"
)

#: Flow run, task, type and name of the state: what task runs are counted by.
CountKey = tuple[str, str, str, str]


class TaskSubject(Subject[TaskRunView]):
    """A task run that a batch tells of.

    Attributes:
        counted: how the row counts before the batch; None if there is no row.
        token, index: its place in its newest job, or None.
        old_made: the event that had made it before the batch, pressed, or None.
    """

    __slots__ = ("counted", "index", "old_made", "token")

    def __init__(self, id_: str) -> None:
        super().__init__(TaskRunView(id_), _FACTS)
        self.counted: CountKey | None = None
        self.token: str | None = None
        self.index: int | None = None
        self.old_made: str | None = None

    @property
    def counts_as(self) -> CountKey:
        """How it counts now."""
        view, state = self.view, self.view.state
        if state is None:
            return (self.flow_run, short(view.task), "", "")
        return (self.flow_run, short(view.task), state.type, short(state.name))

    @property
    def flow_run(self) -> str:
        """Id of its flow run, or an empty text."""
        return clean(self.view.flow_run_id, LONGEST_ID) or ""

    def columns(self) -> tuple[Any, ...]:
        """Return what changes with each state, as in `_MOVING`."""
        view = self.view
        state = view.state
        type_ = None if state is None else state.type
        return (
            self.pk,
            type_,
            None if state is None else short(state.name),
            type_ not in _ENDS,
            type_ in _BAD,
            min(view.attempt, 2**31 - 1),
            view.created,
            view.queued,
            view.started,
            view.ended,
            self.token,
            self.index,
            clean(view.job, LONGEST_ID),
            clean(view.node, INDEXED),
        )

    def fixed(self) -> tuple[Any, ...]:
        """Return what only the event changes that made it, as in `_FIXED`."""
        view = self.view
        return (self.flow_run or None, short(view.name), short(view.task), whole(view.map_index))


def load_task_runs(batch: Batch, ids: list[str]) -> dict[str, TaskSubject]:
    """Return task runs as their rows have them; those without a row are empty."""
    subjects = {id_: TaskSubject(id_) for id_ in ids}
    for row in found(batch.connection, _QUERY, (batch.run_pk,), ids):
        subject = subjects[row[1]]
        subject.load(row[0], row[2], row[3])
        subject.counted = (row[4] or "", row[5], row[6] or "", row[7] or "")
        subject.old_made = subject.made
        subject.token, subject.index = row[8], row[9]
    return subjects


def take_task_runs(batch: Batch, told: dict[str, list[Event]], places: Places) -> list[TaskSubject]:
    """Take the events of task runs, given by their ids, and where jobs put them.

    Returns:
        The task runs that there are now, as they were written.
    """
    # In the order in which they were heard of, which their keys will have.
    ids = list(dict.fromkeys([*told, *places.found]))
    if not ids:
        return []
    subjects = load_task_runs(batch, ids)
    for id_, events in told.items():
        subject = subjects[id_]
        batch.refused += sum(not subject.take(event) for event in events)
    places.put(batch, subjects)
    known = [s for s in subjects.values() if s.pk or s.made or s.changes or s.token]
    _write(batch, known)
    return known


def _write(batch: Batch, subjects: list[TaskSubject]) -> None:
    connection = batch.connection
    new = [subject for subject in subjects if not subject.pk]
    begun = [subject for subject in subjects if subject.pk and subject.has_begun]
    moved = [subject for subject in subjects if subject.pk and not subject.has_begun]
    for subject in new:
        subject.pk = batch.new_key()
    insert_rows(
        connection,
        task_runs,
        (*_MOVING, *_FIXED, "run_pk", "id"),
        [(*s.columns(), *s.fixed(), batch.run_pk, s.view.id) for s in new],
    )
    facts = ("pk", "made", "changes")
    insert_rows(
        connection, task_run_facts, facts, [(s.pk, s.made, s.changes_as_text()) for s in new]
    )
    whole_rows = [(*s.columns(), *s.fixed()) for s in begun]
    update_rows(connection, task_runs, (*_MOVING, *_FIXED), whole_rows)
    update_rows(
        connection, task_run_facts, facts, [(s.pk, s.made, s.changes_as_text()) for s in begun]
    )
    update_rows(connection, task_runs, _MOVING, [s.columns() for s in moved])
    update_rows(
        connection,
        task_run_facts,
        ("pk", "changes"),
        [(s.pk, s.changes_as_text()) for s in moved],
    )
