"""Parts of the relay: cursors, attachments, orders, surveys, standings, frames."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from relay_doubles import Journal

from hpc_flows.client.errors import NoServer
from hpc_flows.client.requests import Client
from hpc_flows.journal.event import encode, seal
from hpc_flows.reporting.attachments import Attachments, read_within
from hpc_flows.reporting.cursors import Cursor, CursorFolder, WriterCursor
from hpc_flows.reporting.file_sink import FileSink
from hpc_flows.reporting.frames import (
    Frame,
    FrameError,
    batch_of,
    read_frame,
    spans_of,
    write_frame,
)
from hpc_flows.reporting.orders import deliver
from hpc_flows.reporting.server_sink import ServerSink
from hpc_flows.reporting.sink import Batch, Line, Order, RunAbout, SinkRefusal, SinkTrouble
from hpc_flows.reporting.standing import Standing, standings
from hpc_flows.reporting.survey import (
    Surveys,
    elements,
    read_partitions,
    read_queue,
    summed_up,
    take_survey,
)
from hpc_flows.reporting.watching import has_open_jobs
from hpc_flows.server.shapes.reports import About

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def journal(home: Path) -> Iterator[Journal]:
    made = Journal(home)
    yield made
    made.close()


# Cursors ------------------------------------------------------------------------------------------


def test_a_server_of_this_machine_that_was_stopped_is_asked_for_again_soon() -> None:
    found = [Client("http://127.0.0.1:9", "hpcf_0123456789ab_" + "x" * 43)]

    def find() -> Client:
        if not found:
            raise NoServer("none runs on this machine")
        return found.pop()

    sink = ServerSink(find, "http://127.0.0.1:9")
    with pytest.raises(SinkTrouble, match="none runs"):
        sink.open()
    sink.close()


def test_a_run_in_a_folder_of_any_name_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def ask(_sink: ServerSink, _method: str, _path: str, content: Any) -> Any:
        told.append(content)
        return SimpleNamespace(json=lambda: {"epoch": "e"})

    monkeypatch.setattr(ServerSink, "_ask", ask)
    sink = ServerSink(lambda: Client("http://127.0.0.1:9", None), "a server")
    facts = {"cwd": os.fsdecode(b"/data/m\xe9sures"), "flow": "a\0b", "name": "n" * 9999, "pid": 7}
    assert sink.register(RunAbout("run-1", "/home/runs/run-1", facts)) == "e"
    taken = About.model_validate_json(json.dumps(told[0]))
    assert (taken.cwd, taken.flow, taken.pid) == ("/data/m?sures", "a?b", 7)
    sink.close()


def test_a_cursor_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = CursorFolder(str(tmp_path))
    cursor = Cursor("run-1", {"driver": WriterCursor(17, 3), "x": WriterCursor()}, "e", True)
    cursor.due = [("script", "hf-1", "jobs/hf-1/script.sh")]
    cursor.parked = [("driver", 5, 12)]
    store.save(cursor)
    assert store.load("run-1") == cursor
    assert store.runs() == ["run-1"]
    store.forget("run-1")
    assert store.load("run-1") == Cursor("run-1")


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"run": "run-2"}, {"writers": {"driver": [-1, 0]}}, {"writers": []}, {"due": [1]}],
)
def test_a_cursor_with_wrong_content_is_as_good_as_none(
    change: dict[str, Any], tmp_path: Path
) -> None:
    store = CursorFolder(str(tmp_path))
    store.save(Cursor("run-1", {"driver": WriterCursor(17, 3)}))
    content = seal(encode({**Cursor("run-1").to_dict(), **change}).encode())
    (tmp_path / "cursors" / "run-1.cursor").write_bytes(content)
    assert store.load("run-1") == Cursor("run-1")


# Attachments --------------------------------------------------------------------------------------


def _line(kind: str, data: dict[str, Any], writer: str = "driver") -> Line:
    facts = {"v": 1, "run": "run-0001", "writer": writer, "seq": 1, "wall": 1.0, "mono": 1.0}
    return Line(writer, seal(encode({**facts, "kind": kind, "data": data}).encode())[:-1])


def test_scripts_outputs_and_artifacts_are_noted(journal: Journal) -> None:
    cursor = Cursor(journal.run)
    found = Attachments(RunAbout(journal.run, journal.folder), cursor)
    state = {"subject": "task", "id": "t1", "type": "FAILED", "name": "Failed", "attempt": 1}
    lines = [
        _line("job-intent", {"token": "hf-a-b", "cluster": "afton", "script": "/x/script.sh"}),
        _line("state", state, "hf-a-b-7-0"),
        _line("state", {**state, "type": "RUNNING"}, "hf-a-b-8-0"),
        _line("state", {**state, "id": "t2", "details": {"output": "/x/out"}}),
        _line("state", {**state, "id": "t3"}),
        _line("artifact", {"id": "a1", "file": "runs/run-0001/artifacts/a1.json"}),
        _line("artifact", {"id": "a2", "data": "small"}),
    ]
    found.note(lines)
    found.note(lines)
    assert cursor.due == [
        ("script", "hf-a-b", "/x/script.sh"),
        ("output", "t1", "jobs/hf-a-b/out-7.log"),
        ("output", "t2", "/x/out"),
        ("artifact", "a1", "artifacts/a1.json"),
    ]
    assert cursor.clusters == ["afton"]


def test_only_files_of_the_run_are_read(journal: Journal, tmp_path: Path) -> None:
    folder = Path(journal.folder)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "jobs" / "link").symlink_to(secret)
    (folder / "jobs" / "out").write_text("fine")
    assert read_within(str(folder), "jobs/out", tail=True) == b"fine"
    assert read_within(str(folder), str(folder / "jobs" / "out"), tail=False) == b"fine"
    for path in ("jobs/link", str(secret), "../../../secret", "jobs/none", "jobs"):
        assert read_within(str(folder), path, tail=True) is None
    os.mkfifo(folder / "jobs" / "fifo")
    assert not read_within(str(folder), "jobs/fifo", tail=True)


def test_of_a_long_output_the_last_whole_lines_are_read(journal: Journal) -> None:
    path = Path(journal.folder, "jobs", "out")
    path.write_text("".join(f"line {number}\n" for number in range(50_000)))
    found = read_within(journal.folder, str(path), tail=True)
    assert found is not None
    assert len(found) <= 64 * 1024
    assert found.startswith(b"line ")
    assert found.endswith(b"line 49999\n")


# Orders -------------------------------------------------------------------------------------------


def test_an_order_becomes_a_request_to_the_driver(journal: Journal, home: Path) -> None:
    journal.write(1)
    order = Order("c1", journal.run, "cancel", "enough", "ada", "sub-1")
    before = time.time()
    assert deliver(order, str(home))[0] == "delivered"
    path = Path(journal.folder, "control", "cancel")
    asked = json.loads(path.read_text())
    assert (asked["reason"], asked["by"], asked["id"]) == ("enough", "ada", "c1")
    assert asked["flow_run"] == "sub-1"
    assert before - 1 <= asked["asked"] <= time.time() + 1
    assert path.stat().st_mode & 0o077 == 0
    assert os.listdir(path.parent) == ["cancel"]


@pytest.mark.parametrize("run", ["../../etc", "", "unknown", "a/b", "\0", ".", "run-0001/.."])
def test_orders_for_what_is_no_run_of_this_home_are_refused(
    run: str, journal: Journal, home: Path
) -> None:
    assert journal.run
    assert deliver(Order("c1", run, "cancel"), str(home))[0] == "refused"


def test_an_action_that_no_driver_knows_is_refused(journal: Journal, home: Path) -> None:
    assert deliver(Order("c1", journal.run, "../key"), str(home))[0] == "refused"
    assert os.listdir(Path(journal.folder, "control")) == []


def test_a_run_that_has_ended_or_lost_its_driver_is_told(journal: Journal, home: Path) -> None:
    journal.end()
    status, message = deliver(Order("c1", journal.run, "cancel"), str(home))
    assert status == "failed"
    assert "ended already: Completed" in message
    lost = Journal(home, "run-0002")
    lost.close()
    about = json.loads(Path(lost.folder, "run.json").read_text())
    Path(lost.folder, "run.json").write_text(json.dumps({**about, "pid": 2**22 + 1}))
    status, message = deliver(Order("c1", lost.run, "cancel"), str(home))
    assert status == "failed"
    assert "is gone" in message


# Runs ---------------------------------------------------------------------------------------------


def test_jobs_whose_driver_is_gone_may_live_until_all_their_task_runs_have_ended(
    journal: Journal,
) -> None:
    assert not has_open_jobs(journal.folder)
    writer = journal.writer()
    writer.write("task-run", {"id": "t1", "name": "t", "task": "t", "key": "k", "flow_run": "f"})
    intent = {"token": "hf-a", "cluster": "c", "scheduler": "slurm", "task_runs": ["t1"]}
    writer.write("job-intent", {**intent, "script": "s", "resources": {}})
    assert has_open_jobs(journal.folder)
    state = {"subject": "task", "id": "t1", "type": "COMPLETED", "name": "Completed", "attempt": 1}
    journal.writer("hf-a-0-0").write("state", state)
    assert not has_open_jobs(journal.folder)


# Surveys ------------------------------------------------------------------------------------------

QUEUE = """\
standard,gpu|PENDING|ada|7_[1-99%5]|Priority
standard|RUNNING|ada|7_0|None
standard|RUNNING|bob|8|None
gpu|PENDING|bob|9|(ReqNodeNotAvail|UnavailableNodes:n1)
gpu|COMPLETING|bob|10|None
not a line of ours
"""
NODES = "standard|3/1/0/4|100/28/0/128\ngpu|0/2/0/2|0/1.5K/0/1.5K\nbad|x|y\n"


def test_a_survey_sums_up_queue_and_partitions() -> None:
    survey = summed_up(read_queue(QUEUE), read_partitions(NODES), "ada")
    rows = {row["name"]: row for row in survey["partitions"]}
    assert rows["standard"] == {
        "name": "standard",
        "nodes": 4,
        "idle_nodes": 1,
        "cpus": 128,
        "idle_cpus": 28,
        "pending": 99,
        "running": 2,
    }
    assert (rows["gpu"]["pending"], rows["gpu"]["running"]) == (100, 1)
    assert rows["gpu"]["cpus"] == 1500
    assert survey["queue"]["pending"] == 100
    assert survey["queue"]["reasons"] == {
        "Priority": 99,
        "ReqNodeNotAvail|UnavailableNodes:n1": 1,
    }
    assert survey["mine"] == {"pending": 99, "running": 1}
    assert survey["error"] is None


@pytest.mark.parametrize(
    ("id_", "count"),
    [("7", 1), ("7_3", 1), ("7_[0-9]", 10), ("7_[0-9:3,20]", 5), ("7_[1,5,...]", 3), ("7_[]", 1)],
)
def test_ids_of_arrays_stand_for_as_many_jobs(id_: str, count: int) -> None:
    assert elements(id_) == count


def test_a_survey_is_taken_once_for_all_relays_of_a_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def take(name: str) -> dict[str, Any]:
        taken.append(name)
        return {"time": time.time(), "error": None}

    monkeypatch.setattr("hpc_flows.reporting.survey.take_survey", take)
    first, second = Surveys(str(home)), Surveys(str(home))
    end = time.monotonic() + 120
    while not first.of(["afton"]) and time.monotonic() < end:
        time.sleep(0.02)
    assert set(second.of(["afton"])) == {"afton"}
    assert taken == ["afton"]


def test_a_cluster_that_is_not_known_is_told_in_the_survey() -> None:
    survey = take_survey("nowhere-at-all")
    assert "nowhere-at-all" in survey["error"]
    assert survey["queue"] is None


# Standings, files, frames -------------------------------------------------------------------------


def test_standings_of_relays_that_were_killed_are_swept(home: Path) -> None:
    Standing(str(home), "login-a-1").write({"sink": "a", "relay": "1"})
    (found,) = standings(str(home))
    assert found["lives"] is True
    path = home / "relay" / "status" / "login-a-1.json"
    facts = json.loads(path.read_text())
    facts["holder"] = facts["holder"].replace(f"pid={os.getpid()}", f"pid={2**22 + 1}")
    path.write_text(json.dumps(facts))
    assert standings(str(home)) == []
    assert not path.exists()


def test_a_file_that_was_torn_by_a_full_disk_goes_on_with_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"torn")
    sink = FileSink(str(path))
    sink.open()
    line = _line("log", {"message": "x"})
    sink.send(Batch(RunAbout("run-0001", ""), [line]))
    assert path.read_bytes() == b"torn\n" + line.text + b"\n"


def test_a_file_that_cannot_be_written_says_which_setting_it_is(tmp_path: Path) -> None:
    with pytest.raises(SinkRefusal, match="report_file"):
        FileSink(str(tmp_path / "none" / "events")).open()


def test_frames_are_read_as_they_were_written() -> None:
    stream = io.BytesIO()
    lines = [_line("log", {"n": n}, writer) for n, writer in enumerate(["a", "a", "b", "a"])]
    assert spans_of(lines) == [("a", 2), ("b", 1), ("a", 1)]
    head = {"call": "send", "run": {"id": "run-0001"}, "spans": spans_of(lines)}
    write_frame(stream, head, Batch(RunAbout("run-0001", ""), lines).body)
    stream.seek(0)
    frame = read_frame(stream)
    assert frame is not None
    assert list(batch_of(frame).lines) == lines
    assert read_frame(stream) is None


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"5\n",
        b"1 2 3\n",
        b"-1 5\n",
        b"99999999999 0\n",
        b"5 0\n{}",
        b"2 0\n[]",
        b"2 0\n{x",
        b"2 9\n{}123",
    ],
)
def test_what_is_no_frame_is_told(content: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(content))


def test_a_batch_whose_lines_are_not_as_announced_is_no_batch() -> None:
    head = {"run": {"id": "run-0001"}, "spans": [["a", 2]]}
    with pytest.raises(FrameError, match="1 lines"):
        batch_of(Frame(head, _line("log", {}).text + b"\n"))
