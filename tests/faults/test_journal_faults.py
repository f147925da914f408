"""Faults of the machine under a journal: kills, full disks, torn and garbled files, two writers.

What holds whatever happens: an event that `write` returned from is read again; readers go on; a
full disk costs log records and never a state.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from faults.history import assert_sound, read_history, violations

from hpc_flows.exceptions import JournalError, JournalTaken
from hpc_flows.journal import writer as writer_module
from hpc_flows.journal.event import header, seal
from hpc_flows.journal.folder import create_run
from hpc_flows.journal.reader import JournalReader, read_run
from hpc_flows.journal.writer import JournalWriter

TASK = {"id": "t", "name": "t", "task": "t", "flow_run": "run-1"}


def running(number: int) -> dict[str, object]:
    return {"subject": "task", "id": "t", "type": "RUNNING", "name": "Running", "attempt": number}


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    return create_run(str(tmp_path), "run-1")


def fill(folder: Path) -> Path:
    """Take the last byte of a file system."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return ballast


VICTIM = """
import sys
from hpc_flows.journal.writer import JournalWriter
run_dir, background = sys.argv[1], sys.argv[2] == "yes"
journal = JournalWriter(run_dir, "run-1", "driver", background=background)
journal.write("task-run", {task})
number = 0
while True:
    number += 1
    journal.write("state", {{"subject": "task", "id": "t", "type": "RUNNING", "name": "Running",
                             "attempt": number, "pad": "x" * (number * 37 % 9000)}})
    sys.stdout.write(f"{{number}}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("background", ["yes", "no"])
@pytest.mark.parametrize("lines", [1, 50, 400])
def test_a_kill_loses_nothing_that_was_written(run_dir: str, background: str, lines: int) -> None:
    code = textwrap.dedent(VICTIM).format(task=TASK)
    with subprocess.Popen(
        [sys.executable, "-c", code, run_dir, background], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        for _ in range(lines):
            said = victim.stdout.readline()
        victim.kill()
        rest = victim.stdout.read().split("\n")
    promised = max([int(said), *(int(line) for line in rest[:-1] if line)])
    reader = JournalReader(run_dir)
    numbers = [event.data["attempt"] for event in reader.poll() if event.kind == "state"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= promised
    assert reader.bad_lines == 0
    assert_sound(run_dir)


def test_a_record_that_is_killed_half_way_is_torn_and_the_rest_is_there(run_dir: str) -> None:
    """Kills inside the system call, as far as that can be arranged: the kernel took a half."""
    code = """
    import os, signal, sys
    from hpc_flows.journal import writer
    journal = writer.JournalWriter(sys.argv[1], "run-1", "driver", background=False)
    journal.write("state", {"n": 1})
    real = writer._write
    def half(fd, line):
        real(fd, line[: len(line) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    writer._write = half
    journal.write("state", {"n": 2})
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), run_dir], check=False)
    assert killed.returncode == -signal.SIGKILL
    reader = JournalReader(run_dir)
    assert [event.data["n"] for event in reader.poll()] == [1]
    assert reader.unread()["driver"] > 0
    assert reader.bad_lines == 0
    # Another driver goes on under its own name; nobody touches the torn file.
    with pytest.raises(JournalTaken):
        JournalWriter(run_dir, "run-1", "driver")
    with JournalWriter(run_dir, "run-1", "driver-2") as journal:
        journal.write("state", {"n": 3})
    assert [event.data["n"] for event in read_run(run_dir)] == [1, 3]


def test_of_many_processes_that_start_the_same_work_one_gets_the_journal(run_dir: str) -> None:
    code = """
    import sys
    from hpc_flows.exceptions import JournalTaken
    from hpc_flows.journal.writer import JournalWriter
    sys.stdin.readline()
    try:
        journal = JournalWriter(sys.argv[1], "run-1", "tok-0-0", background=False)
    except JournalTaken:
        print("taken")
    else:
        journal.write("state", {}, durable=True)
        print("mine")
    """
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), run_dir],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(6)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(process.communicate(timeout=60)[0].strip() for process in started)
    assert answers == ["mine"] + ["taken"] * 5
    assert len(read_run(run_dir)) == 1


def test_garbage_checksums_and_copies_cost_only_themselves(run_dir: str) -> None:
    """A seeded vandal works on a journal, line by line."""
    chance = random.Random(7)
    with JournalWriter(run_dir, "run-1", "driver") as journal:
        for number in range(300):
            journal.write("state", {"n": number, "text": "é\t\n\\" * (number % 9)})
    lines = Path(journal.path).read_bytes().splitlines(keepends=True)
    kept: list[bytes] = []
    intact = set()
    for number, line in enumerate(lines):
        deed = chance.choice(["spare", "garble", "cut", "copy", "insert"])
        if deed == "garble":
            at = chance.randrange(len(line) - 1)
            kept.append(line[:at] + bytes([line[at] ^ 0x11]) + line[at + 1 :])
            continue
        if deed == "cut":
            kept.append(line[: chance.randrange(len(line) - 1)] + b"\n")
            continue
        intact.add(number)
        kept += [line] * (2 if deed == "copy" else 1)
        if deed == "insert":
            kept.append(chance.randbytes(chance.randrange(200)).replace(b"\n", b"") + b"\n")
    Path(journal.path).write_bytes(b"".join(kept))
    reader = JournalReader(run_dir, hole_patience=0.0)
    assert {event.data["n"] for event in reader.poll()} == intact
    assert reader.damage.duplicates > 10
    assert reader.bad_lines > 10
    assert {record["data"]["n"] for record in read_history(run_dir)} == intact


def test_a_full_disk_drops_logs_and_keeps_every_state(small_disk: Path) -> None:
    run_dir = create_run(str(small_disk / "home"), "run-1")
    journal = JournalWriter(run_dir, "run-1", "driver", patience=5.0)
    journal.write("task-run", TASK)
    ballast = fill(small_disk)
    dropped = 0
    for number in range(1, 41):
        dropped += journal.write("log", {"message": "x" * 3000, "level": "INFO"}) == 0
        journal.write("state", {**running(number), "pad": "x" * 200}, durable=True)
    assert dropped > 30
    assert journal.dropped == dropped
    ballast.unlink()
    time.sleep(1.1)  # it looks once a second
    assert journal.write("log", {"message": "there is room again", "level": "INFO"})
    journal.close()
    events = read_run(run_dir)
    assert [e.data["attempt"] for e in events if e.kind == "state"] == list(range(1, 41))
    told = [event for event in events if event.data.get("dropped")]
    assert [event.data["dropped"] for event in told] == [dropped]
    assert "room again" in events[-1].data["message"]
    assert os.path.getsize(os.path.join(run_dir, "reserve")) > 0
    assert_sound(run_dir)


def test_a_disk_that_stays_full_is_an_error_that_says_what_to_do(small_disk: Path) -> None:
    run_dir = create_run(str(small_disk / "home"), "run-1")
    journal = JournalWriter(run_dir, "run-1", "driver", patience=0.2)
    os.unlink(os.path.join(run_dir, "reserve"))
    ballast = fill(small_disk)
    with pytest.raises(JournalError, match=r"No space left.*Free space in that file system"):
        write_much(journal)
    ballast.unlink()
    journal.write("state", running(2), durable=True)
    journal.close()
    assert read_run(run_dir)[-1].data["attempt"] == 2
    assert_sound_but_unmade(run_dir)


def test_a_run_that_cannot_be_made_on_a_full_disk_says_so(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(JournalError, match=r"No space left.*HPC_FLOWS_HOME"):
        create_run(str(small_disk / "home"), "run-1")


def test_room_that_comes_back_while_a_state_waits_is_used(small_disk: Path) -> None:
    run_dir = create_run(str(small_disk / "home"), "run-1")
    os.unlink(os.path.join(run_dir, "reserve"))
    journal = JournalWriter(run_dir, "run-1", "driver", patience=60.0)
    journal.write("task-run", TASK)
    ballast = fill(small_disk)
    timer = threading.Timer(0.3, ballast.unlink)
    timer.start()
    for number in range(1, 30):
        journal.write("state", {**running(number), "pad": "x" * 2000})
    timer.join()
    journal.close()
    assert len(read_run(run_dir)) == 30
    assert_sound(run_dir)


def test_a_limit_of_the_files_size_drops_logs_and_says_what_is_wrong(run_dir: str) -> None:
    """As a quota does it, in a process of its own; the record that meets the limit is torn."""
    code = """
    import resource, sys
    from hpc_flows.exceptions import JournalError
    from hpc_flows.journal.writer import JournalWriter
    journal = JournalWriter(sys.argv[1], "run-1", "driver", patience=0.1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    while journal.write("log", {"message": "x" * 300}):
        pass
    try:
        journal.write("state", {"n": 1})
    except JournalError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.write("state", {"n": 2})
    journal.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), run_dir],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "File too large. Free space" in done.stdout
    reader = JournalReader(run_dir)
    events = reader.poll()
    assert [event.data["n"] for event in events if event.kind == "state"] == [2]
    assert any("dropped" in event.data for event in events)
    assert reader.bad_lines <= 2  # the torn records


class Disk:
    """A disk that takes only so many bytes, in the place of the write system call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.refused = 0
        self._real = writer_module._write
        monkeypatch.setattr(writer_module, "_write", self.write)

    def write(self, fd: int, line: bytes) -> int:
        if not self.room:
            self.refused += 1
            raise OSError(28, "No space left on device")
        taken = self._real(fd, line[: self.room])
        self.room -= taken
        return taken


@pytest.mark.parametrize("room", range(0, 400, 7))
def test_wherever_the_disk_gets_full_no_state_is_lost_or_doubled(
    run_dir: str, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    disk = Disk(monkeypatch, room)
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            disk.room = 10**9

    monkeypatch.setattr(writer_module, "sleep", pause)
    journal = JournalWriter(run_dir, "run-1", "driver", background=False, patience=60.0)
    journal.write("task-run", TASK)
    journal.write("state", running(1))
    journal.write("state", running(2))
    journal.close()
    assert [event.kind for event in read_run(run_dir)] == ["task-run", "state", "state"]
    assert disk.refused
    assert_sound(run_dir)


def test_who_writes_while_a_sync_fails_and_while_it_is_tried_again_hears_nothing_of_it(
    run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full NFS, which refuses when it is asked to sync, and not when it is written to."""
    begun, may_end = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
    syncs = iter((0, 1))

    def sync(_fd: int) -> None:
        turn = next(syncs, None)
        if turn is None:
            return
        begun[turn].set()
        may_end[turn].wait(150)
        if turn == 0:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(writer_module, "_sync_file", sync)
    with JournalWriter(run_dir, "run-1", "driver", patience=-1.0) as journal:
        journal.write("state", {"n": 0})
        for turn in (0, 1):
            assert begun[turn].wait(150)
            journal.write("state", {"n": turn + 1})
            may_end[turn].set()
    assert {event.data["n"] for event in read_run(run_dir)} == {0, 1, 2}


def test_slices_of_the_reserve_are_given_back_one_by_one(
    run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.path.join(run_dir, "reserve")
    before = os.path.getsize(path)
    disk = Disk(monkeypatch, 0)
    journal = JournalWriter(run_dir, "run-1", "driver", background=False, patience=60.0)
    monkeypatch.setattr(writer_module, "sleep", lambda seconds: setattr(disk, "room", 10**9))
    journal.write("state", {})
    after = os.path.getsize(path)
    assert 0 < before - after < before / 10
    journal.write("log", {"message": "looks for room"})
    assert os.path.getsize(path) == before
    journal.close()


def test_a_folder_that_may_not_be_written_is_told_by_name(run_dir: str) -> None:
    folder = os.path.join(run_dir, "journal")
    os.chmod(folder, 0o500)
    code = (
        "import sys; from hpc_flows.journal.writer import JournalWriter\n"
        "JournalWriter(sys.argv[1], 'run-1', 'driver')"
    )
    if os.geteuid() == 0:  # root may write everywhere: a folder that is gone is told the same way
        shutil.rmtree(folder)
    done = subprocess.run(
        [sys.executable, "-c", code, run_dir], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "JournalError" in last
    assert "driver.jsonl cannot be written" in last
    assert "HPC_FLOWS_HOME" in last


def test_a_journal_that_is_removed_under_its_writer_does_not_stop_the_flow(run_dir: str) -> None:
    """The purge of a scratch file system: the open file lives on, the run's history is gone."""
    with JournalWriter(run_dir, "run-1", "driver") as journal:
        journal.write("state", {"n": 1})
        shutil.rmtree(run_dir)
        assert journal.write("state", {"n": 2}, durable=True) == 2


def test_a_million_events_are_read_in_little_memory(run_dir: str) -> None:
    head = header("run-1", "driver")
    with Path(run_dir, "journal", "driver.jsonl").open("wb") as file:
        for seq in range(1, 1_000_001):
            body = f'{head}{seq},"wall":{seq},"mono":{seq},"kind":"x","data":{{}}}}'
            file.write(seal(body.encode()))
    code = """
    import resource, sys
    from hpc_flows.journal.reader import JournalReader, iter_run
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(1 for _ in iter_run(sys.argv[1]))
    reader = JournalReader(sys.argv[1])
    polled = len(reader.poll(limit=20_000)) + len(reader.poll(limit=20_000))
    print(count, polled, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), run_dir],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, polled, grown = map(int, done.stdout.split())
    assert os.path.getsize(Path(run_dir, "journal", "driver.jsonl")) > 90_000_000
    assert (count, polled) == (1_000_000, 40_000)
    assert grown < 40_000  # kilobytes


def test_thousands_of_writers_need_few_open_files(run_dir: str) -> None:
    for number in range(2000):
        with JournalWriter(run_dir, "run-1", f"tok-{number}-0", background=False, fsync=False) as j:
            j.write("state", {"n": number})
    code = """
    import resource, sys
    from hpc_flows.journal.reader import JournalReader, iter_run
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    print(len(JournalReader(sys.argv[1]).poll()), sum(1 for _ in iter_run(sys.argv[1])))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), run_dir],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["2000", "2000"]


def test_what_is_read_while_it_is_written_is_what_was_written(run_dir: str) -> None:
    code = """
    import sys
    from hpc_flows.journal.writer import JournalWriter
    with JournalWriter(sys.argv[1], "run-1", sys.argv[2]) as journal:
        for number in range(3000):
            journal.write("state", {"n": number, "pad": "x" * (number % 500)})
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), run_dir, f"w{number}"])
        for number in range(2)
    ]
    reader = JournalReader(run_dir)
    found: dict[str, list[int]] = {"w0": [], "w1": []}
    while True:
        ended = all(process.poll() is not None for process in writers)
        for event in reader.poll():
            found[event.writer].append(event.data["n"])
        if ended:
            break
    assert [process.returncode for process in writers] == [0, 0]
    assert found == {"w0": list(range(3000)), "w1": list(range(3000))}
    assert reader.bad_lines == 0


def write_much(journal: JournalWriter) -> None:
    for _ in range(50):
        journal.write("state", running(1) | {"pad": "x" * 2000})


def assert_sound_but_unmade(run_dir: str) -> None:
    broken = violations(read_history(run_dir))
    assert all("never made" in text for text in broken), broken
