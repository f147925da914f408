"""Taking what relays send: each event once, with all its effects, in one transaction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.reader import decode
from hpc_flows.server.db.bulk import REPLACE, found, upsert_rows
from hpc_flows.server.db.models import runs, writers
from hpc_flows.server.db.texts import checked_id
from hpc_flows.server.ingest.batch import NONSENSE, Batch
from hpc_flows.server.ingest.counting import count_edges, count_task_runs
from hpc_flows.server.ingest.flow_runs import take_flow_runs
from hpc_flows.server.ingest.jobs import take_jobs
from hpc_flows.server.ingest.numbers import TakenNumbers
from hpc_flows.server.ingest.records import take_artifacts, take_events, take_logs
from hpc_flows.server.ingest.subjects import checked_state
from hpc_flows.server.ingest.task_runs import take_task_runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.journal.event import Event


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch.

    Attributes:
        run: id of the run.
        version: of the run, after it.
        taken: how many events were new.
        repeated: how many had been taken before.
        refused: how many lines are no event of the run, or say nonsense.
        counts: by writer of the batch, how many different events the server holds now.
    """

    run: str
    version: int
    taken: int
    repeated: int
    refused: int
    counts: dict[str, int]


@dataclass(slots=True)
class Read:
    """Lines that were read: the events of the run, and how many lines are none."""

    events: list[Event] = field(default_factory=list)
    refused: int = 0


@dataclass(slots=True)
class _Sorted:
    """The events of a batch by what they tell of."""

    flow_runs: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    task_runs: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    jobs: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    cancels: list[Event] = field(default_factory=list)
    logs: list[Event] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    artifacts: list[Event] = field(default_factory=list)


def read_lines(run: str, lines: bytes) -> Read:
    """Return the events of a run that some lines of its journals say."""
    read = Read()
    for line in lines.split(b"\n"):
        if not line:
            continue
        try:
            event = decode(line)
            if event.run == run and checked_id(event.writer):
                read.events.append(event)
                continue
        except ValueError:  # damaged, of a newer version, or of a writer that cannot be
            pass
        read.refused += 1
    return read


def take_events_of(batch: Batch, read: Read) -> tuple[int, int, dict[str, int]]:
    """Take the events of a batch that were not taken before, with all their effects.

    Returns:
        How many were new, how many repeated, and the count of each writer.
    """
    fresh, counts = _new_ones(batch, read.events)
    told = _sort(batch, fresh)
    take_flow_runs(batch, told.flow_runs)
    places = take_jobs(batch, told.jobs, told.cancels)
    subjects = take_task_runs(batch, told.task_runs, places)
    count_task_runs(batch, subjects)
    count_edges(batch, subjects)
    take_logs(batch, told.logs)
    take_events(batch, told.events)
    take_artifacts(batch, told.artifacts)
    return len(fresh), len(read.events) - len(fresh), counts


def _new_ones(batch: Batch, events: list[Event]) -> tuple[list[Event], dict[str, int]]:
    names = list({event.writer for event in events})
    known = {name: TakenNumbers() for name in names}
    query = "SELECT writer, ranges, held FROM writers WHERE run_pk = %s AND writer {among}"
    for name, ranges, held in found(batch.connection, query, (batch.run_pk,), names):
        known[name] = TakenNumbers(ranges, held)
    before = {name: numbers.held for name, numbers in known.items()}
    fresh = []
    for event in events:
        try:
            if known[event.writer].take(event.seq):
                fresh.append(event)
        except ValueError:  # more gaps than any journal has
            batch.refused += 1
    changed = [name for name in names if known[name].held != before[name]]
    rows = [(batch.run_pk, name, known[name].ranges(), known[name].held) for name in changed]
    columns = ("run_pk", "writer", "ranges", "held")
    taking = (("ranges", REPLACE), ("held", REPLACE))
    upsert_rows(batch.connection, writers, columns, rows, taking=taking)
    return fresh, {name: numbers.held for name, numbers in known.items()}


def _sort(batch: Batch, fresh: Iterable[Event]) -> _Sorted:
    told = _Sorted()
    lists = {
        "log": told.logs,
        "event": told.events,
        "artifact": told.artifacts,
        "job-cancel": told.cancels,
    }
    for event in fresh:
        known = lists.get(event.kind)
        try:
            if known is not None:
                known.append(event)
            else:
                _file(told, event)
        except NONSENSE:
            batch.refused += 1
    return told


def _file(told: _Sorted, event: Event) -> None:
    kind, data = event.kind, event.data
    if kind == "state":
        subject, id_ = checked_state(event)
        by_id = told.task_runs if subject == "task" else told.flow_runs
        by_id[checked_id(id_)].append(event)
    elif kind == "task-run":
        told.task_runs[checked_id(data["id"])].append(event)
    elif kind == "flow-run":
        told.flow_runs[checked_id(data["id"])].append(event)
    elif kind in ("job-intent", "job-submitted", "job-refused", "job-status"):
        told.jobs[checked_id(data["token"])].append(event)


def finish(batch: Batch, at: float) -> None:
    """Write down in the run's row that it has changed."""
    row: dict[Any, Any] = {
        runs.c.version: runs.c.version + 1,
        runs.c.changed: at,
        runs.c.counter: batch.counter,
        **{runs.c[name]: value for name, value in batch.root.items()},
    }
    if batch.dropped:
        row[runs.c.dropped] = runs.c.dropped + batch.dropped
    batch.connection.execute(runs.update().where(runs.c.pk == batch.run_pk).values(row))


def hear(batch: Batch, at: float) -> None:
    """Write down in the run's row that its relay has spoken."""
    batch.connection.execute(runs.update().where(runs.c.pk == batch.run_pk).values(heard=at))
