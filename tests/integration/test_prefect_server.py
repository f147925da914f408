"""A real Prefect server shows our runs: states, times, logs and graph; a replay changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import RunView, replay
from hpc_flows.reporting.prefect import PrefectSink
from hpc_flows.reporting.sink import Batch, Line, RunAbout, SinkRefusal, SinkTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.prefect_server import PrefectServer

#: The first test waits for Prefect's environment, and for the server.
pytestmark = pytest.mark.timeout(600)

PROGRAM = Path(__file__).with_name("prefect_flow.py")


class Reported(NamedTuple):
    """A run as we know it, and as the server shows it."""

    view: RunView
    batch: Batch
    flow_run: dict[str, Any]
    tasks: dict[str, dict[str, Any]]


def _run_flow(home: Path, **env: str) -> str:
    """Run the flow on the mock cluster; return the folder of its run."""
    settings = {"HPC_FLOWS_HOME": str(home), "HPC_FLOWS_CLUSTER": "mock", **env}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HPC_FLOWS_")}
    whole = kept | settings
    try:
        argv = [sys.executable, str(PROGRAM)]
        done = subprocess.run(argv, env=whole, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "has reached" not in done.stderr, done.stderr[-3000:]
    finally:
        stop = [sys.executable, "-m", "hpc_flows", "mock", "stop"]
        subprocess.run(stop, env=whole, capture_output=True, check=False)
    (folder,) = (home / "runs").iterdir()
    return str(folder)


def _batch(folder: str, lines: list[Line] | None = None) -> Batch:
    found = [
        Line(path.stem, text)
        for path in sorted(Path(folder, "journal").glob("*.jsonl"))
        for text in path.read_bytes().split(b"\n")[:-1]
    ]
    about = RunAbout(os.path.basename(folder), folder)
    return Batch(about, found if lines is None else lines)


def _until(found: Callable[[], Any], seconds: float = 150.0) -> Any:
    """Return what is found once it is something: events are recorded when the server has time."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, "the server has not recorded what it was told"
        time.sleep(0.2)
    return answer


def _flow_run(server: PrefectServer, run: str) -> dict[str, Any] | None:
    key = {"flow_runs": {"idempotency_key": {"any_": [f"hpc-flows-{run}"]}}}
    return next(iter(server.post("/flow_runs/filter", key)), None)


def _tasks(server: PrefectServer, flow_run: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    found: list[dict[str, Any]] = server.post("/task_runs/filter", wanted)
    return found


def _shown(server: PrefectServer, run: str, count: int) -> list[dict[str, Any]]:
    """Return the task runs of a run, once there are so many and all have ended."""

    def ended() -> list[dict[str, Any]]:
        flow_run = _flow_run(server, run)
        tasks = _tasks(server, flow_run) if flow_run else []
        finals = [task for task in tasks if task["end_time"]]
        return tasks if len(finals) == count else []

    found: list[dict[str, Any]] = _until(ended)
    return found


def _send(server: PrefectServer, batch: Batch, state: Path | None = None, **options: Any) -> None:
    sink = PrefectSink(server.url, **options)
    sink.state_folder = str(state or "")
    try:
        sink.open()
        sink.register(batch.run)
        assert _sent(sink, batch).refused == 0
        sink.finish(batch.run)
    finally:
        sink.close()


def _sent(sink: PrefectSink, batch: Batch) -> Any:
    """Send a batch as a relay does: again where the server is behind."""
    end = time.monotonic() + 150
    while True:
        try:
            return sink.send(batch)
        except SinkTrouble:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture(scope="module")
def reported(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = _run_flow(tmp_path_factory.mktemp("home"))
    batch, view = _batch(folder), replay(read_run(folder))
    _send(prefect_server, batch)
    tasks = _shown(prefect_server, batch.run.id, 8)
    flow_run = _flow_run(prefect_server, batch.run.id)
    assert flow_run is not None
    return Reported(view, batch, flow_run, {task["id"]: task for task in tasks})


def test_the_flow_run_has_its_state_its_name_and_its_true_times(reported: Reported) -> None:
    root = reported.view.root
    assert root is not None
    shown = reported.flow_run
    assert (shown["name"], shown["state_name"]) == (root.name, "Completed")
    assert shown["parameters"] == {"count": "3"}
    assert root.started is not None
    assert root.ended is not None
    assert _at(shown["labels"]["hpc.started"]) == pytest.approx(root.started, abs=1e-5)
    assert _at(shown["labels"]["hpc.ended"]) == pytest.approx(root.ended, abs=1e-5)


def test_task_runs_have_our_ids_states_and_times(reported: Reported) -> None:
    root = reported.view.run_id
    ours = {r.id: r for r in reported.view.task_runs.values() if r.flow_run_id == root}
    theirs = {id_: task for id_, task in reported.tasks.items() if task["name"] != "inner"}
    assert ours.keys() == theirs.keys()
    for id_, run in ours.items():
        task = theirs[id_]
        first = min(wall for wall, type_, _ in run.history if type_ == "RUNNING")
        assert (task["name"], task["state_name"]) == (run.name, run.state_name)
        assert _at(task["start_time"]) == pytest.approx(first, abs=1e-4)
        assert _at(task["end_time"]) == pytest.approx(run.ended, abs=1e-4)
        assert task["run_count"] == run.attempt


def test_each_state_of_a_retried_task_is_kept(
    reported: Reported, prefect_server: PrefectServer
) -> None:
    (shaky,) = (task for task in reported.tasks.values() if task["name"].startswith("shaky"))
    states = prefect_server.get(f"/task_run_states/?task_run_id={shaky['id']}")
    ordered = [state["name"] for state in sorted(states, key=lambda s: s["timestamp"])]
    retry = ["AwaitingRetry", "Retrying"]
    assert ordered == ["Pending", "Running", *retry, *retry, "Completed"]
    (bad,) = (task for task in reported.tasks.values() if task["name"].startswith("bad"))
    assert "RuntimeError: never" in bad["state"]["message"]


def test_what_ran_on_the_cluster_tells_its_job(reported: Reported) -> None:
    squares = [task for task in reported.tasks.values() if task["name"].startswith("square")]
    assert len(squares) == 3
    assert {task["labels"]["slurm.array_task_id"] for task in squares} == {"0", "1", "2"}
    for task in squares:
        told = task["labels"]
        assert (told["hpc.cluster"], told["slurm.partition"]) == ("mock", "standard")
        assert told["slurm.node"]
        assert told["hpc.cpus"] == 1
        assert task["tags"] == ["grid"]


def test_the_graph_has_the_edges_and_the_subflow(
    reported: Reported, prefect_server: PrefectServer
) -> None:
    graph = prefect_server.get(f"/flow_runs/{reported.flow_run['id']}/graph-v2")
    nodes = {node["id"]: node for _, node in graph["nodes"]}
    assert sorted(node["kind"] for node in nodes.values()) == ["flow-run", *["task-run"] * 7]
    (total,) = (node for node in nodes.values() if node["label"].startswith("total"))
    above = {nodes[parent["id"]]["label"].partition("-")[0] for parent in total["parents"]}
    assert len(total["parents"]) == 3
    assert above == {"square"}
    (child,) = (node for node in nodes.values() if node["kind"] == "flow-run")
    inner = prefect_server.get(f"/flow_runs/{child['id']}/graph-v2")
    assert [node["label"].partition("-")[0] for _, node in inner["nodes"]] == ["total"]


def test_logs_have_their_times_and_their_task_runs(
    reported: Reported, prefect_server: PrefectServer
) -> None:
    logs = _logs(prefect_server, reported.flow_run)
    ours = [e for e in reported.view.logs if e.data.get("flow_run") == reported.view.run_id]
    assert len(logs) == len(ours)
    (loading,) = (log for log in logs if log["message"] == "loading 3")
    (event,) = (e for e in ours if e.data["message"] == "loading 3")
    assert loading["task_run_id"] == event.data["task_run"]
    assert _at(loading["timestamp"]) == pytest.approx(event.wall, abs=1e-5)


def _logs(server: PrefectServer, flow_run: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {"logs": {"flow_run_id": {"any_": [flow_run["id"]]}}, "sort": "TIMESTAMP_ASC"}
    found: list[dict[str, Any]] = server.post("/logs/filter", wanted)
    return found


def _artifacts(server: PrefectServer, flow_run: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {"artifacts": {"flow_run_id": {"any_": [flow_run["id"]]}}, "sort": "KEY_ASC"}
    found: list[dict[str, Any]] = server.post("/artifacts/filter", wanted)
    return found


def test_artifacts_have_their_newest_data(
    reported: Reported, prefect_server: PrefectServer
) -> None:
    shown = _artifacts(prefect_server, reported.flow_run)
    assert [(a["key"], a["type"], a["data"]) for a in shown] == [
        ("note", "markdown", "# hello"),
        ("progress", "progress", 60),
    ]


def _everything(server: PrefectServer, flow_run: dict[str, Any]) -> list[Any]:
    tasks = sorted(_tasks(server, flow_run), key=lambda task: str(task["id"]))
    return [
        server.get(f"/flow_runs/{flow_run['id']}") | {"updated": None, "estimated_run_time": 0},
        [task | {"updated": None} for task in tasks],
        [len(server.get(f"/task_run_states/?task_run_id={task['id']}")) for task in tasks],
        server.get(f"/flow_run_states/?flow_run_id={flow_run['id']}"),
        _logs(server, flow_run),
        _artifacts(server, flow_run),
    ]


@pytest.mark.parametrize("order", [1, -1], ids=["as it was", "jobs and ends first"])
def test_a_replay_from_a_lost_cursor_changes_nothing(
    reported: Reported, prefect_server: PrefectServer, order: int
) -> None:
    before = _everything(prefect_server, reported.flow_run)
    _send(prefect_server, _batch(reported.batch.run.folder, list(reported.batch.lines)[::order]))
    # Time for the recorder to do what it should not.
    time.sleep(2)
    assert _everything(prefect_server, reported.flow_run) == before


def test_a_driver_reports_by_itself_when_prefects_variable_is_set(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    folder = _run_flow(tmp_path / "home", PREFECT_API_URL=prefect_server.url)
    run = os.path.basename(folder)
    shown = _shown(prefect_server, run, 8)
    assert sorted({task["state_name"] for task in shown}) == ["Completed", "Failed"]
    flow_run = _flow_run(prefect_server, run)
    assert flow_run is not None
    assert flow_run["state_name"] == "Completed"


def test_a_run_that_was_not_reported_is_sent_by_hand(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    folder = _run_flow(home)
    env = {"HPC_FLOWS_HOME": str(home), "PREFECT_API_URL": prefect_server.url}
    for _ in range(2):
        argv = [sys.executable, "-m", "hpc_flows", "relay", "once"]
        whole = dict(os.environ) | env
        done = subprocess.run(argv, env=whole, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
    shown = _shown(prefect_server, os.path.basename(folder), 8)
    assert sorted({task["state_name"] for task in shown}) == ["Completed", "Failed"]


def test_a_relay_that_is_hours_late_tells_the_true_times(prefect_server: PrefectServer) -> None:
    journal = _journal(begin=time.time() - 6 * 3600)
    _send(prefect_server, journal.batch())
    (task,) = _shown(prefect_server, journal.run, 1)
    assert _at(task["start_time"]) == pytest.approx(journal.begin + 0.4, abs=1e-3)
    assert task["total_run_time"] == pytest.approx(0.1, abs=1e-3)
    assert [log["message"] for log in _logs(prefect_server, _found(prefect_server, journal))] == [
        "six hours ago"
    ]


def test_states_of_one_moment_are_all_recorded(prefect_server: PrefectServer) -> None:
    journal = _journal(at=5.0)
    _send(prefect_server, journal.batch())
    (task,) = _shown(prefect_server, journal.run, 1)
    states = prefect_server.get(f"/task_run_states/?task_run_id={task['id']}")
    assert len(states) == 3
    assert task["state_name"] == "Completed"


def test_a_task_outside_of_any_flow_is_shown_too(prefect_server: PrefectServer) -> None:
    journal = _journal()
    lines = [line for line in journal.lines if b'"flow-run"' not in line.text]
    task = next(e for e in journal.batch().events() if e.kind == "task-run").data["id"]
    about = RunAbout(journal.run, "", {"id": journal.run, "task": "square"})
    for _ in range(2):
        _send(prefect_server, Batch(about, lines))
    shown = _until(lambda: _get(prefect_server, f"/task_runs/{task}"))
    _until(lambda: _get(prefect_server, f"/task_runs/{task}")["state_name"] == "Completed")
    assert shown["flow_run_id"] is None
    wanted = {"logs": {"task_run_id": {"any_": [task]}}}
    assert len(prefect_server.post("/logs/filter", wanted)) == 0
    assert len(prefect_server.get(f"/task_run_states/?task_run_id={task}")) == 3


def test_many_runs_of_a_task_are_shown_as_one_with_counts(prefect_server: PrefectServer) -> None:
    journal = _journal(runs=30)
    _send(prefect_server, journal.batch(), most=5)
    shown = _shown(prefect_server, journal.run, 6)
    (group,) = (task for task in shown if task["name"] == "square (more)")
    assert group["state"]["message"] == "25 more runs of square: 25 Completed"
    assert group["labels"]["hpc.count.Completed"] == 25
    (progress,) = _artifacts(prefect_server, _found(prefect_server, journal))
    assert (progress["type"], progress["data"]) == ("progress", 100)


@pytest.mark.parametrize(
    "names",
    [
        ["Running", "Paused", "Running", "Completed"],
        ["Running", "Cancelling", "Cancelled"],
        ["Running", "AwaitingRetry", "Retrying", "Failed"],
        ["Running", "OutOfMemory"],
        ["Cancelled"],
    ],
    ids=" ".join,
)
def test_a_flow_run_goes_through_the_states_that_ours_went_through(
    prefect_server: PrefectServer, names: list[str]
) -> None:
    journal = _journal()
    for name in names:
        journal.state(name, flow=True, attempt=2 if name in ("Retrying", "Failed") else 1)
    for _ in range(2):  # a second time by somebody who has forgotten the first
        _send(prefect_server, journal.batch())
    flow_run = _found(prefect_server, journal)
    states = prefect_server.get(f"/flow_run_states/?flow_run_id={flow_run['id']}")
    told = [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])]
    assert told == ["Pending", *names]
    assert flow_run["state_name"] == names[-1]


def _found(server: PrefectServer, journal: Any) -> dict[str, Any]:
    flow_run = _flow_run(server, journal.run)
    assert flow_run is not None
    return flow_run


def _journal(begin: float | None = None, at: float | None = None, runs: int = 1) -> Any:
    """Return the journal of a run with some task runs, made up."""
    from hpc_flows.runs import new_id

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
    try:
        from prefect_double import Journal
    finally:
        del sys.path[0]
    journal = Journal(new_id(), time.time() - 60 if begin is None else begin)
    journal.flow(journal.run)
    journal.log("six hours ago")
    for _ in range(runs):
        id_ = new_id()
        journal.task(id_)
        for name in ("Pending", "Running", "Completed"):
            journal.state(name, id_, where={} if at is None else {"at": at})
    return journal


@pytest.fixture(scope="module")
def guarded(prefect_python: Path) -> Iterator[PrefectServer]:
    """Give a server that asks for a password and for tokens against forged requests."""
    from services.prefect_server import PrefectServer

    csrf = {"PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}
    server = PrefectServer(prefect_python, auth="ann:secret", **csrf)
    try:
        yield server.start()
    finally:
        server.remove()


def test_a_guarded_server_takes_who_knows_the_password(guarded: PrefectServer) -> None:
    for auth in (None, "ann:wrong"):
        sink = PrefectSink(guarded.url, auth=auth)
        with pytest.raises(SinkRefusal, match="prefect_api_auth_string"):
            sink.open()
        sink.close()
    journal = _journal()
    sink = PrefectSink(guarded.url, auth="ann:secret")
    sink.open()
    sink.send(journal.batch())
    sink.close()
    # The double of the test asks without such a token, so it only reads.
    flow_run = sink._reports[journal.run]._memory.flow(journal.run).there
    task = next(line for line in journal.batch().events() if line.kind == "task-run").data["id"]
    assert guarded.get(f"/flow_runs/{flow_run}")["state_name"] == "Pending"
    assert _until(lambda: _completed(guarded, task))


def _get(server: PrefectServer, path: str) -> Any:
    from urllib.error import HTTPError

    try:
        return server.get(path)
    except HTTPError as error:
        error.close()
        return None


def _completed(server: PrefectServer, task: str) -> bool:
    """Tell whether the recorder has come to the end of a task run; it takes events one by one."""
    found = _get(server, f"/task_runs/{task}")
    return bool(found) and found["state_name"] == "Completed"


def test_a_server_that_was_down_gets_everything_when_it_is_back(guarded: PrefectServer) -> None:
    journal = _journal()
    batch = journal.batch()
    sink = PrefectSink(guarded.url, auth="ann:secret")
    sink.open()
    sink.send(Batch(batch.run, batch.lines[:4]))
    guarded.stop()
    with pytest.raises(SinkTrouble):
        sink.send(batch)
    guarded.start()
    sink.open()
    sink.send(batch)
    sink.close()
    task = next(event for event in batch.events() if event.kind == "task-run").data["id"]

    assert _until(lambda: _completed(guarded, task))
    assert len(guarded.get(f"/task_run_states/?task_run_id={task}")) == 3


def test_no_event_of_these_tests_choked_the_recorder(prefect_server: PrefectServer) -> None:
    log = prefect_server.log()
    assert not [word for word in ("IntegrityError", "KeyError", "ValidationError") if word in log]
