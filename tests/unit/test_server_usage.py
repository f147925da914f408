"""Where the task runs of jobs stand, and what the jobs of a run took."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from server_data import ALL, add_user, lines
from server_filled import ADA, BOB, BOTH, filled
from server_stories import renamed
from test_replay import Story

from hpc_flows.server.ingest import Ingest
from hpc_flows.server.queries import jobs, usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.server.db import Database


@pytest.fixture(scope="module", params=BOTH)
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    database = filled(request, tmp_path_factory)
    add_user(database, "cleo")
    story = array_story()
    ingest = Ingest(database)
    ingest.register("array", {}, 1, None)
    ingest.take("array", lines(renamed(story.events, "array")), 1)
    yield database
    database.close()


def array_story() -> Story:
    """One element has ended, one runs, three wait in the one line that a queue has for them."""
    story = Story()
    story.tell(1, "flow-run", id="run-1", name="merry-fox", flow="cv")
    story.state("run-1", "RUNNING", 1)
    for index in range(5):
        story.task(f"e{index}", wall=2, map_index=index)
    asked = {"cpus": 4, "nodes": 2, "walltime": 3600}
    ids = [f"e{index}" for index in range(5)]
    story.tell(3, "job-intent", token="arr", cluster="mock", scheduler="slurm",
               task_runs=ids, array="0-4", resources=asked)  # fmt: skip
    story.tell(4, "job-submitted", token="arr", job="90", seconds=0.1)
    for index, phase, reason in ((0, "running", ""), (1, "running", ""), (2, "queued", "Priority")):
        story.tell(5, "job-status", token="arr", job=f"90_{index}", task_run=f"e{index}",
                   phase=phase, raw=phase, reason=reason, nodes="", partition="p")  # fmt: skip
    for index in (0, 1):
        story.state(f"e{index}", "RUNNING", 10, writer=f"arr-{index}-0")
    details = {"elapsed": 360.0, "cpu": 1440.0}
    story.state("e0", "COMPLETED", 371, writer="arr-0-0", details=details)
    return story


def test_a_jobs_task_runs_stand_where_they_say_themselves(database: Database) -> None:
    with database.reading() as connection:
        (job,) = jobs.list_jobs(connection, ALL, jobs.JobFilter(run="array"))["items"]
        ended = jobs.job(connection, ALL, "run-1", "tok")
    assert job["phases"] == {"ended": 1, "running": 1, "queued": 3}
    assert [(why["reason"], why["count"]) for why in job["reasons"]] == [("Priority", 3)]
    assert ended is not None
    assert ended["phases"] == {"ended": 2}


def test_the_reasons_of_a_cluster_count_every_element_that_waits(database: Database) -> None:
    with database.reading() as connection:
        (mock, _) = jobs.clusters(connection, ADA)
    assert mock["jobs"] == {"queued": 4, "running": 2}
    counts = {why["reason"]: why["count"] for why in mock["reasons"]}
    assert counts == {"Priority": 3, "DependencyNeverSatisfied": 1}


def test_core_hours_are_cores_times_the_time_of_all_attempts(database: Database) -> None:
    with database.reading() as connection:
        found = usage.usage(connection, ALL, "run-1")
        inner = usage.usage(connection, ALL, "sub")
        assert usage.usage(connection, BOB, "run-1") is None
    assert found is not None
    # Two attempts of t0 on 8 cores; one of t1, whose newest job does not tell what was asked for.
    assert found["core_hours"] * 3600 == pytest.approx(8 * (1 + 1) + 2)
    assert (found["task_runs"], found["told_core_hours"]) == (3, 0)
    assert inner is not None
    assert (inner["task_runs"], inner["core_hours"]) == (1, 0)  # it was not told of before the end


def test_busy_core_hours_are_of_what_was_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.reading() as connection:
        found = usage.usage(connection, ALL, "array")
        assert found is not None
        assert found["told_core_hours"] == pytest.approx(8 * 360 / 3600)
        assert found["busy_core_hours"] == pytest.approx(1440 / 3600)
        assert found["core_hours"] > found["told_core_hours"]  # the other one still runs
        assert found["asked_core_hours"] >= found["core_hours"]
        assert found["left_out"] == 0
        monkeypatch.setattr(usage, "MOST", 1)
        less = usage.usage(connection, ALL, "array")
    assert less is not None
    assert (less["task_runs"], less["left_out"]) == (1, 1)
    json.dumps(less)
