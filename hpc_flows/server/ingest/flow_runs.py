"""The rows of flow runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_flows.journal.views import FlowRunView
from hpc_flows.server.db.bulk import found, insert_rows, update_rows, upsert_rows
from hpc_flows.server.db.models import flow_run_tags, flow_runs
from hpc_flows.server.db.texts import clean, short
from hpc_flows.server.ingest.subjects import Subject

if TYPE_CHECKING:
    from hpc_flows.journal.event import Event
    from hpc_flows.server.ingest.batch import Batch

_FACTS = (
    *("name", "flow", "parameters", "parent_task_run", "parent_flow_run", "tags"),
    "entrypoint",
)
_COLUMNS = (
    *("pk", "name", "flow", "state_type", "state_name", "created", "started", "ended"),
    *("parent_task_run", "parent_flow_run", "made", "changes"),
)
_QUERY = "SELECT pk, id, made, changes FROM flow_runs WHERE run_pk = %s AND id {among}"

_MOST_TAGS = 100


def take_flow_runs(batch: Batch, told: dict[str, list[Event]]) -> None:
    """Take the events of flow runs, given by their ids."""
    if not told:
        return
    subjects = {id_: Subject(FlowRunView(id_), _FACTS) for id_ in told}
    for pk, id_, made, changes in found(batch.connection, _QUERY, (batch.run_pk,), list(subjects)):
        subjects[id_].load(pk, made, changes)
    for id_, events in told.items():
        batch.refused += sum(not subjects[id_].take(event) for event in events)
    _write(batch, [s for s in subjects.values() if s.made is not None or s.changes])
    root = subjects.get(batch.run)
    if root is not None:
        batch.root = _for_run(root.view)


def _for_run(root: FlowRunView) -> dict[str, Any]:
    told: dict[str, Any] = {"ended": root.ended}
    if root.name:
        told["name"] = short(root.name)
    if root.flow:
        told["flow"] = short(root.flow)
    return told


def _write(batch: Batch, subjects: list[Subject[FlowRunView]]) -> None:
    new = [subject for subject in subjects if not subject.pk]
    old = [subject for subject in subjects if subject.pk]
    for subject in new:
        subject.pk = batch.new_key()
    names = (*_COLUMNS, "run_pk", "id", "is_root")
    insert_rows(
        batch.connection,
        flow_runs,
        names,
        [(*_row(s), batch.run_pk, s.view.id, s.view.id == batch.run) for s in new],
    )
    update_rows(batch.connection, flow_runs, _COLUMNS, [_row(subject) for subject in old])
    tags = {
        (short(tag), subject.pk)
        for subject in subjects
        if subject.has_begun
        for tag in subject.view.tags[:_MOST_TAGS]
    }
    upsert_rows(batch.connection, flow_run_tags, ("tag", "flow_run_pk"), sorted(tags))


def _row(subject: Subject[FlowRunView]) -> tuple[Any, ...]:
    view = subject.view
    state = view.state
    return (
        subject.pk,
        short(view.name),
        short(view.flow),
        None if state is None else state.type,
        None if state is None else short(state.name),
        view.created,
        view.started,
        view.ended,
        clean(view.parent_task_run, 200),
        clean(view.parent_flow_run, 200),
        subject.made,
        subject.changes_as_text(),
    )
