"""Leases whose holders are killed or stopped, whose clocks are wrong, whose disk is full."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpc_flows.exceptions import LeaseError
from hpc_flows.leases import Lease, files, holder_of, is_stale
from hpc_flows.leases import lease as leases

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
CONTENDER = str(Path(__file__).parent / "lease_contender.py")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "leases" / "solver")


def _start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, CONTENDER, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> int:
    with process:
        return process.wait(170)


def test_of_many_contenders_that_are_killed_now_and_then_one_at_a_time_wins(
    path: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    contenders = [_start("contend", path, str(log), str(seed)) for seed in range(8)]
    ends = [_ended(contender) for contender in contenders]
    assert set(ends) == {0, -signal.SIGKILL}, "some are killed, some go on"
    lines = [line.split() for line in log.read_text().splitlines()]
    numbers = [int(number) for number, word in lines if word == "in"]
    assert len(numbers) >= 25
    assert numbers == sorted(set(numbers)), "the fencing number rises with every holder"
    inside = [number for number, word in lines if word == "in"]
    outside = {number for number, word in lines if word == "out"}
    killed = [number for number in inside if number not in outside]
    assert len(killed) == ends.count(-signal.SIGKILL)
    for place, (number, word) in enumerate(lines):
        if word == "out":
            assert lines[place - 1] == [number, "in"], "nobody else came in between"


def _leave_dead_holder(path: str) -> None:
    assert _ended(_start("die", path, "acquire", "0")) == 0


def _leave_heritage(path: str) -> None:
    """Write the lease of a driver on another node, that a job is to adopt."""
    os.makedirs(os.path.dirname(path))
    Path(f"{path}.1").write_text("token=t\nttl=60\nmachine=another\n")


@pytest.mark.parametrize("what", ["acquire", "takeover", "renew", "release", "forget", "adopt"])
def test_a_process_that_is_killed_at_any_step_blocks_nobody(what: str, tmp_path: Path) -> None:
    step, end = 0, -signal.SIGKILL
    while end != 0:
        step += 1
        path = str(tmp_path / str(step) / "leases" / "solver")
        if what == "takeover":
            _leave_dead_holder(path)
        if what == "adopt":
            _leave_heritage(path)
        end = _ended(_start("die", path, "acquire" if what == "takeover" else what, str(step)))
        assert end in {0, -signal.SIGKILL}
        if what == "adopt" and not _adoption_was_seen(path):
            continue
        lease = Lease.try_acquire(path)
        assert lease is not None, f"it was killed at step {step}: {os.listdir(path[:-7])}"
        assert Lease.try_acquire(path) is None
        lease.release()
    # Steps that are counted: at least one each of looking, making and clearing away.
    assert step > {"renew": 1, "release": 1, "forget": 1}.get(what, 5)


def _adoption_was_seen(path: str) -> bool:
    """Tell whether the job got as far as having the lease; else it is still to be adopted."""
    holder = holder_of(path)
    assert holder is not None
    if holder.machine != "another":
        return True
    lease = Lease.adopt(path, "t")
    assert lease is not None
    lease.release()
    return False


@pytest.fixture(params=["0.6"])
def holding(path: str, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Give a process that holds a lease of so many seconds."""
    process = _start("hold", path, request.param)
    assert process.stdout is not None
    assert process.stdout.readline() == "held 1\n"
    yield process
    process.kill()
    _ended(process)


def test_a_process_that_was_stopped_past_its_lease_notices_that_it_lost_it(
    path: str, holding: subprocess.Popen[str]
) -> None:
    holding.send_signal(signal.SIGSTOP)
    with Lease.acquire(path, timeout=60) as lease:
        assert lease.number == 2
        holding.send_signal(signal.SIGCONT)
        assert holding.stdin is not None
        assert holding.stdout is not None
        print("and now?", file=holding.stdin, flush=True)
        said = {holding.stdout.readline(), holding.stdout.readline()}
        assert said == {"told of 1\n", "and now? False\n"}
        assert lease.is_held()


@pytest.mark.parametrize("holding", ["600"], indirect=True)
def test_a_process_that_was_stopped_for_less_keeps_it(
    path: str, holding: subprocess.Popen[str]
) -> None:
    holding.send_signal(signal.SIGSTOP)
    assert Lease.try_acquire(path) is None
    holding.send_signal(signal.SIGCONT)
    assert holding.stdin is not None
    assert holding.stdout is not None
    print("and now?", file=holding.stdin, flush=True)
    assert holding.stdout.readline() == "and now? True\n"


def test_a_process_that_is_killed_frees_its_lease_at_once(
    path: str, holding: subprocess.Popen[str]
) -> None:
    holding.kill()
    holding.wait(60)
    assert is_stale(path)
    lease = Lease.try_acquire(path)
    assert lease is not None
    lease.release()


def _elsewhere(path: str, ttl: float) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(f"{path}.1").write_text(f"token=t\nttl={ttl}\nmachine=another\n")
    return f"{path}.1"


@pytest.mark.parametrize("hours", [-5, 5])
def test_the_clock_of_this_node_may_be_wrong(
    path: str, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _elsewhere(path, ttl=100)
    monkeypatch.setattr(time, "time", lambda: hours * 3600.0)
    # The file server's clock is another one than ours, and the only one that is asked.
    real = files.stamp_of
    for module in (files, leases):
        monkeypatch.setattr(module, "stamp_of", lambda file: (real(file) or 0.0) + hours * 3600)
    assert not is_stale(path)
    assert Lease.try_acquire(path) is None


def test_a_holder_that_stamps_files_by_a_wrong_clock_keeps_what_it_renews(path: str) -> None:
    file = _elsewhere(path, ttl=0.3)
    for beat in range(30):
        then = time.time() - 3600 + beat
        os.utime(file, (then, then))
        assert Lease.try_acquire(path) is None
        time.sleep(0.02)
    lease = Lease.acquire(path, timeout=60)
    assert lease.number == 2, "and loses it when it no longer does"
    lease.release()


def test_a_holder_that_comes_back_while_another_takes_over_is_seen_by_one_of_both(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _elsewhere(path, ttl=0.05)
    os.utime(file, (1, 1))

    def late(source: str, target: str) -> None:
        os.link(source, target)
        os.utime(file)  # the renewal that had been on its way all the time

    Lease.try_acquire(path)
    time.sleep(0.1)
    monkeypatch.setattr(files, "_link", late)
    monkeypatch.setattr(files, "_ATTEMPTS", 1)
    assert Lease.try_acquire(path) is None
    assert os.listdir(os.path.dirname(path)) == ["solver.1"]


def test_a_lease_that_appears_between_two_looks_wins(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others took, forgot and took the lease between our first look and our own file."""

    def overtaken(source: str, target: str) -> None:
        _elsewhere(path, ttl=60)
        os.link(source, target)

    os.makedirs(os.path.dirname(path))
    Path(f"{path}.4.free").write_text("")
    monkeypatch.setattr(files, "_link", overtaken)
    assert Lease.try_acquire(path) is None
    assert "solver.1" in os.listdir(os.path.dirname(path))
    assert "solver.5" not in os.listdir(os.path.dirname(path))


def test_a_contender_that_was_killed_late_hides_no_living_holder(path: str) -> None:
    _elsewhere(path, ttl=60)
    assert _ended(_start("die", f"{path}-2", "acquire", "0")) == 0
    os.rename(f"{path}-2.1", f"{path}.5")
    assert Lease.try_acquire(path) is None
    os.unlink(f"{path}.1")
    lease = Lease.try_acquire(path)
    assert lease is not None
    assert lease.number == 6
    lease.release()


def test_a_full_disk_is_told_and_leaves_nothing_half_made(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int, __: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_put", full)
    with pytest.raises(LeaseError, match="No space left on device"):
        Lease.try_acquire(path)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_file_server_that_does_not_answer_is_borne_for_the_time_of_the_lease(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    lost: list[Lease] = []
    long = Lease.acquire(f"{path}-long", ttl=600)
    short = Lease.acquire(path, ttl=0.4, on_lost=lost.append)
    monkeypatch.setattr(leases, "_touch", fail)
    assert long.renew()
    assert long.is_held()
    deadline = time.monotonic() + 120
    while not lost:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert lost == [short]
    assert not short.is_held()
    long.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_told(path: str) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder)
    os.chmod(folder, 0)
    try:
        with pytest.raises(LeaseError, match="Permission denied"):
            Lease.try_acquire(path)
    finally:
        os.chmod(folder, 0o700)


def test_a_forked_child_neither_renews_nor_releases_what_its_parent_holds(path: str) -> None:
    script = (
        "import os, sys\n"
        "from hpc_flows.leases import Lease, holder_of\n"
        f"lease = Lease.acquire({path!r}, ttl=60)\n"
        "if os.fork() == 0:\n"
        "    held = lease.is_held() or lease.renew() or lease.release()\n"
        f"    own = Lease.try_acquire({path!r}) is not None\n"
        "    sys.exit(3 if held or own else 0)\n"
        "status = os.waitstatus_to_exitcode(os.wait()[1])\n"
        "sys.exit(status if lease.is_held() else 4)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    assert holder_of(path) is None, "the parent let go when it ended"
