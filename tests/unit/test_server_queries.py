"""Queries: what people see of what was stored, in the shapes of the reading API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from server_data import ALL
from server_filled import ADA, BOB, BOTH, NOW, filled, ids, living_story
from server_stories import ARTIFACT, long_story, renamed

from hpc_flows.journal.replay import replay
from hpc_flows.server.db import Sight
from hpc_flows.server.queries import (
    artifacts,
    events,
    flow_runs,
    graphs,
    jobs,
    logs,
    overview,
    task_runs,
    timelines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from hpc_flows.server.db import Database


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


def test_task_runs_are_shown_as_replay_shows_them(c: Connection) -> None:
    for story, run in ((long_story(), "run-1"), (living_story(), "living")):
        view = replay(renamed(story.events, run))
        for id_, seen in view.task_runs.items():
            shown = task_runs.task_run(c, ALL, id_)
            assert shown is not None
            expected = seen.to_dict()
            assert {name: shown[name] for name in expected} == {
                **expected,
                "history": [list(entry) for entry in seen.history],
            }
        for id_, flow in view.flow_runs.items():
            found = flow_runs.flow_run(c, ALL, id_)
            assert found is not None
            assert {name: found[name] for name in flow.to_dict()} == flow.to_dict()


F = flow_runs.FlowRunFilter


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (F(), ["living", "bobs", "run-1"]),
        (F(parent="any"), ["living", "bobs", "sub", "run-1"]),
        (F(parent="run-1"), ["sub"]),
        (F(states=("RUNNING",)), ["living"]),
        (F(states=("Completed", "FAILED")), ["bobs", "run-1"]),
        (F(flow="cv"), ["living", "run-1"]),
        (F(tag="x"), ["living", "bobs"]),
        (F(name="y_c"), ["bobs"]),
        (F(name="%"), []),
        (F(cluster="other"), ["run-1"]),
        (F(owner="bob"), ["bobs"]),
        (F(project="lab"), ["bobs"]),
        (F(since=NOW - 60), ["bobs"]),
        (F(until=NOW - 60), ["living", "run-1"]),
        (F(flow="it's \"; --"), []),
    ],
)
def test_flow_runs_are_filtered(c: Connection, chosen: F, expected: list[str]) -> None:
    answer = flow_runs.list_flow_runs(c, ALL, chosen, "-created")
    assert sorted(ids(answer)) == sorted(expected)
    assert answer["total"] == len(expected)
    points = flow_runs.scatter(c, ALL, chosen)["points"]
    started = {"living", "run-1"} & set(expected)
    assert {point[0] for point in points} == started


def test_flow_runs_are_sorted_and_paged(c: Connection) -> None:
    def told(sort: str, limit: int = 50, offset: int = 0) -> list[str]:
        return ids(flow_runs.list_flow_runs(c, ALL, F(), sort, limit, offset))

    assert told("-created") == ["bobs", "living", "run-1"]
    assert told("created") == ["run-1", "living", "bobs"]
    assert told("name") == ["bobs", "run-1", "living"]
    assert told("-ended") == ["bobs", "run-1", "living"]  # what has none comes last
    assert told("ended") == ["run-1", "bobs", "living"]
    assert told("created", 1, 1) == ["living"]
    part = flow_runs.list_flow_runs(c, ALL, F(), "created", 2)
    assert (part["total"], part["next"]) == (3, 2)
    for wrong in (("colour", 5, 0), ("name", 0, 0), ("name", 501, 0), ("name", 5, -1)):
        with pytest.raises(ValueError, match=" is "):
            flow_runs.list_flow_runs(c, ALL, F(), *wrong)


def test_a_flow_run_knows_its_tasks_clusters_owner_and_relay(c: Connection) -> None:
    found = flow_runs.flow_run(c, ALL, "living")
    assert found is not None
    assert found["tasks"] == {"RUNNING": 1}
    assert (found["total_tasks"], found["clusters"], found["owner"]) == (3, ["mock"], "ada")
    assert (found["heard"], found["skew"]) == (NOW, 0.5)
    assert flow_runs.root_of(c, ALL, "sub")[:2] == ("run-1", "ada")  # type: ignore[index]
    counted = flow_runs.counts(c, ALL, "living")
    assert counted is not None
    assert [(task["task"], task["total"]) for task in counted["tasks"]] == [
        ("train", 2),
        ("score", 1),
    ]
    assert counted["tasks"][0]["states"] == [{"name": "Running", "type": "RUNNING", "count": 1}]
    assert counted["tasks"][0]["first_started"] == NOW - 70


T = task_runs.TaskRunFilter


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (T(run="living"), ["a", "b", "c"]),
        (T(flow_run="sub"), ["t2"]),
        (T(flow_run="living", task="train"), ["a", "b"]),
        (T(states=("COMPLETED",)), ["t0", "t3"]),
        (T(states=("FAILED", "CRASHED")), ["t1"]),
        (T(run="run-1", states=("CRASHED",)), ["t1"]),
        (T(states=("RUNNING",)), ["a", "t2"]),
        (T(states=("OutOfMemory",)), ["t1"]),
        (T(name="-C"), ["c"]),
        (T(job="500"), ["a", "b"]),
        (T(job="500_1"), ["b"]),
        (T(job="500_0", run="living"), ["a"]),
        (T(job="77"), ["t0"]),
        (T(job="77_0"), ["t0"]),
        (T(job="nothing"), []),
        (T(job="77_x"), []),
        (T(node="c7"), ["a"]),
        (T(node="c1", run="run-1"), ["t0"]),
        (T(run="nowhere"), []),
    ],
)
def test_task_runs_are_filtered(c: Connection, chosen: T, expected: list[str]) -> None:
    answer = task_runs.list_task_runs(c, ALL, chosen)
    assert sorted(ids(answer)) == sorted(expected)
    assert answer["total"] == len(expected)
    assert task_runs.list_task_runs(c, ALL, chosen, limit=1)["total"] == len(expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("created", "abc"),
        ("-created", "cba"),
        ("-name", "bac"),
        ("map_index", "abc"),
        ("-map_index", "bac"),
        ("started", "abc"),
        ("wait", "abc"),
        ("queued", "abc"),
        ("-duration", "cba"),
        ("ended", "abc"),
    ],
)
def test_task_runs_are_sorted(c: Connection, sort: str, expected: str) -> None:
    for chosen in (T(run="living"), T(flow_run="living")):
        assert "".join(ids(task_runs.list_task_runs(c, ALL, chosen, sort))) == expected


def test_a_pending_task_run_says_why_in_words(c: Connection) -> None:
    found = {run["id"]: run for run in task_runs.list_task_runs(c, ALL, T(run="living"))["items"]}
    assert found["b"]["reason"] == "DependencyNeverSatisfied"
    assert "did not end well" in found["b"]["reason_words"]
    assert (found["a"]["reason"], found["a"]["node"], found["a"]["cluster"]) == (None, "c7", "mock")
    assert found["a"]["queued"] == NOW - 79


def test_a_task_run_in_detail_knows_its_attempts_and_neighbours(c: Connection) -> None:
    found = task_runs.task_run(c, ALL, "t0")
    assert found is not None
    assert [(a["attempt"], a["started"], a["ended"], a["node"]) for a in found["attempts"]] == [
        (1, 6.0, 7.0, "c1"),
        (2, 8.0, 9.0, "c1"),
    ]
    assert [run["id"] for run in found["downstream"]] == ["t2"]
    after = task_runs.task_run(c, ALL, "t2")
    assert after is not None
    assert [run["name"] for run in after["upstream_runs"]] == ["train-t0", "train-t1", "train-t3"]
    kept = task_runs.output(c, ALL, "t0")
    assert kept is not None
    assert kept["text"] == "the end of it"
    assert task_runs.output(c, ALL, "t1") is None
    assert (found["has_output"], after["has_output"]) == (True, False)


def test_nobody_sees_what_is_not_theirs(c: Connection) -> None:
    for sight, seen in ((ADA, {"run-1", "living", "sub"}), (BOB, {"bobs"})):
        assert set(ids(flow_runs.list_flow_runs(c, sight, F(parent="any")))) == seen
    assert flow_runs.flow_run(c, BOB, "run-1") is None
    assert flow_runs.counts(c, BOB, "run-1") is None
    assert flow_runs.root_of(c, BOB, "run-1") is None
    assert timelines.timeline(c, BOB, "run-1", timelines.TimelineFilter()) is None
    assert graphs.graph(c, BOB, "run-1") is None
    assert task_runs.task_run(c, BOB, "t0") is None
    assert task_runs.output(c, BOB, "t0") is None
    assert jobs.job(c, BOB, "run-1", "tok") is None
    assert artifacts.artifact(c, BOB, ARTIFACT) is None
    nothing = {"items": [], "total": 0, "next": None}
    for chosen in (T(), T(run="run-1"), T(flow_run="sub"), T(job="77"), T(node="c1")):
        assert task_runs.list_task_runs(c, BOB, chosen) == nothing
    assert jobs.list_jobs(c, BOB, jobs.JobFilter(run="run-1")) == nothing
    assert artifacts.list_artifacts(c, BOB, artifacts.ArtifactFilter()) == nothing
    assert events.list_events(c, BOB, events.EventFilter()) == nothing
    for chosen_logs in (logs.LogFilter(run="run-1"), logs.LogFilter(task_run="t0")):
        assert logs.list_logs(c, BOB, chosen_logs)["items"] == []
    assert jobs.clusters(c, BOB) == []
    assert overview.tags(c, BOB) == [{"tag": "x", "flow_runs": 1}]
    assert overview.versions(c, BOB, ["run-1", "bobs"]).keys() == {"bobs"}
    seen = overview.dashboard(c, BOB)
    assert (seen["attention"], seen["active"], seen["states"]) == ([], [], {"COMPLETED": 1})
    assert ids(flow_runs.list_flow_runs(c, Sight(1, projects=frozenset({3})), F(owner="bob")))


def test_a_timeline_has_a_row_for_each_attempt(c: Connection) -> None:
    chosen = timelines.TimelineFilter()
    told = timelines.timeline(c, ALL, "run-1", chosen)
    assert told is not None
    rows = [(r["id"], r["attempt"], r["queued"], r["started"], r["ended"]) for r in told["rows"]]
    assert rows[:3] == [
        ("t0", 1, 4.0, 6.0, 7.0),
        ("t0", 2, None, 8.0, 9.0),
        ("t1", 1, 4.0, 8.0, 10.0),
    ]
    assert (told["begin"], told["end"]) == (2.0, 17.0)
    living = timelines.timeline(c, ALL, "living", chosen)
    assert living is not None
    assert living["end"] >= NOW
    assert [row["walltime"] for row in living["rows"]] == [60, 60, None]
    assert timelines.timeline(c, ALL, "sub", timelines.TimelineFilter(task="none")) == {
        "mode": "rows", "rows": [], "begin": None, "end": None,
    }  # fmt: skip
    zoomed = timelines.TimelineFilter(begin=9.5, end=11)
    assert [r["id"] for r in timelines.timeline(c, ALL, "run-1", zoomed)["rows"]] == ["t1"]  # type: ignore[index]
    with pytest.raises(ValueError, match="limit is from 1"):
        timelines.timeline(c, ALL, "run-1", timelines.TimelineFilter(limit=0))


def test_a_long_timeline_is_counted_in_steps(c: Connection) -> None:
    told = timelines.timeline(c, ALL, "run-1", timelines.TimelineFilter(limit=1))
    assert told is not None
    assert (told["mode"], told["begin"], told["end"]) == ("bins", 2.0, 17.0)
    train = next(task for task in told["tasks"] if task["task"] == "train")

    def at(moment: float) -> tuple[int, ...]:
        step = int((moment - told["begin"]) / told["step"])
        return tuple(train[name][step] for name in ("waiting", "queued", "running", "ended"))

    assert {len(train[name]) for name in ("waiting", "queued", "running", "ended")} == {240}
    assert at(3) == (2, 0, 0, 0)
    assert at(5) == (0, 2, 0, 0)
    assert at(8.5) == (0, 0, 2, 0)
    assert at(9.5) == (0, 0, 1, 1)
    assert at(13) == (1, 0, 0, 2)
    assert at(16.99) == (0, 0, 0, 3)
    cut = timelines.TimelineFilter(limit=1, begin=8.5, end=9.6)
    part = timelines.timeline(c, ALL, "run-1", cut)
    assert part is not None
    assert part["tasks"][0]["ended"][-1] == 1  # what comes after the stretch is not counted


def test_a_graph_has_a_node_for_each_task_and_opens_them(c: Connection) -> None:
    folded = graphs.graph(c, ALL, "living")
    assert folded is not None
    assert [(n["id"], n["kind"], n["total"]) for n in folded["nodes"]] == [
        ("tasks:train", "tasks", 2),
        ("tasks:score", "tasks", 1),
    ]
    assert folded["edges"] == [["tasks:train", "tasks:score", 2]]
    opened = graphs.graph(c, ALL, "living", ("train", "unknown"))
    assert opened is not None
    assert sorted(opened["edges"]) == [["a", "tasks:score", 1], ["b", "tasks:score", 1]]
    both = graphs.graph(c, ALL, "living", ("train", "score"))
    assert both is not None
    assert sorted(both["edges"]) == [["a", "c", 1], ["b", "c", 1]]
    outer = graphs.graph(c, ALL, "run-1")
    assert outer is not None
    flow = next(node for node in outer["nodes"] if node["kind"] == "flow")
    assert (flow["id"], flow["flow_run"], flow["total"]) == ("sub", "sub", 1)
    # Its task has called the subflow, and three of its runs are taken by a task within.
    assert outer["edges"] == [["tasks:train", "sub", 4]]
    assert all(node["flow_run"] is None for node in outer["nodes"] if node["kind"] != "flow")
