"""Runs are removed in portions: nobody sees half of one, and others have their turn."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from server_data import ALL, add_user, derived, lines, stored
from server_site import RUN, make_site
from server_stories import long_story, renamed
from sqlalchemy import func, select

from hpc_flows.server import removing
from hpc_flows.server.db import models as m
from hpc_flows.server.db import open_database, visible
from hpc_flows.server.ingest import Ingest, RunGone
from hpc_flows.server.removing import Remover, remove_marked
from hpc_flows.server.retention import mark_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.server.db import Database

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)]
#: All tables that have rows of runs, in whatever way.
OF_RUNS = [t for t in m.metadata.sorted_tables if t.name not in ("gone", "runs")]
OF_RUNS = [
    t for t in OF_RUNS if {"run_pk", "job_pk", "flow_run_pk"} & set(t.c.keys()) or "pk" in t.c
]


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'server.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    made = open_database(url)
    made.migrate()
    add_user(made)
    yield made
    made.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let portions be of three rows."""
    monkeypatch.setattr(removing, "_FIRST", 3)
    monkeypatch.setattr(removing, "_MOST", 3)


def fill(database: Database, *runs: str) -> Ingest:
    ingest = Ingest(database)
    for run in runs:
        ingest.register(run, {}, 1, None)
        ingest.take(run, lines(renamed(long_story().events, run)), 1)
        for at in range(8):
            ingest.attach(run, "output", f"t{at}", "the end of it", 1)
    return ingest


def rows(database: Database) -> dict[str, int]:
    """Return how many rows each table has."""
    with database.reading() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in [m.runs, *OF_RUNS]
        }


def both(database: Database, run: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with database.reading() as connection:
        return stored(connection, run), derived(connection, run)


def go_on(_seconds: float) -> bool:
    return True


def test_a_run_that_is_marked_is_seen_by_nobody_and_its_relay_is_told(database: Database) -> None:
    ingest = fill(database, "run-1")
    assert mark_run(database, "run-1", "it is old")
    assert not mark_run(database, "run-1", "again")
    assert rows(database)["task_runs"] > 0
    with database.reading() as connection:
        assert list(connection.scalars(select(m.runs.c.id).where(visible(ALL)))) == []
    with pytest.raises(RunGone, match="it is old"):
        ingest.take("run-1", b"", 1)
    with pytest.raises(RunGone, match="it is old"):
        ingest.register("run-1", {}, 1, None)
    with pytest.raises(RunGone, match="it is old"):
        ingest.attach("run-1", "output", "t0", "late", 1)
    compared = ingest.behind({"run-1": {"driver": 99}}, 1)
    assert compared == {"behind": {}, "unknown": [], "gone": ["run-1"]}


@pytest.mark.usefixtures("small")
def test_portions_take_all_of_one_run_and_nothing_of_its_neighbours(database: Database) -> None:
    fill(database, "before", "run-1", "later")
    kept = both(database, "before"), both(database, "later")
    mark_run(database, "run-1", "a test")
    portions = 0

    def rest(_seconds: float) -> bool:
        nonlocal portions
        portions += 1
        return True

    assert remove_marked(database, rest) == ["run-1"]
    assert portions > len(OF_RUNS)
    assert (both(database, "before"), both(database, "later")) == kept
    for run in ("before", "later"):
        mark_run(database, run, "a test")
    remove_marked(database, go_on)
    assert set(rows(database).values()) == {0}


@pytest.mark.usefixtures("small")
def test_events_of_others_are_taken_between_portions(database: Database) -> None:
    ingest = fill(database, "run-1")
    ingest.register("living", {}, 1, None)
    events = renamed(long_story().events, "living")
    taken = 0

    def rest(_seconds: float) -> bool:
        nonlocal taken
        if taken < len(events):  # in this thread: if the lock were held, it would be for ever
            ingest.take("living", lines(events[taken : taken + 2]), 1)
            taken += 2
        return True

    mark_run(database, "run-1", "a test")
    remove_marked(database, rest)
    assert taken >= len(events)
    fresh = both(database, "living")
    fill(database, "whole")
    assert fresh[0]["counts"] == both(database, "whole")[0]["counts"]


def test_portions_shrink_when_they_take_long_and_grow_when_they_do_not() -> None:
    removal = removing._Removal(None, 1, go_on)  # type: ignore[arg-type]  # asks for nothing
    sizes = []
    for taken in (1.0, 1.0, 0.04, 0.0, 0.0, *[0.0] * 20):
        removal._adapt(taken)
        sizes.append(removal._most)
    assert sizes[:5] == [128, 64, 64, 128, 256]
    assert sizes[-1] == 16_384


def test_a_killed_removal_is_finished_by_the_next_start(database: Database) -> None:
    """The program stands still in the middle and is killed; a remover then does the rest."""
    fill(database, "kept", "run-1")
    kept = both(database, "kept")
    whole = rows(database)
    mark_run(database, "run-1", "a test")
    program = Path(__file__).parent / "removing_program.py"
    url = database.url.set(drivername=database.kind).render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, str(program), url, "12"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    process.stdout.close()
    half = rows(database)
    assert half["runs"] == 2
    assert half["task_runs"] + half["logs"] > 0
    assert half != whole
    with database.reading() as connection:
        assert list(connection.scalars(select(m.runs.c.id).where(visible(ALL)))) == ["kept"]
    remover = Remover(database)
    remover.wake()
    while rows(database)["runs"] == 2:
        time.sleep(0.02)
    remover.close()
    assert both(database, "kept") == kept
    mark_run(database, "kept", "a test")
    remove_marked(database, go_on)
    assert set(rows(database).values()) == {0}


@pytest.mark.usefixtures("small")
def test_a_server_that_stops_leaves_the_rest_for_its_next_start(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/server.db")
    database.migrate()
    add_user(database)
    fill(database, "run-1")
    mark_run(database, "run-1", "a test")
    assert remove_marked(database, lambda _seconds: False) == []
    assert rows(database)["runs"] == 1
    remover = Remover(database)
    remover.close()
    remover.wake()  # it is closed: nothing begins
    assert remove_marked(database, go_on) == ["run-1"]
    database.close()


def test_who_deletes_a_run_need_not_wait_for_its_rows(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.report("ann", tmp_path / "home")
    assert site.ask("ann", "DELETE", f"/flow-runs/{RUN}").status_code == 204
    assert site.ask("ann", "GET", f"/flow-runs/{RUN}").status_code == 404
    assert site.ask("ann", "GET", "/flow-runs").json()["items"] == []
    assert site.send("ann", RUN, b"").status_code == 410
    assert site.ask("ann", "DELETE", f"/flow-runs/{RUN}").status_code == 404
    while rows(site.database)["runs"]:
        time.sleep(0.02)
    site.service.remover.close()
    site.close()
