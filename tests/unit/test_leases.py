"""Leases: one holder at a time, in files that say who it is."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from hpc_flows.exceptions import LeaseError, LeaseTimeout
from hpc_flows.leases import Holder, Lease, end, files, holder_of, is_stale, pause_after, revoke
from hpc_flows.leases import holder as holders
from hpc_flows.leases import renewal as renewals

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = "another-boot pid:[1]"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "leases" / "solver")


def put_holder(path: str, number: int = 1, *, age: float = 0.0, **fields: str) -> str:
    """Write the lease of a holder on another machine, last renewed `age` seconds ago."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    known = {"token": "t", "ttl": "0.3", "machine": ELSEWHERE, "host": "udc-ba12", "pid": "123"}
    file = f"{path}.{number}"
    with open(file, "w", encoding="utf-8") as opened:
        opened.write("".join(f"{name}={value}\n" for name, value in {**known, **fields}.items()))
    then = time.time() - age
    os.utime(file, (then, then))
    return file


def test_a_free_lease_is_taken_and_a_held_one_is_not(path: str) -> None:
    lease = Lease.try_acquire(path)
    assert lease is not None
    assert lease.is_held()
    assert Lease.try_acquire(path) is None
    assert lease.release()
    again = Lease.try_acquire(path)
    assert again is not None
    again.release()


def test_every_holder_has_a_higher_number(path: str) -> None:
    numbers = []
    for _ in range(4):
        with Lease.acquire(path) as lease:
            numbers.append(lease.number)
    assert numbers == [1, 2, 3, 4]


def test_one_file_is_left_when_a_lease_is_free(path: str) -> None:
    for _ in range(3):
        Lease.acquire(path).release()
    assert os.listdir(os.path.dirname(path)) == ["solver.3.free"]


def test_a_forgotten_lease_leaves_nothing(path: str) -> None:
    Lease.acquire(path).release(forget=True)
    assert not os.path.exists(os.path.dirname(path))


def test_release_is_idempotent(path: str) -> None:
    lease = Lease.acquire(path)
    assert lease.release()
    assert not lease.release()
    assert not lease.is_held()
    with Lease.acquire(path) as other:
        assert not lease.release()
        assert other.is_held()


def test_leases_lie_side_by_side_in_one_folder(path: str) -> None:
    with Lease.acquire(path), Lease.acquire(f"{path}.1"), Lease.acquire(f"{path}.1.free") as third:
        assert third.number == 1
        assert Lease.try_acquire(path) is None


def test_a_holder_says_who_it_is(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with Lease.acquire(path, note="train-3\nline"):
        holder = holder_of(path)
    assert holder is not None
    assert (holder.pid, holder.job, holder.note) == (os.getpid(), "77_3", "train-3 line")
    assert abs(holder.since - time.time()) < 60
    said = str(holder)
    assert said.startswith(f"pid {os.getpid()} on {os.uname().nodename}, job 77_3, since ")
    assert said.endswith(" (train-3 line)")
    assert holder_of(path) is None


def test_an_old_holder_is_named_with_its_day() -> None:
    assert "since 2001-09-0" in str(Holder({"pid": "1", "host": "a", "since": "1000000000"}))


def test_a_file_that_says_nothing_names_a_holder_of_nowhere(path: str) -> None:
    file = put_holder(path)
    with open(file, "wb") as opened:
        opened.write(b"\xff\0ttl=nan\npid=x")
    holder = holder_of(path)
    assert holder is not None
    assert str(holder) == "pid ? on an unknown host, since an unknown time"
    assert not holder.is_dead()
    assert holder.ttl == holders.DEFAULT_TTL


def test_a_holder_elsewhere_keeps_its_lease_while_it_renews(path: str) -> None:
    put_holder(path, ttl="60", age=50)
    assert not is_stale(path)
    assert Lease.try_acquire(path) is None


def test_a_holder_elsewhere_loses_its_lease_when_it_does_not(path: str) -> None:
    put_holder(path, number=7, age=1000)
    assert is_stale(path)
    lease = Lease.acquire(path, timeout=20)
    assert lease.number == 8
    lease.release()


def test_a_waiting_time_that_is_over_names_the_holder(path: str) -> None:
    put_holder(path, ttl="600")
    with pytest.raises(LeaseTimeout, match=r"within 0\.05 s: it is held by pid 123 on udc-ba12"):
        Lease.acquire(path, timeout=0.05)


def test_a_number_of_a_process_that_another_has_now_is_no_life_sign(path: str) -> None:
    put_holder(path, machine=holders.machine(), pid=str(os.getpid()), started="1", ttl="600")
    assert is_stale(path)
    lease = Lease.try_acquire(path)
    assert lease is not None
    lease.release()


def test_a_process_that_cannot_be_looked_at_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_PROC", "/nonexistent")
    assert holders.start_of(os.getpid()) == ""
    assert holders.start_of(2**22 + 1) is None
    assert not Holder.here(1.0).is_dead()


def test_a_revoked_lease_is_lost_and_its_holder_told(path: str) -> None:
    lost: list[Lease] = []
    lease = Lease.acquire(path, on_lost=lost.append)
    assert revoke(path)
    assert not revoke(path)
    assert not lease.renew()
    assert lost == [lease]
    assert not lease.is_held()
    assert not lease.release()


def test_the_thread_renews_and_notices(path: str) -> None:
    lost: list[Lease] = []
    lease = Lease.acquire(path, ttl=0.15, on_lost=lost.append)
    file = f"{path}.{lease.number}"
    os.utime(file, (1, 1))
    _wait(lambda: os.stat(file).st_mtime > 1)
    revoke(path)
    _wait(lambda: lost == [lease])


def test_a_late_lease_of_short_life_is_renewed_in_time(path: str) -> None:
    with Lease.acquire(path, ttl=600), Lease.acquire(f"{path}-2", ttl=0.15) as short:
        file = f"{short.path}.1"
        os.utime(file, (1, 1))
        _wait(lambda: os.stat(file).st_mtime > 1)


def test_an_error_in_what_is_told_of_a_loss_ends_no_renewal(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        msg = "the teller is broken"
        raise ValueError(msg)

    with Lease.acquire(f"{path}-2", ttl=0.15) as other:
        lease = Lease.acquire(path, ttl=0.15, on_lost=fail)
        revoke(path)
        _wait(lambda: not lease.is_held())
        os.utime(f"{other.path}.1", (1, 1))
        _wait(lambda: os.stat(f"{other.path}.1").st_mtime > 1)
    assert "the teller is broken" in capsys.readouterr().err


def _wait(condition: object) -> None:
    deadline = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lease_is_handed_on_by_its_token(path: str) -> None:
    lost: list[Lease] = []
    first = Lease.acquire(path, on_lost=lost.append)
    token = first.bequeath()
    second = Lease.adopt(path, token)
    assert second is not None
    assert (second.number, second.token) == (2, token)
    assert not first.renew()
    assert lost == []
    assert Lease.try_acquire(path) is None
    assert not end(path, "another")
    assert end(path, token)
    assert holder_of(path) is None
    assert Lease.adopt(path, token) is None
    second.release()


def test_a_lease_that_went_to_another_is_not_adopted(path: str) -> None:
    first = Lease.acquire(path)
    revoke(path)
    with Lease.acquire(path):
        assert Lease.adopt(path, first.bequeath()) is None


def test_a_file_system_without_links_does_as_well(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files, "_link", refuse)
    with Lease.acquire(path) as lease:
        assert Lease.try_acquire(path) is None
        assert os.listdir(os.path.dirname(path)) == [f"solver.{lease.number}"]


def test_an_answer_that_was_lost_on_the_way_is_no_defeat(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repeated(source: str, target: str) -> None:
        os.link(source, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(files, "_link", repeated)
    lease = Lease.try_acquire(path)
    assert lease is not None
    lease.release()


def test_a_path_that_leads_through_a_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LeaseError, match=r"must be readable and writable"):
        Lease.try_acquire(str(tmp_path / "file" / "lease"))


def test_pauses_grow_from_hundredths_to_a_quarter_of_a_minute() -> None:
    assert 0.015 <= pause_after(0) <= 0.025
    assert 0.75 <= pause_after(8) <= 1.25
    assert 11 <= pause_after(10**6) <= 19
    assert len({pause_after(8) for _ in range(40)}) > 1


def test_a_lease_that_no_thread_can_renew_is_given_back_and_the_next_is_renewed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(renewals, "_renewal", [renewals._Renewal()])
    with monkeypatch.context() as patched:
        patched.setattr(renewals, "start_new_thread", refused)
        with pytest.raises(LeaseError, match="could not be renewed: can't start new thread"):
            Lease.acquire(path)
    assert holder_of(path) is None
    lease = Lease.acquire(path, ttl=0.6)
    file = files.file_of(path, lease.number)
    first = os.stat(file).st_mtime_ns
    give_up = time.monotonic() + 60
    while os.stat(file).st_mtime_ns == first:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    lease.release()


def test_a_folder_that_another_removes_while_it_is_made_is_made_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.makedirs, []

    def overtaken(folder: str, *args: object, **options: object) -> None:
        calls.append(folder)
        if len(calls) > 1:
            real(folder, *args, **options)  # type: ignore[arg-type]  # as it was called
        else:  # it was there, and then it was not: what makedirs says of that
            raise FileExistsError(17, "File exists", folder)

    monkeypatch.setattr(os, "makedirs", overtaken)
    Lease.acquire(path).release()
    assert len(calls) > 1
