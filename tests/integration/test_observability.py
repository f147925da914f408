"""Jobs of the mock cluster know themselves, and leave artifacts, events, variables and output."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from observed_tasks import leave, look, shout

from hpc_flows import flow, tags
from hpc_flows.artifacts import Artifact, create_progress_artifact, store
from hpc_flows.cli.main import invoke
from hpc_flows.journal.reader import read_run
from hpc_flows.variables import Variable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


def test_an_array_element_knows_its_job_even_when_its_environment_is_scrubbed(home: Path) -> None:
    @flow(flow_run_name="f")
    def main() -> list[dict[str, Any]]:
        return list(look.map(range(2)).result())

    first, second = main()
    assert (first["task"], first["flow"], second["number"]) == ("look-0", "f", 1)
    assert (first["array_index"], second["array_index"]) == (0, 1)
    assert first["array_job_id"] == second["array_job_id"]
    assert second["id"] == f"{second['array_job_id']}_1"
    assert first["nodes"] == [first["node"]]
    assert first["cluster"] == "mock"
    assert first["partition"]
    assert (first["cpus"], first["memory"], first["gpus"]) == (2, 100 << 20, 0)
    left = first["deadline"] - dt.datetime.now(dt.UTC)
    assert dt.timedelta(0) < left <= dt.timedelta(minutes=6)
    assert 0 < first["seconds_left"] <= 360
    assert first["restart_count"] == 0
    (run,) = (home / "runs").iterdir()
    assert first["token"] == second["token"]
    assert (run / "jobs" / first["token"]).is_dir()


def test_what_a_job_leaves_is_found_by_the_driver(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @flow
    def main() -> int:
        Variable.set("start", 41)
        progress = create_progress_artifact(0.0)
        with tags("from-here"):
            return int(leave(str(progress)))

    assert main() == 42
    assert Variable.get("counted") == 42
    (run,) = (home / "runs").iterdir()
    table = Artifact.get("from-a-job")
    assert table.run == run.name
    assert table.tags == ["from-here"]
    assert len(json.loads(table.data)) == 100
    progress, _ = store.of_run(str(home), str(run))
    assert (progress.type, progress.data, progress.task_run_id) == ("progress", 75.0, None)
    (event,) = [event for event in read_run(str(run)) if event.kind == "event"]
    assert event.data["name"] == "job.was.here"
    assert event.data["task_run"] == table.task_run_id
    assert event.data["tags"] == ["from-here"]
    capsys.readouterr()
    assert invoke(["runs", "show", "latest"]) == 0
    assert "from-a-job" in capsys.readouterr().out


def test_what_jobs_print_and_what_their_children_print_is_logged_by_task(home: Path) -> None:
    @flow
    def main() -> list[str]:
        futures = shout.map(["a", "b"])
        return [f"{future.task_run_id} {future.result()}" for future in futures]

    runs = [line.split() for line in main()]
    (folder,) = (home / "runs").iterdir()
    logs = [event.data for event in read_run(str(folder)) if event.kind == "log"]
    for run, word in runs:
        mine = [log["message"] for log in logs if log.get("task_run") == run]
        assert mine[:2] == [f"{word} printed", f"{word} echoed"]
    (job,) = (folder / "jobs").iterdir()
    output = "".join(path.read_text() for path in sorted(job.glob("out-*.log")))
    assert output.count("a echoed") == output.count("b echoed") == 1
