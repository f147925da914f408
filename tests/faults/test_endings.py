"""Whatever ends a flow or a task ends it in the right state, with a message that says it.

Each program runs by itself, in threads, in a pool of processes, and on the mock cluster; what is
read afterwards is its journal. What SIGTERM does to threads and jobs is in `test_driver_signals`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.journal.replay import RunView

_LONGEST = 300
pytestmark = pytest.mark.timeout(600)
WHERES = ("threads", "processes", "cluster")

_BEGINNING = """
import os, sys, threading, time
from hpc_flows import Resources, flow, task
from hpc_flows.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

where = sys.argv[1]
pool = ProcessPoolTaskRunner if where == "processes" else ThreadPoolTaskRunner

def on(**options):
    return task(resources=Resources(cpus=1) if where == "cluster" else None, **options)

def in_pool(**options):
    return flow(task_runner=pool(max_workers=2), **options)
"""


class Program:
    """A script in a process of its own."""

    def __init__(self, folder: Path, where: str, code: str, **variables: str) -> None:
        script = folder / f"{where}_program.py"
        script.write_text(_BEGINNING + textwrap.dedent(code))
        if where == "cluster":
            variables["HPC_FLOWS_CLUSTER"] = "mock"
        self._err = folder / "stderr"
        self.home = Path(variables.get("HPC_FLOWS_HOME", os.environ["HPC_FLOWS_HOME"]))
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(script), where],
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                cwd=folder,
                env={**os.environ, **variables},
                start_new_session=True,
            )

    def line(self) -> str:
        """Wait for the next line that it prints."""
        assert self.process.stdout is not None
        return str(self.process.stdout.readline()).rstrip("\n")

    def ended(self) -> int:
        """Wait for its end and return its status."""
        self.process.communicate(timeout=_LONGEST)
        return int(self.process.returncode)

    def told(self) -> str:
        """Return what it has logged on the screen."""
        return self._err.read_text()

    def views(self) -> list[RunView]:
        """Return its runs as their journals tell them, the oldest first."""
        views = [replay(read_run(str(folder))) for folder in (self.home / "runs").iterdir()]
        return sorted(views, key=lambda view: next(iter(view.flow_runs.values())).created or 0.0)

    def states(self) -> dict[str, tuple[str | None, str]]:
        """Return the names and messages of the last states, by the names of flows and tasks."""
        found = {}
        for view in self.views():
            runs: list[Any] = [*view.flow_runs.values(), *view.task_runs.values()]
            for run in runs:
                name = str(getattr(run, "task", None) or run.flow)
                found[name] = (run.state_name, str(run.message or ""))
        return found


@pytest.fixture
def begin(tmp_path: Path, home: Path) -> Iterator[Callable[..., Program]]:
    """Start programs, and end them, and the mock cluster, afterwards."""
    begun: list[Program] = []

    def start(where: str, code: str, **variables: str) -> Program:
        begun.append(Program(tmp_path, where, code, **variables))
        return begun[-1]

    yield start
    for program in begun:
        program.process.kill()
        program.process.communicate()
        stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(program.home)]
        subprocess.run(stop, capture_output=True, timeout=60, check=False)


def _is_gone(pid: int) -> bool:
    """Wait until a process has ended; tell whether it has."""
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] in "ZX":
            return True
        time.sleep(0.05)
    return False


HOOKS = """
def broken(subject, run, state):
    raise RuntimeError("the hook is broken")

@on(on_completion=[broken], on_running=[broken])
def ends_well():
    return 1

@on(on_failure=[broken])
def fails():
    raise ValueError("its own")

@in_pool(on_completion=[broken])
def main():
    well, bad = ends_well.submit(), fails.submit()
    bad.wait()
    return well.result()

assert main() == 1
"""


@pytest.mark.parametrize("where", WHERES)
def test_an_exception_in_a_hook_changes_no_state_and_is_shown_with_its_place(
    begin: Callable[..., Program], where: str
) -> None:
    program = begin(where, HOOKS)
    assert program.ended() == 0, program.told()
    assert program.states() == {
        "main": ("Completed", ""),
        "ends_well": ("Completed", ""),
        "fails": ("Failed", "Task run encountered an exception ValueError: its own"),
    }
    assert program.told().count("error was encountered while running hook 'broken'") == 4
    assert program.told().count("in broken\n    raise RuntimeError") == 4
    assert "hpc_flows/" not in program.told().replace(str(program.home), "")


UNPICKLABLE = """
@on()
def gives_lock():
    return {"inside": [threading.Lock()]}

@on()
def takes(value):
    return 1

@in_pool()
def main():
    gives_lock.submit().wait()
    takes.submit([threading.Lock()]).wait()

main()
"""


@pytest.mark.parametrize("where", WHERES)
def test_what_cannot_be_pickled_fails_what_has_to_travel_by_name(
    begin: Callable[..., Program], where: str
) -> None:
    program = begin(where, UNPICKLABLE)
    assert program.ended() == 0, program.told()
    states = program.states()
    assert states.pop("main") == ("Completed", "")
    if where == "threads":
        assert {name for name, _ in states.values()} == {"Completed"}
        return
    assert {name for name, _ in states.values()} == {"Failed"}
    given, taken = states["gives_lock"][1], states["takes"][1]
    assert "A value of type 'dict' cannot be pickled: cannot pickle '_thread.lock'" in given
    assert "Return plain data, or write a file and return its path." in given
    assert "Argument 1 of task 'takes' cannot be sent to a" in taken
    assert "at argument 1[0], which cannot be pickled" in taken
    assert "Traceback" not in program.told().partition("takes-")[2]


OF_ANOTHER_FLOW = """
kept = []

@on()
def one():
    return 1

@on()
def bad():
    raise ValueError("of the first flow")

@on()
def add(x, y=1):
    return x + y

@on()
def add_to_bad(x, y=1):
    return x + y

@in_pool()
def first():
    kept.extend([one.submit(), bad.submit()])
    kept[0].wait()

@in_pool()
def second():
    good, failed = (t.submit(f) for t, f in zip([add, add_to_bad], kept))
    failed.wait()
    return good

first()
assert second() == 2
"""


@pytest.mark.parametrize("where", WHERES)
def test_a_future_of_another_flow_is_as_good_as_one_of_this(
    begin: Callable[..., Program], where: str
) -> None:
    program = begin(where, OF_ANOTHER_FLOW)
    assert program.ended() == 0, program.told()
    assert len(program.views()) == 2
    states = program.states()
    name, message = states.pop("add_to_bad")
    assert name == "NotReady"
    assert message.startswith("Upstream task run 'bad-")
    assert "it ended as Failed. Wrap its future in allow_failure()" in message
    assert states.pop("bad")[0] == "Failed"
    assert {name for name, _ in states.values()} == {"Completed"}


CYCLE = """
@task
def waits(box, of):
    while len(box) < 2:
        time.sleep(0.01)
    return box[of].result()

@on()
def around():
    box = []
    box.append(waits.submit(quote(box), 1))
    box.append(waits.submit(quote(box), 0))
    for future in box:
        future.wait()
    return [future.state.name for future in box]

@in_pool()
def main():
    return around.submit().result()

assert main() == ["Failed", "Failed"]
"""


@pytest.mark.parametrize("where", WHERES)
def test_a_cycle_of_waits_is_told_wherever_it_is(begin: Callable[..., Program], where: str) -> None:
    program = begin(where, "from hpc_flows.utilities.annotations import quote\n" + CYCLE)
    assert program.ended() == 0, program.told()
    runs = [run for view in program.views() for run in view.task_runs.values()]
    messages = [str(run.message) for run in runs if run.task == "waits"]
    assert len(messages) == 2
    for message in messages:
        assert "CycleOfWaits" in message
        assert "so that none of them would ever end (a deadlock). Submit the task" in message


LONG = """
@on()
def rests():
    with open("pid.part", "w") as file:  # os.system would ignore Ctrl-C until its shell has ended
        file.write(str(os.getpid()))
    os.rename("pid.part", "pid")
    child = os.popen("exec sleep 300")
    time.sleep(300)

@task
def follows(_):
    return 1

@in_pool()
def main():
    following = follows.submit(rests.submit())
    while not os.path.exists("pid"):
        time.sleep(0.02)
    print("begun", flush=True)
    following.wait()

main()
"""


@pytest.mark.parametrize("where", WHERES)
def test_ctrl_c_cancels_all_and_leaves_nothing_running(
    begin: Callable[..., Program], where: str, tmp_path: Path
) -> None:
    program = begin(where, LONG)
    assert program.line() == "begun"
    os.killpg(program.process.pid, signal.SIGINT)  # as a terminal does
    assert program.ended() == -signal.SIGINT
    assert set(program.states().values()) == {("Cancelled", "Interrupted from the keyboard.")}
    assert "KeyboardInterrupt" in program.told()
    assert _is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("rest", ["time.sleep(300)", 'os.system("exec sleep 300")'])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_worker_processes_end_with_their_driver_and_so_does_what_they_started(
    begin: Callable[..., Program], tmp_path: Path, number: signal.Signals, rest: str
) -> None:
    program = begin("processes", LONG.replace("time.sleep(300)", rest))
    assert program.line() == "begun"
    worker = int((tmp_path / "pid").read_text())
    children = Path(f"/proc/{worker}/task/{worker}/children")
    deadline = time.monotonic() + _LONGEST
    while not (child := children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    program.process.send_signal(number)
    assert program.ended() == -number
    assert _is_gone(worker)
    assert _is_gone(int(child[0]))
    if number == signal.SIGTERM:
        states = {task: name for task, (name, _) in program.states().items()}
        assert states == {"main": "Crashed", "rests": "Crashed", "follows": "NotReady"}


def test_a_worker_process_that_is_told_to_end_is_a_lost_process(
    begin: Callable[..., Program], tmp_path: Path
) -> None:
    program = begin("processes", LONG.replace('os.popen("exec sleep 300")', "None"))
    assert program.line() == "begun"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    assert program.ended() == 0, program.told()
    name, message = program.states()["rests"]
    assert name == "Crashed"
    assert "was killed by SIGTERM after" in message


ON_A_FULL_DISK = """
DISK = sys.argv[0].rpartition("/")[0] + "/small"

@on()
def first():
    return os.urandom(10)

@on()
def second(n):
    return len(os.urandom(n))

@on()
def third():
    return os.urandom(10)

@in_pool()
def main():
    first.submit().wait()
    with open(f"{DISK}/ballast", "wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            pass
    second.submit(10).wait()
    os.unlink(f"{DISK}/ballast")
    third.submit().wait()

main()
"""


@pytest.mark.parametrize("where", WHERES)
def test_on_a_full_disk_no_state_is_lost_and_the_flow_goes_on(
    begin: Callable[..., Program], where: str, small_disk: Path, tmp_path: Path
) -> None:
    link = tmp_path / "small"
    if not link.exists():
        link.symlink_to(small_disk)
    program = begin(where, ON_A_FULL_DISK, HPC_FLOWS_HOME=str(small_disk / "home"))
    assert program.ended() == 0, program.told()
    states = program.states()
    name, message = states.pop("second")
    if where == "cluster":
        assert name == "Failed"
        assert "The files of the job cannot be written" in message
        assert "No space left on device. Free space there, or set HPC_FLOWS_HOME" in message
    else:
        assert name == "Completed"
    assert {name for name, _ in states.values()} == {"Completed"}
    assert "Traceback" not in program.told()
