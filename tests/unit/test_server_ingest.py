"""Ingest: the rows are what replay shows, whatever happens to the lines on their way."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_data import add_user, derived, line, lines, stored
from server_stories import long_story, renamed
from test_replay import Story, changes

from hpc_flows.journal.event import Event, seal
from hpc_flows.journal.replay import replay
from hpc_flows.server.db import open_database
from hpc_flows.server.db.kept import opened, pressed
from hpc_flows.server.ingest import Ingest, NoSuchRun, RunGone
from hpc_flows.server.retention import delete_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.server.db import Database

_numbers = count(1)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)]
)
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('db') / 'server.db'}"
    else:
        url = request.getfixturevalue("postgresql").create()
    database = open_database(url)
    database.migrate()
    add_user(database, "ada")
    add_user(database, "bob")
    yield database
    database.close()


ADA, BOB = 1, 2


def new_run(ingest: Ingest) -> str:
    run = f"run-{next(_numbers)}-x"
    ingest.register(run, {"name": "merry-fox"}, ADA, None)
    return run


def assert_as_replayed(database: Database, run: str, events: list[Event]) -> None:
    with database.reading() as connection:
        expected = replay(sorted(events, key=lambda e: e.order)).to_dict() | {"run": run}
        assert stored(connection, run) == expected


def derived_of(database: Database, run: str) -> dict[str, Any]:
    with database.reading() as connection:
        return {
            name: [row.replace(run, "RUN") for row in rows]
            for name, rows in derived(connection, run).items()
        }


def test_a_run_is_stored_as_replay_shows_it(database: Database) -> None:
    ingest = Ingest(database)
    run = new_run(ingest)
    events = renamed(long_story().events, run)
    taken = ingest.take(run, lines(events), ADA)
    assert (taken.taken, taken.repeated, taken.refused) == (len(events), 0, 0)
    assert taken.version == 2
    assert_as_replayed(database, run, events)
    rows = derived_of(database, run)
    assert rows["edges"] == ["('RUN', 'train', 'sub', 'score', 3)"]
    assert any("model.trained" in row and "model.7" in row for row in rows["events"])
    assert rows["runs"] == ["('RUN', 'merry-fox', 'cv', 11.0, 2)"]
    assert any("30.0" in row and '["x"]' in row for row in rows["artifacts"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_repetition_and_batches_give_the_same_rows(
    database: Database, data: st.DataObject
) -> None:
    ingest = Ingest(database)
    run, straight = new_run(ingest), new_run(ingest)
    story = long_story().events
    # What a network may bring so far: of each writer the first some lines.
    writers = sorted({event.writer for event in story})
    sent = {name: data.draw(st.integers(0, 60)) for name in writers}
    sent = {name: n if n < 50 else 1000 for name, n in sent.items()}
    heard = [event for event in story if event.seq <= sent[event.writer]]
    again = data.draw(st.lists(st.sampled_from(heard), max_size=10)) if heard else []
    shuffled = data.draw(st.permutations(heard + again))
    size = data.draw(st.integers(1, 20))
    repeated = 0
    for at in range(0, len(shuffled), size):
        batch = lines(renamed(shuffled[at : at + size], run))
        repeated += ingest.take(run, batch, ADA).repeated
    assert repeated == len(again)
    assert_as_replayed(database, run, renamed(heard, run))
    ingest.take(straight, lines(renamed(heard, straight)), ADA)
    assert derived_of(database, run) == derived_of(database, straight)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(told=st.lists(changes, max_size=12), chance=st.randoms(use_true_random=False))
def test_contradicting_states_in_any_order_end_as_replay_says(
    database: Database, told: list[tuple[str, str, int, int, str, str]], chance: Any
) -> None:
    story = Story()
    for id_, type_, wall, attempt, writer, name in told:
        story.state(id_, type_, wall, name, attempt, writer=writer)
    story.task("t0")
    story.task("t1", "score", upstream=["t0"])
    ingest = Ingest(database)
    run = new_run(ingest)
    events = renamed(story.events, run)
    shuffled = events * 2
    chance.shuffle(shuffled)
    for at in range(0, len(shuffled), 3):
        ingest.take(run, lines(shuffled[at : at + 3]), ADA)
    assert_as_replayed(database, run, events)


def test_what_is_no_event_of_the_run_is_counted_and_stops_nothing(database: Database) -> None:
    ingest = Ingest(database)
    run = new_run(ingest)
    good = Event(run, "driver", 1, 1.0, 1.0, "log", {"level": "INFO", "message": "hello"})
    foreign = Event("another", "driver", 2, 1.0, 1.0, "log", {"message": "theirs"})
    odd = [
        Event(run, "driver", 10 + at, 1.0, 1.0, kind, data)
        for at, (kind, data) in enumerate(
            [
                ("state", {"subject": "task", "id": "t", "type": "DANCING", "name": "x"}),
                ("state", {"subject": "cat", "id": "t", "type": "RUNNING", "name": "x"}),
                ("state", {"subject": "task", "id": ["t"], "type": "RUNNING", "name": "x"}),
                ("task-run", {"id": "t\0"}),
                ("task-run", {"id": "x" * 300}),
                ("task-run", {"id": "t", "tags": 7}),
                ("flow-run", {"id": "f", "parameters": "abc"}),
                ("job-intent", {"token": 7}),
                ("job-submitted", {"token": "tok"}),
                ("job-cancel", {"jobs": 3}),
                ("event", {"id": "e"}),
                ("artifact", {"id": "a", "updated": "now", "created": 1}),
                ("artifact", {}),
            ]
        )
    ]
    torn = line(good)[:-12] + b"\n"
    newer = seal(line(good)[:-10].replace(b'"v":1', b'"v":2'))
    infinite = seal(
        b'{"v":1,"run":"%b","writer":"driver","seq":99,"wall":1,"mono":1,"kind":"state","data":'
        b'{"subject":"task","id":"u","type":"RUNNING","name":"x","attempt":1e999}}' % run.encode()
    )
    batch = b"\xff\xfe\n\n" + torn + newer + line(foreign) + infinite + lines(odd) + line(good)
    taken = ingest.take(run, batch, ADA)
    assert taken.refused == 1 + 3 + 1 + len(odd)
    assert taken.counts == {"driver": len(odd) + 2}
    rows = derived_of(database, run)
    assert [row for row in rows["logs"] if "hello" in row]
    assert not rows["events"]
    assert not rows["artifacts"]
    again = ingest.take(run, batch, ADA)
    assert (again.taken, again.version) == (0, taken.version)


def test_values_that_databases_refuse_are_stored_all_the_same(database: Database) -> None:
    ingest = Ingest(database)
    run = new_run(ingest)
    story = Story()
    huge = "9" * 400
    story.task("t", "tra\0in" + "n" * 5000, wall=1.0, map_index=int(huge), tags=["\0", "a" * 9000],
               resources={"\ud800": "\udfff"})  # fmt: skip
    story.state("t", "FAILED", 1e300, "N\0" * 900, attempt=int(huge), message="m" * 3_000_000)
    story.tell(2, "log", level=10**30, message="\ud800 half", logger="l" * 9999, task_run=7)
    story.tell(3, "job-intent", token="k", cluster="\0", scheduler=None, task_runs=["t", "\0", 3],
               script={"a": 1}, array=[1], resources="x")  # fmt: skip
    story.tell(4, "artifact", id="a", type=["x"], key="k" * 9000, data={"\0": "\ud800"}, created=4,
               updated=4, size=10**30, tags="t")  # fmt: skip
    story.tell(5, "event", id="e", name="n" * 3000, occurred="9999-99-99", resource=[1])
    events = renamed(story.events, run)
    taken = ingest.take(run, lines(events), ADA)
    assert taken.taken == len(events)
    assert taken.refused == 1  # the task run whose id is a NUL character
    with database.reading() as connection:
        found = stored_task(connection, run, "t")
    expected = replay(events).task_runs["t"].to_dict()
    assert {name: found[name] for name in ("name", "message", "state_name", "resources")} == {
        name: expected[name] for name in ("name", "message", "state_name", "resources")
    }


def stored_task(connection: Any, run: str, id_: str) -> dict[str, Any]:
    from sqlalchemy import select

    from hpc_flows.server.db import models as m
    from hpc_flows.server.db.kept import task_run_view

    joined = m.task_runs.join(m.task_run_facts, m.task_run_facts.c.pk == m.task_runs.c.pk)
    joined = joined.join(m.runs, m.runs.c.pk == m.task_runs.c.run_pk)
    columns = (m.task_run_facts.c.made, m.task_run_facts.c.changes)
    query = select(*columns).select_from(joined)
    row = connection.execute(query.where(m.runs.c.id == run, m.task_runs.c.id == id_)).one()
    return task_run_view(id_, row.made, row.changes).to_dict()


def test_results_of_tasks_are_never_stored(database: Database) -> None:
    story = Story()
    story.task("t")
    story.state("t", "COMPLETED", 2, result={"inline": "gASVsecret", "mac": "00"})
    ingest = Ingest(database)
    run = new_run(ingest)
    ingest.take(run, lines(renamed(story.events, run)), ADA)
    with database.reading() as connection:
        assert "gASV" not in repr(stored(connection, run))
    event = story.events[0]
    assert opened(pressed(event, ("name",))) == (event.order, {"name": event.data["name"]})


def test_another_users_run_is_not_there(database: Database) -> None:
    ingest = Ingest(database)
    run = new_run(ingest)
    for attempt in (
        lambda: ingest.take(run, b"", BOB),
        lambda: ingest.register(run, {}, BOB, None),
        lambda: ingest.attach(run, "script", "tok", "x", BOB),
        lambda: ingest.take("never-registered", b"", BOB),
    ):
        with pytest.raises(NoSuchRun):
            attempt()
    assert ingest.behind({run: {"driver": 1}}, BOB)["unknown"] == [run]


def test_a_deleted_run_stays_deleted(database: Database) -> None:
    ingest = Ingest(database)
    run = new_run(ingest)
    ingest.take(run, lines(renamed(long_story().events, run)), ADA)
    ingest.attach(run, "script", "tok", "#!/bin/sh\0", ADA)
    assert delete_run(database, run, "it is old")
    assert not delete_run(database, run, "it is old")
    with pytest.raises(RunGone, match="it is old"):
        ingest.take(run, b"", ADA)
    with pytest.raises(RunGone):
        ingest.register(run, {}, ADA, None)
    assert ingest.behind({run: {}}, ADA)["gone"] == [run]
    assert not any(derived_of(database, run).values())


def test_a_server_restored_from_an_older_backup_says_what_it_lacks(database: Database) -> None:
    """What relays were told is taken is compared with what is there; sending again mends it."""
    ingest = Ingest(database)
    run = new_run(ingest)
    events = renamed(long_story().events, run)
    old = [event for event in events if event.wall < 6]
    acknowledged = Counter(event.writer for event in events)
    ingest.take(run, lines(old), ADA)  # and the rest was lost with the disk
    behind = ingest.behind({run: acknowledged, "strange": {"driver": 1}}, ADA)
    assert behind["behind"] == {run: sorted(acknowledged)}
    assert behind["unknown"] == ["strange"]
    ingest.take(run, lines(events), ADA)
    assert ingest.behind({run: acknowledged}, ADA)["behind"] == {}
    assert_as_replayed(database, run, events)


def test_a_server_that_lacks_only_an_attachment_says_so_by_the_version(database: Database) -> None:
    ingest = Ingest(database)
    run = new_run(ingest)
    taken = ingest.take(run, lines(renamed(long_story().events, run)), ADA)
    attached = ingest.attach(run, "output", "t0", "the end of it", ADA)
    assert attached == taken.version + 1
    held = {run: taken.counts}
    assert ingest.behind(held, ADA, {run: attached})["behind"] == {}
    assert ingest.behind(held, ADA, {run: attached + 1})["behind"] == {run: []}
    assert ingest.attach(run, "output", "t0", "more", ADA) == attached + 1


def test_a_batch_that_fails_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.server.ingest import taking

    ingest = Ingest(database)
    run = new_run(ingest)
    events = renamed(long_story().events, run)
    before = derived_of(database, run)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(taking, "take_artifacts", full_disk)
    with pytest.raises(OSError, match="space"):
        ingest.take(run, lines(events), ADA)
    assert derived_of(database, run) == before
    monkeypatch.undo()
    ingest.take(run, lines(events), ADA)
    assert_as_replayed(database, run, events)


def test_two_servers_may_take_the_same_run_at_once(database: Database) -> None:
    """The relays of two login nodes send the same lines to two servers on one database."""
    other = open_database(database.url.render_as_string(hide_password=False))
    run = new_run(Ingest(database))
    events = renamed(long_story().events, run)
    chunks = [lines(events[at : at + 4]) for at in range(0, len(events), 4)]
    taken: list[int] = []
    errors: list[BaseException] = []

    def send(ingest: Ingest, order: list[bytes]) -> None:
        try:
            taken.append(sum(ingest.take(run, chunk, ADA).taken for chunk in order))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [
        threading.Thread(target=send, args=(Ingest(database), chunks)),
        threading.Thread(target=send, args=(Ingest(other), chunks[::-1])),
        threading.Thread(target=send, args=(Ingest(other), chunks)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert not errors
    assert sum(taken) == len(events)
    assert_as_replayed(database, run, events)


def test_a_writer_with_a_million_gaps_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.server.ingest import numbers

    monkeypatch.setattr(numbers, "MOST_GAPS", 10)
    ingest = Ingest(database)
    run = new_run(ingest)
    odd = [Event(run, "w", 2 * at + 1, 1.0, 1.0, "log", {"message": ""}) for at in range(30)]
    taken = ingest.take(run, lines(odd), ADA)
    assert taken.taken == 11
    assert taken.refused == 19
