"""The writer: what it promises to those who act on what it returned."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpc_flows.exceptions import JournalError, JournalTaken
from hpc_flows.journal import event as event_module
from hpc_flows.journal import writer as writer_module
from hpc_flows.journal.folder import create_run, read_key
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.writer import LONGEST_MESSAGE, JournalWriter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    return create_run(str(tmp_path), "run-1", {"name": "merry-fox", "flow": "demo"})


@pytest.fixture
def journal(run_dir: str) -> Iterator[JournalWriter]:
    with JournalWriter(run_dir, "run-1", "driver", patience=0.3) as opened:
        yield opened


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record every sync of a journal file."""
    made: list[int] = []
    real = writer_module._sync_file

    def counted(fd: int) -> None:
        real(fd)
        made.append(fd)

    monkeypatch.setattr(writer_module, "_sync_file", counted)
    return made


def test_an_event_is_in_the_file_when_write_returns(journal: JournalWriter, run_dir: str) -> None:
    seq = journal.write("state", {"id": "t1", "type": "RUNNING"})
    (event,) = read_run(run_dir)
    assert (event.seq, event.writer, event.run) == (seq, "driver", "run-1")
    assert (event.kind, event.data) == ("state", {"id": "t1", "type": "RUNNING"})
    assert abs(event.wall - time.time()) < 60


def test_each_record_is_one_system_call(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    real = writer_module._write
    monkeypatch.setattr(writer_module, "_write", lambda fd, b: sent.append(b) or real(fd, b))
    for number in range(3):
        journal.write("state", {"n": number})
    assert [line.count(b"\n") for line in sent] == [1, 1, 1]
    assert all(line.endswith(b"\n") for line in sent)


def test_a_durable_event_is_synced_before_write_returns(
    journal: JournalWriter, syncs: list[int]
) -> None:
    journal.write("job-intent", {"token": "a"}, durable=True)
    assert syncs


def test_durable_events_of_many_threads_share_syncs(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch, run_dir: str
) -> None:
    made = []

    def slow(fd: int) -> None:
        time.sleep(0.02)
        made.append(fd)

    monkeypatch.setattr(writer_module, "_sync_file", slow)
    threads = [
        threading.Thread(target=journal.write, args=("state", {"n": n}), kwargs={"durable": True})
        for n in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_run(run_dir)) == 40
    assert len(made) < 20


def test_events_that_nobody_waits_for_reach_the_disk_soon(
    journal: JournalWriter, syncs: list[int]
) -> None:
    journal.write("state", {"n": 1})
    for _ in range(200):
        if syncs:
            break
        time.sleep(0.05)
    assert syncs
    before = len(syncs)
    journal.write("state", {"n": 2})  # the thread sleeps in between and must wake again
    for _ in range(200):
        if len(syncs) > before:
            break
        time.sleep(0.05)
    assert len(syncs) > before


def test_without_background_only_durable_and_close_sync(run_dir: str, syncs: list[int]) -> None:
    threads = threading.active_count()
    journal = JournalWriter(run_dir, "run-1", "job-0", background=False)
    journal.write("state", {"n": 1})
    time.sleep(0.15)
    assert not syncs
    assert threading.active_count() == threads
    journal.close()
    assert syncs


def test_without_fsync_the_disk_is_never_asked(run_dir: str, syncs: list[int]) -> None:
    with JournalWriter(run_dir, "run-1", "driver", fsync=False) as journal:
        journal.write("state", {"n": 1}, durable=True)
        journal.flush()
    assert not syncs
    assert len(read_run(run_dir)) == 1


def test_a_flood_of_events_is_synced_in_between(run_dir: str, syncs: list[int]) -> None:
    with JournalWriter(run_dir, "run-1", "job-0", background=False) as journal:
        for number in range(40_000):
            journal.write("state", {"n": number})
        assert len(syncs) == 2
        assert len(journal._unsynced) < 20_000


def test_threads_write_whole_lines_with_rising_numbers(
    journal: JournalWriter, run_dir: str
) -> None:
    def work(thread: int) -> None:
        for number in range(200):
            journal.write("state", {"thread": thread, "n": number, "pad": "x" * 500})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (
        json.loads(line.rpartition("\t")[0])
        for line in Path(journal.path).read_text("ascii").splitlines()
    )
    assert [entry["seq"] for entry in lines] == list(range(1, 1001))
    assert len(read_run(run_dir)) == 1000


def test_a_second_writer_of_the_same_name_is_refused(run_dir: str, journal: JournalWriter) -> None:
    with pytest.raises(JournalTaken, match=r"driver\.jsonl"):
        JournalWriter(run_dir, "run-1", "driver")
    journal.close()
    with pytest.raises(JournalTaken):  # a journal is never continued by another process
        JournalWriter(run_dir, "run-1", "driver")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 300, "naïve"])
def test_a_name_that_is_no_plain_file_name_is_refused(run_dir: str, name: str) -> None:
    with pytest.raises(JournalError, match="cannot name"):
        JournalWriter(run_dir, "run-1", name)


def test_the_clock_of_a_writer_never_goes_back(
    journal: JournalWriter, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now in (1000.0, 400.0, 1001.0):
        monkeypatch.setattr(event_module, "time_ns", lambda now=now: int(now * 1e9))
        journal.write("state", {})
    assert [event.wall for event in read_run(run_dir)] == [1000.0, 1000.0, 1001.0]


def test_a_signal_handler_may_write_while_its_thread_is_writing(
    journal: JournalWriter, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = writer_module._write
    nested = False

    def interrupted(fd: int, line: bytes) -> int:
        nonlocal nested
        if not nested:
            nested = True
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(fd, line)

    before = signal.signal(
        signal.SIGUSR1, lambda *_: journal.write("state", {"from": "handler"}, durable=True)
    )
    try:
        monkeypatch.setattr(writer_module, "_write", interrupted)
        journal.write("state", {"from": "main"}, durable=True)
    finally:
        signal.signal(signal.SIGUSR1, before)
    events = read_run(run_dir)
    assert sorted(event.data["from"] for event in events) == ["handler", "main"]
    assert len({event.id for event in events}) == 2


def test_subscribers_hear_of_every_event_after_it_is_written(
    journal: JournalWriter, run_dir: str
) -> None:
    heard: list[tuple[str, int]] = []
    journal.subscribe(lambda kind: heard.append((kind, len(read_run(run_dir)))))
    journal.write("state", {"n": 1})
    journal.write("log", {"message": "hi"})
    assert heard == [("state", 1), ("log", 2)]


def test_a_subscriber_that_raises_is_dropped_and_told_of(
    journal: JournalWriter, run_dir: str
) -> None:
    heard: list[str] = []

    def broken(kind: str) -> None:
        raise ZeroDivisionError

    journal.subscribe(broken)
    journal.subscribe(heard.append)
    journal.write("state", {"n": 1})
    journal.write("state", {"n": 2})
    assert heard.count("state") == 2
    logs = [event for event in read_run(run_dir) if event.kind == "log"]
    assert len(logs) == 1
    assert "ZeroDivisionError" in logs[0].data["message"]


def test_a_long_log_message_is_cut_with_a_mark(journal: JournalWriter, run_dir: str) -> None:
    journal.write("log", {"message": "x" * 1_000_000, "level": "INFO"})
    (event,) = read_run(run_dir)
    assert len(event.data["message"]) < LONGEST_MESSAGE + 100
    assert "1000000 characters" in event.data["message"]


def test_an_event_too_long_for_readers_is_refused_by_name(journal: JournalWriter) -> None:
    with pytest.raises(JournalError, match=r"'event'.*too long"):
        journal.write("event", {"payload": "x" * 17_000_000})


def test_writing_to_a_closed_journal_says_so_and_logs_are_let_go(journal: JournalWriter) -> None:
    journal.close()
    journal.close()
    assert journal.write("log", {"message": "late"}) == 0
    with pytest.raises(JournalError, match="closed"):
        journal.write("state", {"n": 1})


def test_a_forked_child_cannot_write_under_its_parents_name(
    journal: JournalWriter, run_dir: str
) -> None:
    journal.write("state", {"from": "parent"})
    child = os.fork()
    if child == 0:
        try:
            journal.write("state", {"from": "child"})
        except JournalError:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    journal.write("state", {"from": "parent"})
    assert [event.data["from"] for event in read_run(run_dir)] == ["parent", "parent"]


def test_a_failing_disk_is_an_error_that_says_what_to_do(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, line: bytes) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "_write", broken)
        with pytest.raises(JournalError, match=r"driver\.jsonl.*Set HPC_FLOWS_HOME"):
            journal.write("state", {"n": 1})


def test_what_a_sync_refused_is_written_again(
    journal: JournalWriter, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an NFS server with a full disk does it: the write is taken, the sync is not."""
    real = writer_module._sync_file
    failures = iter([errno.EDQUOT, errno.EIO])

    def failing(fd: int) -> None:
        number = next(failures, 0)
        if number:
            os.truncate(journal.path, 0)  # the client threw away what it could not send
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(writer_module, "_sync_file", failing)
    journal._background = False  # so that the sync below is the one that fails
    journal.write("state", {"n": 1})
    journal.write("state", {"n": 2}, durable=True)
    assert [event.data["n"] for event in read_run(run_dir)] == [1, 2]


def test_a_sync_that_goes_on_failing_is_an_error(
    run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalWriter(run_dir, "run-1", "job-0", background=False, patience=0.1)

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "_sync_file", failing)
        with pytest.raises(JournalError, match="cannot be written"):
            journal.write("state", {"n": 1}, durable=True)
    journal.write("state", {"n": 2}, durable=True)
    journal.close()
    assert {event.data["n"] for event in read_run(run_dir)} == {1, 2}


def test_a_file_system_that_cannot_sync_is_used_without(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch, run_dir: str
) -> None:
    def cannot(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(writer_module, "_sync_file", cannot)
    journal.write("state", {"n": 1}, durable=True)
    assert len(read_run(run_dir)) == 1


def test_a_stale_handle_is_opened_anew(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch, run_dir: str
) -> None:
    real = writer_module._write
    stale = journal._fd

    def forgotten(fd: int, line: bytes) -> int:
        if journal._fd == fd and not reopened:
            reopened.append(fd)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(fd, line)

    reopened: list[int] = []
    monkeypatch.setattr(writer_module, "_write", forgotten)
    journal.write("state", {"n": 1})
    assert reopened == [stale]
    assert len(read_run(run_dir)) == 1


def test_the_folder_of_a_run_is_its_owners_alone(run_dir: str, journal: JournalWriter) -> None:
    mode = lambda path: stat.S_IMODE(os.stat(path).st_mode)  # noqa: E731
    assert mode(run_dir) == 0o700
    assert mode(os.path.join(run_dir, "key")) == 0o600
    assert mode(os.path.join(run_dir, "run.json")) == 0o600
    assert mode(journal.path) == 0o600
    folders = {name for name in os.listdir(run_dir) if os.path.isdir(os.path.join(run_dir, name))}
    assert folders == {"journal", "payloads", "results", "jobs", "control"}
    assert all(mode(os.path.join(run_dir, name)) == 0o700 for name in folders)


def test_run_json_says_what_the_run_is(run_dir: str) -> None:
    facts = json.loads(Path(run_dir, "run.json").read_text("ascii"))
    assert facts["id"] == "run-1"
    assert (facts["name"], facts["flow"]) == ("merry-fox", "demo")
    assert facts["pid"] == os.getpid()
    assert facts["host"] == os.uname().nodename


def test_each_run_has_a_key_of_its_own(tmp_path: Path, run_dir: str) -> None:
    other = create_run(str(tmp_path), "run-2")
    assert len(read_key(run_dir)) == 32
    assert read_key(run_dir) != read_key(other)


def test_a_key_that_others_could_have_changed_is_not_used(run_dir: str) -> None:
    os.chmod(os.path.join(run_dir, "key"), 0o660)
    with pytest.raises(JournalError, match=r"chmod 600"):
        read_key(run_dir)


def test_a_damaged_or_missing_key_is_told(run_dir: str) -> None:
    path = os.path.join(run_dir, "key")
    os.truncate(path, 5)
    with pytest.raises(JournalError, match="5 bytes"):
        read_key(run_dir)
    os.unlink(path)
    with pytest.raises(JournalError, match="No such file"):
        read_key(run_dir)


def test_a_run_is_made_once(tmp_path: Path, run_dir: str) -> None:
    with pytest.raises(JournalError, match="already"):
        create_run(str(tmp_path), "run-1")


def test_a_home_that_is_a_file_is_told_with_the_cure(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("")
    with pytest.raises(JournalError, match=r"Set HPC_FLOWS_HOME"):
        create_run(str(home), "run-1")


def test_the_writer_loads_nothing_that_jobs_would_pay_for() -> None:
    code = (
        "import sys; import hpc_flows.journal.writer, hpc_flows.results.kept; "
        "print(*sorted({'json', 'threading', 'typing', 'dataclasses', 're', 'logging', 'inspect',"
        " 'traceback', 'base64', 'hashlib', 'struct', 'pathlib', '_pickle', 'cloudpickle'}"
        " & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.split() == []


def test_events_that_are_written_together_are_events_like_any_other(run_dir: str) -> None:
    with JournalWriter(run_dir, "r", "w") as journal:
        told: list[str] = []
        journal.subscribe(told.append)
        journal.write_together(("task-run", {"id": "a"}), ("state", {"id": "a"}))
        journal.write("state", {"id": "b"})
    events = read_run(run_dir)
    assert [(event.seq, event.kind) for event in events] == [
        (1, "task-run"),
        (2, "state"),
        (3, "state"),
    ]
    assert told == ["task-run", "state", "state"]


@pytest.mark.parametrize("room", [0, 1, 200, 350, 100_000])
def test_a_disk_that_fills_between_events_written_together_loses_none(
    run_dir: str, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    left = [room]

    def write(fd: int, data: bytes) -> int:
        size = min(left[0], len(data))
        left[0] = 1_000_000  # somebody freed space
        if not size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data[:size])

    with JournalWriter(run_dir, "r", "w") as journal:
        monkeypatch.setattr(writer_module, "_write", write)
        journal.write_together(*[("state", {"id": name, "x": "y" * 80}) for name in "abc"])
    assert [event.data["id"] for event in read_run(run_dir) if event.kind == "state"] == [*"abc"]


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 1.0])
def test_a_disk_that_fills_keeps_a_state_and_drops_the_log_record_that_goes_with_it(
    run_dir: str, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    tried: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        tried.append(data)
        # Room for a part of the pair, and for nothing of what is left; then somebody frees some.
        size = int([part, 0, 1][min(len(tried) - 1, 2)] * len(data))
        if not size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data[:size])

    with JournalWriter(run_dir, "r", "w") as journal:
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "_write", write)
            pair = ("state", '{"id":"a","pad":"' + "y" * 80 + '"}'), ("log", '{"message":"ended"}')
            dropped = journal.write_texts(*pair)
        assert dropped == journal.dropped == (part < 1)
        journal.write("state", {"id": "b"})
    events = read_run(run_dir)
    assert [event.data["id"] for event in events if event.kind == "state"] == ["a", "b"]
    messages = [event.data["message"] for event in events if event.kind == "log"]
    assert messages.count("ended") == (part == 1)
