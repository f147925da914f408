"""Journals that are damaged, torn, growing or purged, and cursors that are lost, cost no event."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from relay_doubles import Failure, FakeServer, Journal, has_all, relay_to, turn_until

from hpc_flows.journal.event import MAX_LINE, seal
from hpc_flows.reporting import cursors, tailing


def test_lines_that_the_server_never_takes_are_passed_over_and_counted(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(5)
    newer = seal(b'{"v":2,"run":"run-0001","writer":"driver","seq":99,"strange":true}')
    with open(journal.writer().path, "ab") as file:
        file.write(newer)
    journal.write(5)
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 10 and relay.is_done())
    assert relay.facts()["refused"] == 1
    sent = fake.lines
    for _ in range(20):
        relay.turn()
        time.sleep(0.02)
    assert fake.lines == sent  # and is not sent again and again
    relay.close()


def test_damaged_lines_are_not_sent_and_are_counted(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(5)
    with open(journal.writer().path, "ab") as file:
        file.write(b'{"v":1,"torn\n\n' + b"z" * 100 + b"\n")
    journal.write(5)
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 10 and relay.is_done())
    assert relay.facts()["damaged"] == 2
    relay.close()


def test_a_line_that_is_being_written_waits_for_its_end(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(5)
    path = Path(journal.writer().path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 4)
    path.write_bytes(whole)
    turn_until(relay, has_all(fake, journal))
    assert len(fake.held(journal.run)) == 5
    relay.close()


def test_a_hole_of_a_network_file_system_is_waited_for_and_then_counted(
    fake: FakeServer, journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "HOLE_PATIENCE", 0.5)
    journal.write(3)
    with open(journal.writer().path, "ab") as file:
        file.write(b"\0" * 50 + b"\n")
    journal.write(3)
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 3)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 6)
    assert relay.facts()["damaged"] == 1
    relay.close()


def test_garbage_without_an_end_is_passed_over_once_it_has_one(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(2)
    with open(journal.writer().path, "ab") as file:
        file.write(b"g" * (MAX_LINE + 5))
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 2)
    with open(journal.writer().path, "ab") as file:
        file.write(b"\n")
    journal.write(2)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 4)
    relay.close()


def test_repeated_lines_in_a_journal_are_no_reason_to_send_it_again(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(10)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    path = Path(journal.writer().path)
    with path.open("ab") as file:
        file.write(b"".join(path.read_bytes().splitlines(keepends=True)[3:7]))
    journal.write(10)
    turn_until(relay, lambda: has_all(fake, journal)() and relay.is_done())
    assert fake.lines == 24
    relay.close()


def test_journals_that_grow_while_they_are_read_arrive_whole(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    def grow(writer: str) -> None:
        for _ in range(40):
            journal.write(25, writer)
            time.sleep(0.005)

    threads = [threading.Thread(target=grow, args=(f"driver-{number}",)) for number in range(3)]
    relay = relay_to(fake, home)
    for name in range(3):
        journal.writer(f"driver-{name}")
    for thread in threads:
        thread.start()
    turn_until(relay, lambda: not any(thread.is_alive() for thread in threads))
    turn_until(relay, has_all(fake, journal))
    assert fake.lines == 3000
    relay.close()


def test_a_run_that_is_purged_in_the_middle_hurts_no_other(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    other = Journal(home, "run-0002")
    journal.write(10)
    other.write(10)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, other))
    shutil.rmtree(journal.folder)
    other.write(10)
    turn_until(relay, has_all(fake, other))
    assert relay.trouble == ""
    stored = home / "relay" / "server-i1" / "cursors"
    turn_until(relay, lambda: [path.stem for path in stored.iterdir()] == ["run-0002"])
    relay.close()
    other.close()


# Cursors ------------------------------------------------------------------------------------------


def _cursor(home: Path) -> Path:
    return home / "relay" / "server-i1" / "cursors" / "run-0001.cursor"


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 200, b'{"v":1}\t00000000\n'])
def test_a_torn_cursor_means_sending_again_and_not_loss(
    content: bytes, fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(100)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    relay.close()
    _cursor(home).write_bytes(content)
    journal.write(100)
    again = relay_to(fake, home)
    turn_until(again, has_all(fake, journal))
    assert fake.lines == 300
    again.close()


def test_a_cursor_that_is_there_spares_sending_again(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(100)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    relay.close()
    journal.write(100)
    again = relay_to(fake, home)
    turn_until(again, has_all(fake, journal))
    assert fake.lines == 200
    again.close()


def test_a_disk_that_is_full_for_cursors_keeps_no_event_back(
    fake: FakeServer, journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, content: bytes) -> None:
        raise OSError(28, os.strerror(28), path)

    journal.write(100)
    with monkeypatch.context() as patch:
        patch.setattr(cursors, "_write_synced", full)
        relay = relay_to(fake, home)
        turn_until(relay, has_all(fake, journal))
        assert "No space left" in relay.facts()["unsaved"]
        assert not _cursor(home).exists()
    journal.write(1)
    turn_until(relay, lambda: has_all(fake, journal)() and _cursor(home).exists())
    relay.close()


def test_a_run_that_is_found_while_it_is_being_made_is_told_with_all_its_facts(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    about = Path(journal.folder, "run.json")
    content = about.read_bytes()
    about.unlink()
    journal.write(1)
    relay = relay_to(fake, home)
    for _ in range(5):
        relay.turn()
        time.sleep(0.05)
    assert fake.about == {}
    about.write_bytes(content)
    turn_until(relay, has_all(fake, journal))
    assert fake.about[journal.run]["name"] == "made-up"
    relay.close()


def test_a_run_that_the_server_refuses_keeps_no_other_back(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    other = Journal(home, "run-0002")
    journal.write(5)
    other.write(5)
    fake.failures = [Failure("^/runs/run-0001$", 422, times=10**6)]
    relay = relay_to(fake, home)
    turn_until(relay, lambda: has_all(fake, other)() and bool(relay.facts()["notes"]))
    assert relay.trouble == ""
    assert "refuses run run-0001" in relay.facts()["notes"][0]
    relay.close()
    other.close()


def test_a_run_whose_journals_cannot_be_read_keeps_no_other_back(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    other = Journal(home, "run-0000")
    other.write(5)
    journal.close()
    shutil.rmtree(Path(journal.folder, "journal"))
    Path(journal.folder, "journal").write_text("no folder")
    relay = relay_to(fake, home)
    turn_until(relay, lambda: has_all(fake, other)() and bool(relay.facts()["notes"]))
    assert relay.trouble == ""
    assert "cannot be read" in relay.facts()["notes"][0]
    relay.close()
    other.close()


def test_a_driver_whose_folder_is_deleted_does_not_busy_itself(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(5)
    relay = relay_to(fake, home, only=journal.run)
    turn_until(relay, has_all(fake, journal))
    shutil.rmtree(journal.folder)
    turns = 0
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        time.sleep(relay.turn())
        turns += 1
    assert turns < 20
    assert relay.is_done()
    relay.close()


def test_a_run_that_is_found_while_its_folder_is_being_made_is_reported_soon(
    fake: FakeServer, home: Path
) -> None:
    folder = home / "runs" / "run-0001"
    folder.mkdir(parents=True)
    relay = relay_to(fake, home)
    for _ in range(3):
        relay.turn()
    folder.rmdir()
    made = Journal(home)
    made.write(3)
    turns = 0
    while not has_all(fake, made)():
        turns += 1
        assert turns < 100, "it looks for seconds where nothing is any more"
        relay.turn()
        time.sleep(0.02)
    relay.close()
    made.close()
