"""Queries about logs, jobs, clusters, artifacts, events and variables, and the overview."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_runs import START, WrittenRun
from server_data import ALL
from server_filled import ADA, BOB, BOTH, NOW, filled
from server_site import make_site
from server_stories import ARTIFACT

from hpc_flows.server.db import open_database
from hpc_flows.server.ingest import Ingest
from hpc_flows.server.queries import (
    artifacts,
    events,
    flow_runs,
    jobs,
    logs,
    overview,
    task_runs,
    variables,
)
from hpc_flows.server.retention import delete_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from hpc_flows.server.db import Database


L = logs.LogFilter


@pytest.fixture(scope="module", params=BOTH)
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    database = filled(request, tmp_path_factory)
    yield database
    database.close()


@pytest.fixture
def c(database: Database) -> Iterator[Connection]:
    with database.reading() as connection:
        yield connection


def test_logs_are_followed_and_read_backwards_without_gap_or_repetition(c: Connection) -> None:
    expected = [f"Line {at} 100%" for at in range(30)]

    def walk(order: str) -> list[str]:
        cursor: dict[str, Any] = {}
        told: list[str] = []
        while True:
            answer = logs.list_logs(c, ALL, L(run="living"), order=order, limit=7, **cursor)
            told += [item["message"] for item in answer["items"]]
            if answer["next"] is None:
                return told
            cursor = {"after" if order == "asc" else "before": answer["next"]}

    assert walk("asc") == expected
    assert walk("desc") == expected[::-1]
    newest = logs.list_logs(c, ALL, L(task_run="a"), order="desc", limit=1)["items"][0]
    assert newest["task_run_name"] == "train-a"
    follow = logs.list_logs(c, ALL, L(run="living"), after=newest["cursor"])
    assert (follow["items"], follow["next"]) == ([], None)


def test_logs_are_searched_by_level_and_text(
    c: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**chosen: Any) -> list[str]:
        answer = logs.list_logs(c, ALL, L(run="living", **chosen))
        return [item["message"].split()[1] for item in answer["items"]]

    assert told(level=40) == ["0", "10", "20"]
    assert told(search="LINE 2") == ["2", *map(str, range(20, 30))]
    assert told(search="0%", level=30) == ["0", "10", "20"]
    assert told(search="_") == []
    monkeypatch.setattr(logs, "LOOKED_THROUGH", 8)  # a search in parts finds the same
    found: list[str] = []
    cursor = None
    for _ in range(10):
        answer = logs.list_logs(c, ALL, L(run="living", search="Line 2"), after=cursor)
        found += [item["message"].split()[1] for item in answer["items"]]
        cursor = answer["next"]
        if cursor is None:
            break
    assert found == ["2", *map(str, range(20, 30))]


def test_logs_say_what_is_wrong_with_a_question(c: Connection) -> None:
    assert logs.list_logs(c, ALL, L(run="run-1"))["dropped"] == 2
    for wrong in ({"after": "here"}, {"before": "nan:1"}, {"order": "up"}, {"limit": 0}):
        with pytest.raises(ValueError, match=r"cursor|order|limit"):
            logs.list_logs(c, ALL, L(run="run-1"), **wrong)
    with pytest.raises(ValueError, match="whose log"):
        logs.list_logs(c, ALL, L())


def test_jobs_tell_what_the_scheduler_says(c: Connection) -> None:
    answer = jobs.list_jobs(c, ALL, jobs.JobFilter(run="living", cluster="mock", phase="queued"))
    assert answer["total"] == 1
    job = answer["items"][0]
    assert (job["job"], job["members"], job["array"]) == ("500", 2, "0-1")
    assert job["phases"] == {"queued": 1, "running": 1}
    assert job["reasons"][0]["count"] == 1
    assert "did not end well" in job["reasons"][0]["words"]
    detail = jobs.job(c, ALL, "run-1", "tok")
    assert detail is not None
    assert detail["script"] == "#!/bin/sh\n"
    assert detail["cancelled"] == "asked to"
    assert [run["id"] for run in detail["task_runs"]] == ["t0"]
    refused = jobs.job(c, ALL, "run-1", "tok3")
    assert refused is not None
    assert refused["refusal"] == "no such account"
    assert jobs.job(c, ALL, "living", "j")["script"] == "path"  # type: ignore[index]
    assert [
        j["token"] for j in jobs.list_jobs(c, ALL, jobs.JobFilter(flow_run="sub"))["items"]
    ] == ["tok2"]


def test_clusters_join_surveys_and_own_jobs(c: Connection) -> None:
    mock, other = jobs.clusters(c, ADA)
    assert (mock["name"], mock["scheduler"], mock["heard"]) == ("mock", "slurm", NOW)
    assert mock["jobs"] == {"queued": 1, "running": 1}
    assert mock["reasons"][0]["reason"] == "DependencyNeverSatisfied"
    assert (other["name"], other["survey"], other["scheduler"]) == ("other", None, "slurm")


def test_artifacts_and_events_are_found(c: Connection) -> None:
    found = artifacts.list_artifacts(c, ALL, artifacts.ArtifactFilter(key="p", type="progress"))
    assert found["items"][0] == json.loads(artifacts.artifact(c, ALL, ARTIFACT) or b"")
    assert (found["items"][0]["data"], found["items"][0]["updated"]) == (30.0, 15.0)
    told = events.list_events(c, ALL, events.EventFilter(name="model.*", resource="model.7"))
    assert told["total"] == 1
    assert told["items"][0]["payload"] == {"a": "\0"}
    assert events.list_events(c, ALL, events.EventFilter(name="model.%"))["total"] == 0
    assert events.list_events(c, ALL, events.EventFilter(since=NOW))["total"] == 0


def test_the_dashboard_says_what_needs_a_person(database: Database, c: Connection) -> None:
    Ingest(database).hear(1, ["living"], {}, time.time(), 0.5)
    with database.reading() as now:
        seen = overview.dashboard(now, ADA, 24)
    kinds = {point["kind"]: point for point in seen["attention"]}
    assert kinds.keys() == {"stuck", "walltime"}
    assert "did not end well" in kinds["stuck"]["text"]
    assert re.search(r"train-a has used \d{3,}% of its walltime", kinds["walltime"]["text"])
    assert [run["id"] for run in seen["active"]] == ["living"]
    both = overview.dashboard(c, ALL, 24)
    assert both["states"] == {"RUNNING": 1, "COMPLETED": 1}
    assert sum(bar["completed"] for bar in both["strip"]) == 1
    since = overview.dashboard(c, ALL, 24 * 366)
    assert len(since["strip"]) == overview.BARS
    with pytest.raises(ValueError, match="hours is"):
        overview.dashboard(c, ALL, 0)
    Ingest(database).hear(1, ["living"], {}, NOW - 1000, None)
    with database.reading() as later:
        kinds = {point["kind"]: point for point in overview.dashboard(later, ADA)["attention"]}
    assert kinds["silent"]["since"] == NOW - 1000
    Ingest(database).hear(1, ["living"], {}, NOW, 0.5)


def test_changes_are_told_with_their_versions(database: Database, c: Connection) -> None:
    marker, first = overview.changed_since(c, 0.0)
    assert {run for run, _ in first} == {"run-1", "living", "bobs"}
    assert overview.versions(c, ALL).keys() == {"living"}
    later, changed = overview.changed_since(c, marker + 3600)
    assert changed == []
    assert later >= marker
    before = overview.versions(c, ALL, ["living"])["living"]
    Ingest(database).attach("living", "output", "a", "more", 1)
    with database.reading() as fresh:
        assert overview.versions(fresh, ALL, ["living"])["living"] == before + 1


def test_variables_are_their_users_own(database: Database) -> None:
    with database.writing() as connection:
        variables.set_variable(connection, ADA, "limit", {"n": 1}, ["x"])
        made = variables.set_variable(connection, ADA, "limit", [1, None])
        assert (made["value"], made["tags"]) == ([1, None], [])
        assert variables.list_variables(connection, BOB) == []
        assert not variables.delete_variable(connection, BOB, "limit")
        assert variables.delete_variable(connection, ADA, "limit")
        for wrong in (("", 1), ("a\0b", 1), ("x", "y" * 200_000)):
            with pytest.raises(ValueError, match="variable"):
                variables.set_variable(connection, ADA, *wrong)


def test_an_empty_server_answers_everything(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/server.db")
    database.migrate()
    every = flow_runs.FlowRunFilter()
    with database.reading() as connection:
        assert overview.dashboard(connection, ALL)["attention"] == []
        assert jobs.clusters(connection, ALL) == []
        assert flow_runs.list_flow_runs(connection, ALL, every)["total"] == 0
        assert task_runs.list_task_runs(connection, ALL, task_runs.TaskRunFilter())["total"] == 0
        assert flow_runs.scatter(connection, ALL, every) == {"points": [], "left_out": 0}
    database.close()


def test_logs_of_one_task_run_are_searched_too(c: Connection) -> None:
    for chosen in (L(task_run="a", search="Line 7 "), L(task_run="a", run="living", level=40)):
        assert logs.list_logs(c, ALL, chosen)["items"]
    assert logs.list_logs(c, ALL, L(task_run="a", run="run-1"))["items"] == []


def test_an_answer_is_made_of_one_state_of_the_database(database: Database) -> None:
    ingest = Ingest(database)
    ingest.register("passing", {}, 1, None)
    every = flow_runs.FlowRunFilter(parent="any")
    with database.reading() as connection:
        before = flow_runs.list_flow_runs(connection, ALL, every)
        delete_run(database, "bobs", "a test")
        assert flow_runs.list_flow_runs(connection, ALL, every) == before
        assert flow_runs.flow_run(connection, ALL, "bobs") is not None
    with database.reading() as connection:
        assert flow_runs.flow_run(connection, ALL, "bobs") is None


@pytest.mark.parametrize("kind", BOTH)
def test_a_time_that_is_far_off_spoils_nobodys_charts(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = None if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    site = make_site(tmp_path / "server", url)
    run = WrittenRun(tmp_path / "home")
    for id_ in ("t1", "t2"):
        run.task_run(0, id_, "train")
        run.state(1, id_, "RUNNING", "Running")
        run.state(40 * 86400, id_, "COMPLETED", "Completed")
    run.end(1e18)  # by a clock that is wrong
    lines = b"".join(path.read_bytes() for path in Path(run.folder, "journal").iterdir())
    assert site.ask("ann", "PUT", f"/runs/{run.id}", json={}).status_code == 200
    assert site.send("ann", run.id, lines).json()["refused"] == 0
    strip = site.ask("root", "GET", "/dashboard").json()["strip"]
    assert [each["completed"] for each in strip] == [0] * (overview.BARS - 1) + [1]
    timeline = f"/flow-runs/{run.id}/timeline?limit=1"
    shown = site.ask("ann", "GET", f"{timeline}&from={START}&to={START + 0.1}").json()
    assert [task["waiting"][-1] for task in shown["tasks"]] == [2]
    for odd in ("from=nan", "to=nan", "from=inf", "to=-inf", "from=-1e300&to=1e300"):
        assert site.ask("ann", "GET", f"{timeline}&{odd}").status_code == 200, odd
    site.close()
