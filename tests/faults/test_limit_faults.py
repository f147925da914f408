"""Concurrency limits whose holders are killed or stopped, and whose folders cannot be used."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc_flows import flow, task
from hpc_flows.concurrency.limits import create_limit, create_tag_limit, get_limit
from hpc_flows.concurrency.sync import concurrency
from hpc_flows.context import RunContext
from hpc_flows.engine.slots import TagSlots
from hpc_flows.exceptions import LeaseError, SlotLost
from hpc_flows.leases import files
from hpc_flows.runs import TaskRun

ROOT = Path(__file__).resolve().parent.parent.parent
CONTENDER = str(Path(__file__).parent / "limit_contender.py")


def _start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, CONTENDER, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, error = process.communicate(timeout=300)
    return process.returncode, error


def test_processes_that_are_killed_now_and_then_never_hold_more_than_there_is(
    tmp_path: Path,
) -> None:
    create_limit("solver", 4)
    log = tmp_path / "log"
    contenders = [_start("contend", str(log), str(seed)) for seed in range(8)]
    ends = [_ended(contender) for contender in contenders]
    assert {status for status, _ in ends} == {0, -signal.SIGKILL}, ends
    changes = [int(line) for line in log.read_text().split()]
    assert len(changes) > 60
    held = list(accumulate(changes))
    assert max(held) <= 4
    assert max(held) > 1, "they do run at the same time"
    with concurrency("solver", occupy=4, timeout_seconds=60):
        assert len(get_limit("solver").holders()) == 4


def test_a_holder_that_is_killed_frees_its_slot_at_once() -> None:
    create_limit("solver", 1)
    process = _start("hold", "600")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    _ended(process)
    with concurrency("solver", timeout_seconds=20):
        (holder,) = get_limit("solver").holders()
        assert holder.pid == os.getpid()


def test_a_holder_that_was_stopped_past_its_lease_is_told() -> None:
    create_limit("solver", 1)
    process = _start("hold", "0.6")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGSTOP)
    with concurrency("solver", timeout_seconds=60):
        process.send_signal(signal.SIGCONT)
        # It sleeps in one long step, which no exception of ours interrupts, so look at the log.
        assert process.stderr is not None
        line = process.stderr.readline()
    process.kill()
    _ended(process)
    assert "Lease renewal failed" in line
    assert "the work is stopped" in line


def test_a_full_disk_fails_the_task_and_not_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    create_tag_limit("solver", 1)

    def full(_: int, __: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    @task(tags={"solver"})
    def solve() -> str:
        return "solved"

    @flow
    def both() -> tuple[str, str]:
        with monkeypatch.context() as patch:
            patch.setattr(files, "_put", full)
            failed = solve(return_state=True)
        assert isinstance(failed.data, LeaseError)
        return failed.type.name, solve()

    assert both() == ("FAILED", "solved")


def test_a_job_whose_driver_is_gone_takes_a_slot_of_its_own() -> None:
    """The driver's slot went to somebody else while the job was queued."""
    limit = create_tag_limit("solver", 2)
    run = TaskRun("solve", "solve", tags=("solver",))
    run.slots = ((limit.slot(0), "the driver's token"),)
    slots = TagSlots(["tag:solver"], run, _at_home())
    with concurrency("tag:solver"):
        assert list(slots.take()) == []
        assert len(limit.held_slots()) == 2
    slots.release()
    assert limit.held_slots() == []


def _at_home() -> RunContext:
    settings = SimpleNamespace(home=os.environ["HPC_FLOWS_HOME"])
    context = RunContext()
    context.root = SimpleNamespace(settings=settings)
    return context


def test_a_slot_that_is_lost_after_the_work_ended_is_no_error() -> None:
    create_limit("solver", 1)
    holding = concurrency("solver", strict=True)
    holding.__enter__()
    leases, watch, _ = holding._entered[0]  # the loss that comes too late
    holding.__exit__(None, None, None)
    watch.told(leases[0])
    assert not watch.lost
    with pytest.raises(SlotLost), concurrency("solver", strict=True) as _:
        raise SlotLost("the user's own")
