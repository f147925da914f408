"""Events of users are kept in order with what their run did, within Prefect's limits."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, tags, task
from hpc_flows.events import Event, RelatedResource, Resource, emit_event
from hpc_flows.exceptions import EventError, EventTooLarge, JournalError
from hpc_flows.journal.event import Event as Line
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = {"prefect.resource.id": "mylab.sample.7", "prefect.resource.name": "seven"}


def _emitted(folder: Path) -> list[dict[str, Any]]:
    return [event.data for event in read_run(str(folder)) if event.kind == "event"]


def test_an_event_is_part_of_the_run_that_emits_it(home: Path) -> None:
    @task
    def measure() -> Event:
        return emit_event("sample.measured", SAMPLE, payload={"mass": 1.5})

    @flow
    def main() -> tuple[Event, Event]:
        with tags("lab"):
            first = measure()
        related = [{"prefect.resource.id": "mylab.rig.1", "prefect.resource.role": "rig"}]
        return first, emit_event("sample.stored", SAMPLE, related=related, follows=first)

    first, second = main()
    (folder,) = (home / "runs").iterdir()
    measured, stored = _emitted(folder)
    assert (measured["name"], measured["id"]) == ("sample.measured", str(first.id))
    assert (measured["payload"], measured["resource"]) == ({"mass": 1.5}, SAMPLE)
    assert measured["tags"] == ["lab"]
    assert measured["flow_run"] == folder.name
    assert measured["task_run"]
    assert stored["related"] == second.related
    assert stored["follows"] == str(first.id)
    assert "task_run" not in stored
    again = Event.from_dict(stored)
    assert (again.id, again.occurred, again.follows) == (second.id, second.occurred, first.id)
    assert again.related[0].role == "rig"


def test_outside_of_runs_it_is_kept_in_a_journal_of_the_users(home: Path) -> None:
    one = emit_event("somebody.came", SAMPLE, id="7f3c2a10-1b4e-28ba-9c3d-0123456789ab")
    with tags("evening"):
        emit_event("somebody.left", SAMPLE)
    came, left = _emitted(home / "outside")
    assert (came["name"], came["id"]) == ("somebody.came", str(one.id))
    assert left["tags"] == ["evening"]


def test_a_home_that_cannot_be_written_is_named(home: Path) -> None:
    home.write_text("in the way")
    with pytest.raises(JournalError, match="HPC_FLOWS_HOME"):
        emit_event("somebody.came", SAMPLE)


def test_a_forked_child_writes_a_journal_of_its_own(home: Path) -> None:
    emit_event("in.parent", SAMPLE)
    child = os.fork()
    if child == 0:
        try:
            emit_event("in.child", SAMPLE)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    emit_event("in.parent.again", SAMPLE)
    names = {event["name"] for event in _emitted(home / "outside")}
    assert names == {"in.parent", "in.child", "in.parent.again"}


def test_events_that_lie_far_apart_do_not_follow_each_other() -> None:
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    first = emit_event("first", SAMPLE, occurred=long_ago)
    assert emit_event("second", SAMPLE, follows=first).follows is None
    assert emit_event("third", SAMPLE, occurred=long_ago, follows=first).follows == first.id


def test_a_time_without_a_zone_is_local() -> None:
    made = Event("a", SAMPLE, occurred=dt.datetime(2026, 1, 1, 12))  # noqa: DTZ001 - the point
    assert made.occurred.tzinfo is not None
    assert made.occurred.hour == 12


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"event": ""}, "name"),
        ({"event": "x" * 1025}, "1024"),
        ({"resource": {"name": "x"}}, "prefect.resource.id"),
        ({"resource": {**SAMPLE, "a": 1}}, "'a': 1"),
        ({"resource": {**SAMPLE, **{str(n): "x" for n in range(500)}}}, "500"),
        ({"related": [SAMPLE]}, "prefect.resource.role"),
        ({"related": [{**SAMPLE, "prefect.resource.role": "x"}] * 101}, "100"),
    ],
)
def test_limits_are_kept(arguments: dict[str, Any], complaint: str, home: Path) -> None:
    with pytest.raises(EventError, match=complaint):
        emit_event(**{"event": "a", "resource": SAMPLE, **arguments})
    assert not (home / "outside").exists()


def test_an_event_that_is_too_large_is_refused_with_the_way_out() -> None:
    with pytest.raises(EventTooLarge, match="its path into the payload"):
        emit_event("a", SAMPLE, payload={"x": "y" * 1_500_000})


def test_resources_know_their_id_name_and_role() -> None:
    resource = Resource(SAMPLE)
    assert (resource.id, resource.name) == ("mylab.sample.7", "seven")
    assert RelatedResource({**SAMPLE, "prefect.resource.role": "rig"}).role == "rig"
    assert isinstance(Event("a", SAMPLE).id, uuid.UUID)


def test_readers_ignore_kinds_that_they_do_not_know(home: Path) -> None:
    @flow
    def main() -> None:
        emit_event("known", SAMPLE)

    main()
    (folder,) = (home / "runs").iterdir()
    events = read_run(str(folder))
    strange = Line(folder.name, "another", 1, 0.0, 0.0, "of-a-later-version", {"any": ["thing"]})
    view, without = replay([*events, strange]), replay(events)
    assert view.to_dict() == without.to_dict()
    assert (view.refused, view.seen) == (0, len(events) + 1)
