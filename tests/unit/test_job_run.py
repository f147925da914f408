"""What runs inside a job: the lease, the handshake, the outcome, and what it costs to start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from job_doubles import call_of, run_context, until

from hpc_flows import Resources, flow, task
from hpc_flows.jobs import inside, packing
from hpc_flows.jobs.collect import _bare_task_run, _shared_part
from hpc_flows.jobs.script import Folders
from hpc_flows.journal.reader import read_run
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from hpc_flows.journal.event import Event

TOKEN = "hf-1b4e28ba-00000001"  # noqa: S105 - the name of a submission
RUN = Path(inside.__file__).with_name("run.py")


@task
def double(x: Any) -> Any:
    return 2 * x


@task
def complain(x: str) -> None:
    raise LookupError(x)


@task(retries=1)
def second_time(path: str) -> str:
    if not os.path.exists(path):
        open(path, "x").close()
        raise OSError("first time")
    return "second"


@flow
def doubled(values: list[int]) -> Any:
    return double.map(values).result()


@task
def nested(x: int) -> Any:
    forgotten = double.submit(x)
    own = double(x), double.submit(x).result(), double.map([x, x]).result()
    return own, doubled([x]), forgotten


@task
def whereabouts() -> tuple[str, list[str], str]:
    return os.getcwd(), sys.path, __name__


@task
def unpicklable() -> Any:
    import threading

    return threading.Lock()


@task
def sleep(seconds: float) -> None:
    time.sleep(seconds)


class Node:
    """Runs jobs of one run in processes of this machine."""

    def __init__(self, task_: Any, *values: Any) -> None:
        context = run_context()
        assert context.root is not None
        self.root = context.root
        self.calls = [call_of(context, task_, *args) for args in values]
        folders = Folders(self.root.run_dir, TOKEN)
        part = packing.pack_task(_shared_part(self.calls[0]), task_.fn.__module__, task_.name)
        self.file = packing.PayloadFile(folders.payload, part, packing.places())
        batch = [packing.Arguments(_bare_task_run(c.run), c.args, c.kwargs) for c in self.calls]
        packing.pack_calls(self.file, task_.name, batch)
        self.finish(self.root.key)

    def finish(self, key: bytes) -> None:
        self.file.finish(key, self.root.run_id, TOKEN)

    def start(self, index: int = 0, *flags: str, **env: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        return subprocess.Popen(
            [sys.executable, str(RUN), self.root.run_dir, TOKEN, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={
                **clean,
                "SLURM_ARRAY_JOB_ID": "351",
                "SLURM_ARRAY_TASK_ID": str(index),
                "SLURM_JOB_ID": "360",
                "SLURMD_NODENAME": "c7",
                **env,
            },
        )

    def run(self, index: int = 0, *flags: str, **env: str) -> tuple[int, str]:
        process = self.start(index, *flags, **env)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def events(self, kind: str) -> list[Event]:
        return [event for event in read_run(self.root.run_dir) if event.kind == kind]

    def final(self) -> dict[str, Any]:
        """Return the data of the newest state."""
        return self.events("state")[-1].data


def test_an_element_runs_its_own_call_and_keeps_the_result() -> None:
    node = Node(double, (1,), (2,), (3,))
    assert node.run(1)[0] == 0
    final = node.final()
    assert final["type"] == "COMPLETED"
    assert final["id"] == node.calls[1].run.id
    assert node.root.results.load(final["result"]) == 4


def test_a_job_waits_for_what_its_task_submits_and_no_run_waits_for_itself() -> None:
    node = Node(nested, (2,))
    assert node.run()[0] == 0
    result = next(e.data["result"] for e in node.events("state") if "result" in e.data)
    assert node.root.results.load(result) == ((4, 4, [4, 4]), [4], 4)


def test_the_outcome_says_where_it_ran_and_what_it_used() -> None:
    node = Node(double, (1,))
    node.run()
    running, final = (event.data["details"] for event in node.events("state"))
    assert (running["job"], running["node"], running["restart"]) == ("351_0", "c7", 0)
    assert running["pid"] > 0
    assert final["max_rss"] > 1_000_000
    assert final["cpu"] > 0
    assert final["elapsed"] >= 0


def test_the_mark_is_there_only_after_the_outcome() -> None:
    node = Node(double, (1,))
    mark = Path(node.root.run_dir, "journal", f"{TOKEN}-0-0.ended")
    assert not mark.exists()
    node.run()
    assert mark.exists()


def test_an_error_is_kept_with_its_type_and_ends_the_job_as_failed() -> None:
    node = Node(complain, ("no such key",))
    status, errors = node.run()
    assert status == inside.FAILED
    assert "LookupError" in errors
    final = node.final()
    assert final["type"] == "FAILED"
    error = node.root.results.load(final["result"])
    assert isinstance(error, LookupError)
    assert "in complain" in str(error.__cause__)


def test_retries_of_the_user_happen_inside_the_job(tmp_path: Path) -> None:
    node = Node(second_time, (str(tmp_path / "seen"),))
    assert node.run()[0] == 0
    names = [event.data["name"] for event in node.events("state")]
    assert names == ["Running", "AwaitingRetry", "Retrying", "Completed"]
    assert node.final()["attempt"] == 2


def test_the_drivers_folders_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    node = Node(whereabouts, ())
    node.run()
    cwd, path, module = node.root.results.load(node.final()["result"])
    assert cwd == str(tmp_path)
    assert path == packing.places()[1:]
    assert module == __name__


def test_a_second_instance_of_a_job_does_nothing() -> None:
    node = Node(double, (1,))
    node.run()
    count = len(node.events("state"))
    status, errors = node.run()
    assert status == 0
    assert "another job has taken this task run" in errors
    assert len(node.events("state")) == count


def test_a_restart_after_a_finished_start_does_nothing() -> None:
    node = Node(double, (1,))
    node.run()
    status, errors = node.run(SLURM_RESTART_COUNT="1")
    assert status == 0
    assert "nothing to do" in errors
    assert len(node.events("state")) == 2


def test_a_restart_after_a_start_that_was_ended_in_its_hooks_repeats_its_outcome() -> None:
    node = Node(double, (1,))
    node.run()
    first = node.final()
    Path(node.root.run_dir, "journal", f"{TOKEN}-0-0.ended").unlink()
    status, errors = node.run(SLURM_RESTART_COUNT="1")
    assert status == 0
    assert "nothing to do" in errors
    assert [event.data["name"] for event in node.events("state")][2:] == ["Completed"]
    assert node.final() == first
    assert Path(node.root.run_dir, "journal", f"{TOKEN}-0-1.ended").exists()


def test_a_restart_after_a_killed_start_runs_with_the_next_attempt() -> None:
    node = Node(sleep, (60,), (0,))
    process = node.start()
    until(lambda: node.events("state"))
    process.kill()
    process.communicate()
    restarted = node.start(0, SLURM_RESTART_COUNT="1")
    running = until(lambda: node.events("state")[1:])[0]
    restarted.kill()
    restarted.communicate()
    assert running.data["attempt"] == 2
    assert running.data["details"]["restart"] == 1


def test_a_script_that_is_submitted_by_hand_takes_a_dead_run_again() -> None:
    node = Node(double, (1,))
    journal = Path(node.root.run_dir, "journal", f"{TOKEN}-0-0.jsonl")
    journal.touch(mode=0o600)  # of a job that died at once
    assert node.run(0, "--retake")[0] == 0
    assert node.final()["details"]["restart"] == 1


def test_a_payload_of_another_key_is_refused_and_the_driver_told() -> None:
    node = Node(double, (1,))
    path = Path(node.file.path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"token hf-", b"token hg-"))
    status, errors = node.run()
    assert status == inside.FAILED
    assert "signature" in errors
    (word,) = node.events("job-status")
    assert word.data["phase"] == "refused"
    assert "signature" in word.data["reason"]


def test_the_wrong_python_is_refused_before_anything_is_unpickled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hpc_flows.jobs import payload

    monkeypatch.setattr(payload, "python_line", lambda: "3.8 cpython")
    node = Node(double, (1,))
    assert node.run()[0] == inside.FAILED
    final = node.final()
    assert final["type"] == "CRASHED"
    assert final["id"] == node.calls[0].run.id
    assert final["details"]["error"] == "PayloadError"
    assert "Python 3.8" in final["message"]


def test_a_working_directory_that_the_node_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "only here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    node = Node(double, (1,))
    monkeypatch.undo()
    folder.rmdir()
    node.run()
    assert "working directory" in node.final()["message"]
    assert "only here" in node.final()["message"]


def test_a_result_that_cannot_be_pickled_fails_the_run_by_name() -> None:
    node = Node(unpicklable, ())
    assert node.run()[0] == inside.FAILED
    final = node.final()
    assert final["type"] == "FAILED"
    assert "lock" in final["message"]


def test_a_request_to_end_is_noted_and_claims_no_state() -> None:
    node = Node(sleep, (60,))
    process = node.start()
    until(lambda: node.events("state"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)  # a signal right before the sleep does not end that
    assert process.returncode == -signal.SIGTERM
    (word,) = node.events("job-status")
    assert (word.data["phase"], word.data["raw"]) == ("ending", "SIGTERM")
    assert [event.data["name"] for event in node.events("state")] == ["Running"]
    assert not list(Path(node.root.run_dir, "journal").glob("*.ended"))


def test_wrong_arguments_are_answered_with_the_usage() -> None:
    done = subprocess.run(
        [sys.executable, str(RUN)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == inside.FAILED
    assert "usage: run.py RUN_DIR TOKEN" in done.stderr


@pytest.mark.parametrize(
    ("line", "file", "text"),
    [
        ("4:memory:/slurm/uid_1/job_9/step_batch", "memory.oom_control", "under_oom 0\noom_kill 2"),
        ("0::/system.slice/slurmstepd.scope/job_9/step_batch/user", "memory.events", "oom_kill 2"),
    ],
)
def test_memory_kills_are_counted_in_the_jobs_own_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, file: str, text: str
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    _, controllers, path = line.split(":")
    folder = tmp_path / "cgroup" / controllers / path.lstrip("/")
    folder.mkdir(parents=True)
    (folder / file).write_text(text + "\n")
    (tmp_path / "self").write_text(f"1:cpu:/x\n{line}\n")
    assert inside.oom_kills("9", str(tmp_path / "self"), str(tmp_path / "cgroup")) == 2


def test_memory_kills_of_others_on_the_machine_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    folder = tmp_path / "cgroup" / "system.slice"
    folder.mkdir(parents=True)
    (folder / "memory.events").write_text("oom_kill 5\n")
    (tmp_path / "self").write_text("0::/system.slice\n")
    assert inside.oom_kills("9", str(tmp_path / "self"), str(tmp_path / "cgroup")) == 0


@task(resources=Resources(cpus=4, memory="2G"))
def wants_more(x: int) -> int:
    return x


@task
def calls_what_wants_more() -> int:
    return wants_more(1) + wants_more.submit(2).result() + sum(wants_more.map([3, 4]).result())


def test_that_a_job_shares_what_it_has_with_tasks_called_in_it_is_said_once() -> None:
    node = Node(calls_what_wants_more, ())
    assert node.run()[0] == 0
    logs = [event.data for event in node.events("log")]
    (told,) = [data for data in logs if "has no effect" in data["message"]]
    assert told["level"] == "INFO"
    assert told["task_run"] == node.calls[0].run.id
    assert "'wants_more' asks for 4 cpus, 2G" in told["message"]
    assert "inside of job 351_0" in told["message"]


def test_nothing_is_said_of_tasks_in_a_job_that_ask_for_nothing() -> None:
    node = Node(nested, (2,))
    node.run()
    assert not [e for e in node.events("log") if "has no effect" in e.data["message"]]


@task
def home_of_settings() -> str:
    return str(get_settings().home)


def test_settings_in_a_job_have_the_home_of_the_flow(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(home_of_settings, ())
    # Most sites' jobs do not get the environment of the flow.
    monkeypatch.delenv("HPC_FLOWS_HOME")
    assert node.run()[0] == 0
    assert node.root.results.load(node.final()["result"]) == str(home)
