"""Caching, limits, job facts, artifacts, output, HDF5, rollback, generators on a real Slurm."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from api_flows import count_up
from kept_flows import fail, field, second_time, square
from limit_flows import most_at_once, tagged
from observed_tasks import leave, look, shout

from hpc_flows import Resources, flow
from hpc_flows.artifacts import Artifact, create_progress_artifact, store
from hpc_flows.concurrency.limits import create_tag_limit, get_limit
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.shell import shell_run_command
from hpc_flows.transactions import transaction
from hpc_flows.variables import Variable

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_site.fixtures import SlurmSite

    from hpc_flows.journal.event import Event

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

SMALL = Resources(cpus=1, memory="100M", walltime="5m")


@pytest.fixture(autouse=True)
def active(slurm_site: SlurmSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "generic_slurm")


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def events(home: Path, kind: str) -> list[Event]:
    """Return the events of a kind in all runs, run by run."""
    runs = [read_run(str(path)) for path in sorted(home.glob("runs/*"))]
    return [event for run in runs for event in run if event.kind == kind]


def test_a_map_that_was_computed_sends_no_job_the_second_time(home: Path, marks: Path) -> None:
    @flow
    def run() -> tuple[list[str], list[int]]:
        futures = square.map(range(4), str(marks))
        futures.wait()
        return [future.state.name for future in futures], futures.result()

    assert run() == (["Completed"] * 4, [0, 1, 4, 9])
    assert len(events(home, "job-intent")) == 1
    assert run() == (["Cached"] * 4, [0, 1, 4, 9])
    assert len(events(home, "job-intent")) == 1
    assert len(list(marks.iterdir())) == 4


def test_a_tag_s_limit_holds_over_the_elements_of_an_array(marks: Path) -> None:
    create_tag_limit("solver", 2)

    @flow
    def six() -> list[int]:
        return list(tagged.map(range(6), str(marks)).result())

    assert six() == list(range(6))
    lines = (marks / "log").read_text().splitlines()
    assert len(lines) == 12
    assert most_at_once(lines) <= 2
    assert get_limit("tag:solver").held_slots() == []


def test_an_element_knows_the_job_that_slurm_made_for_it(home: Path) -> None:
    @flow(flow_run_name="f")
    def main() -> list[dict[str, Any]]:
        return list(look.map(range(2)).result())

    found = main()
    (submitted,) = events(home, "job-submitted")
    for index, facts in enumerate(found):
        assert (facts["task"], facts["flow"]) == (f"look-{index}", "f")
        assert facts["array_index"] == index
        assert facts["array_job_id"] == str(submitted.data["job"])
        assert facts["id"] == f"{facts['array_job_id']}_{index}"
        assert facts["nodes"] == [facts["node"]]
        assert facts["partition"]
        assert (facts["cpus"], facts["memory"], facts["gpus"]) == (2, 100 << 20, 0)
        left = facts["deadline"] - dt.datetime.now(dt.UTC)
        assert dt.timedelta(0) < left <= dt.timedelta(minutes=6)
        assert 0 < facts["seconds_left"] <= 360
        assert facts["restart_count"] == 0


def test_what_a_job_leaves_is_found_by_the_flow(home: Path) -> None:
    @flow
    def main() -> int:
        Variable.set("start", 41)
        return int(leave(str(create_progress_artifact(0.0))))

    assert main() == 42
    assert Variable.get("counted") == 42
    (run,) = home.glob("runs/*")
    assert Artifact.get("from-a-job").run == run.name
    progress, _ = store.of_run(str(home), str(run))
    assert (progress.type, progress.data) == ("progress", 75.0)
    (event,) = events(home, "event")
    assert event.data["name"] == "job.was.here"
    assert event.data["task_run"] == Artifact.get("from-a-job").task_run_id


def test_the_output_of_a_jobs_children_is_its_task_s_log(home: Path) -> None:
    @flow
    def main() -> str:
        return str(shout("a"))

    assert main() == "a"
    logged = [event.data["message"] for event in events(home, "log")]
    assert [line for line in logged if line.startswith("a ")] == ["a printed", "a echoed"]


def test_commands_run_in_a_job_and_their_lines_are_its_log(home: Path) -> None:
    @flow
    def main() -> Any:
        run = shell_run_command.with_options(resources=SMALL)
        return run('echo "here"; echo "$SLURM_JOB_ID"', return_all=True)

    first, job = main()
    (submitted,) = events(home, "job-submitted")
    assert (first, job) == ("here", str(submitted.data["job"]))
    assert "here" in [event.data["message"] for event in events(home, "log")]


@pytest.mark.parametrize("size", [10, 20_000])
def test_the_flow_reads_slices_of_the_file_that_a_job_has_written(home: Path, size: int) -> None:
    pytest.importorskip("h5py")

    @flow
    def main() -> list[float]:
        future = field.submit(size)
        with future.result_handle() as handle:
            assert handle.path.startswith(str(home / "storage"))
            part = handle["t"]
            assert part.shape == (size,)
            return list(part[3:6])

    assert main() == [3.0, 4.0, 5.0]


def test_what_a_job_has_done_is_undone_with_its_transaction(home: Path, marks: Path) -> None:
    @flow
    def main() -> None:
        with transaction():
            second_time(str(marks))
            assert [path.name for path in marks.iterdir()] == ["tried"]
            fail.with_options(resources=None)()

    state = main(return_state=True)
    assert state.is_failed()
    assert list(marks.iterdir()) == []
    (run,) = home.glob("runs/*")
    assert replay(read_run(str(run))).counts["second_time"] == {"RolledBack": 1}


def test_a_generator_with_resources_hands_over_what_its_job_has_yielded() -> None:
    @flow
    def main() -> tuple[list[int], list[list[int]]]:
        return list(count_up(3)), list(count_up.map([1, 2]).result())

    assert main() == ([0, 1, 2], [[0], [0, 1]])
