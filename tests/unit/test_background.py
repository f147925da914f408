"""Calls in the background: no flow waits for them, and the process does not end before."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import HpcFlowsError, OptionValueError, ParameterBindError
from hpc_flows.futures import TaskFutureList

if TYPE_CHECKING:
    from pathlib import Path


@task
def add(x: int, y: int = 1) -> int:
    return x + y


def test_a_call_in_the_background_gives_a_future() -> None:
    assert add.delay(1, y=2).result() == 3
    assert add.apply_async((1,), {"y": 5}).result() == 6
    assert add.apply_async([1], wait_for=[add.delay(0)]).result() == 2
    assert add.apply_async([1], dependencies=None).result() == 2
    with pytest.raises(OptionValueError, match="wait_for"):
        add.apply_async([1], dependencies={"x": set()})  # type: ignore[arg-type]  # it is wrong


def test_a_call_in_the_background_belongs_to_no_flow() -> None:
    @flow
    def main() -> Any:
        return add.delay(1).task_run.flow_run_id

    assert main() is None


def test_a_map_can_be_handed_out_to_the_background() -> None:
    futures = add.map([1, 2], deferred=True)
    assert isinstance(futures, TaskFutureList)
    assert futures.result() == [2, 3]


def test_a_wrong_call_in_the_background_is_refused_at_once() -> None:
    with pytest.raises(ParameterBindError, match="multiple values for argument 'x'"):
        add.delay(1, x=2)


def test_a_method_runs_in_the_background_with_its_object() -> None:
    class Model:
        factor = 3

        @task
        def scale(self, x: int) -> int:
            return self.factor * x

    assert Model().scale.delay(2).result() == 6


def test_there_is_nothing_to_serve() -> None:
    with pytest.raises(HpcFlowsError, match="Task 'add' needs no task worker"):
        add.serve()


PROGRAM = """
import time
from hpc_flows import task

@task
def slow(path):
    time.sleep(0.5)
    open(path, "w").close()

slow.delay({path!r})
"""


def test_the_process_does_not_end_before_what_it_began(home: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    environment = {"HPC_FLOWS_HOME": str(home), "PATH": "/usr/bin:/bin"}
    program = PROGRAM.format(path=str(done))
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)
    assert done.exists()
