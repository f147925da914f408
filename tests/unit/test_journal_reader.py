"""The reader: nothing that is intact is lost, and nothing that is damaged is believed."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_flows.exceptions import JournalError
from hpc_flows.journal import reader as reader_module
from hpc_flows.journal.event import header, seal
from hpc_flows.journal.folder import create_run
from hpc_flows.journal.reader import Damage, JournalReader, NumberSet, iter_run, read_run
from hpc_flows.journal.writer import JournalWriter


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    return create_run(str(tmp_path), "run-1")


def record(seq: int, *, writer: str = "w", wall: float = 0.0, pad: int = 0) -> bytes:
    text = f'{{"n":{seq},"pad":"{"x" * pad}"}}'
    body = (
        f'{header("run-1", writer)}{seq},"wall":{wall or seq},"mono":1,"kind":"log","data":{text}}}'
    )
    return seal(body.encode())


def put(run_dir: str, content: bytes, writer: str = "w") -> Path:
    path = Path(run_dir, "journal", writer + ".jsonl")
    with path.open("ab") as file:
        file.write(content)
    return path


def numbers(run_dir: str) -> list[int]:
    return [event.seq for event in read_run(run_dir)]


def test_a_reader_gives_only_what_is_new(run_dir: str) -> None:
    reader = JournalReader(run_dir)
    assert reader.poll() == []
    with JournalWriter(run_dir, "run-1", "driver") as journal:
        journal.write("state", {"n": 1})
        assert [event.data["n"] for event in reader.poll()] == [1]
        journal.write("state", {"n": 2})
        journal.write("state", {"n": 3})
        assert [event.data["n"] for event in reader.poll()] == [2, 3]
        assert reader.poll() == []


def test_a_reader_finds_the_files_of_writers_that_come_later(run_dir: str) -> None:
    reader = JournalReader(run_dir)
    for name in ("driver", "abc-0-0", "abc-1-0"):
        with JournalWriter(run_dir, "run-1", name) as journal:
            journal.write("state", {})
        assert [event.writer for event in reader.poll()] == [name]


def test_a_torn_tail_is_waited_for(run_dir: str) -> None:
    whole = record(1) + record(2)
    reader = JournalReader(run_dir)
    put(run_dir, whole[:-5])
    assert [event.seq for event in reader.poll()] == [1]
    assert reader.unread() == {"w": len(record(2)) - 5}
    put(run_dir, whole[-5:])
    assert [event.seq for event in reader.poll()] == [2]
    assert reader.bad_lines == 0
    assert reader.unread() == {}


def test_a_bad_line_is_skipped_and_counted(run_dir: str) -> None:
    damaged = record(2).replace(b'"n":2', b'"n":3')
    put(run_dir, record(1) + damaged + b"garbage\n" + record(3))
    reader = JournalReader(run_dir)
    assert [event.seq for event in reader.poll()] == [1, 3]
    assert reader.bad_lines == 2


def test_a_line_of_another_writer_is_not_believed(run_dir: str) -> None:
    put(run_dir, record(1, writer="driver") + record(1))
    reader = JournalReader(run_dir)
    assert [event.writer for event in reader.poll()] == ["w"]
    assert reader.bad_lines == 1


def test_a_number_that_comes_twice_counts_once(run_dir: str) -> None:
    put(run_dir, record(1) + record(2) + record(1) + record(2) + record(3))
    reader = JournalReader(run_dir)
    assert [event.seq for event in reader.poll()] == [1, 2, 3]
    assert reader.damage == Damage(bad_lines=0, duplicates=2, newer=0)


def test_lines_of_a_newer_version_are_counted_apart(run_dir: str) -> None:
    body = record(2).rpartition(b"\t")[0].replace(b'"v":1', b'"v":2')
    put(run_dir, record(1) + seal(body) + record(3))
    reader = JournalReader(run_dir)
    assert [event.seq for event in reader.poll()] == [1, 3]
    assert reader.damage == Damage(bad_lines=0, duplicates=0, newer=1)


def test_empty_lines_end_torn_records_and_are_no_damage(run_dir: str) -> None:
    put(run_dir, record(1) + b"\n\n" + record(2))
    reader = JournalReader(run_dir)
    assert len(reader.poll()) == 2
    assert reader.bad_lines == 0


def test_a_hole_of_zeros_is_waited_for_until_it_fills(run_dir: str) -> None:
    """NFS shows zeros where another node's bytes have not arrived."""
    first, second, third = record(1), record(2), record(3)
    path = put(run_dir, first + bytes(len(second)) + third)
    reader = JournalReader(run_dir)
    assert [event.seq for event in reader.poll()] == [1]
    assert reader.bad_lines == 0
    with path.open("r+b") as file:
        file.seek(len(first))
        file.write(second)
    assert [event.seq for event in reader.poll()] == [2, 3]
    assert reader.bad_lines == 0


def test_a_hole_that_stays_is_damage(run_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(run_dir, record(1) + bytes(300) + record(2) + record(3))
    clock = itertools.count(0, 20.0)
    monkeypatch.setattr(reader_module, "monotonic", lambda: next(clock))
    reader = JournalReader(run_dir, hole_patience=30.0)
    assert [event.seq for event in reader.poll()] == [1]
    assert reader.poll() == []
    assert [event.seq for event in reader.poll()] == [3]
    assert reader.bad_lines == 1


def test_a_file_that_is_read_once_does_not_wait_for_holes(run_dir: str) -> None:
    put(run_dir, record(1) + bytes(300) + b"\n" + record(2))
    assert numbers(run_dir) == [1, 2]


def test_events_of_many_writers_come_in_the_order_of_their_times(run_dir: str) -> None:
    put(run_dir, record(1, writer="a", wall=1.0) + record(2, writer="a", wall=5.0), "a")
    put(run_dir, record(1, writer="b", wall=1.0) + record(2, writer="b", wall=3.0), "b")
    expected = ["a:1", "b:1", "b:2", "a:2"]
    assert [event.id for event in read_run(run_dir)] == expected
    assert [event.id for event in iter_run(run_dir)] == expected
    assert [event.id for event in JournalReader(run_dir).poll()] == expected


def test_poll_gives_no_more_than_asked_and_forgets_nobody(run_dir: str) -> None:
    for writer in "abc":
        put(run_dir, b"".join(record(n, writer=writer) for n in range(1, 51)), writer)
    reader = JournalReader(run_dir)
    batches = list(iter(lambda: reader.poll(limit=7), []))
    assert all(len(batch) <= 7 for batch in batches)
    assert len({event.id for batch in batches for event in batch}) == 150
    early = {event.writer for batch in batches[:3] for event in batch}
    assert early == {"a", "b", "c"}


def test_an_ignored_writer_is_not_read(run_dir: str) -> None:
    put(run_dir, record(1, writer="driver"), "driver")
    put(run_dir, record(1, writer="job"), "job")
    reader = JournalReader(run_dir)
    reader.ignore("driver")
    assert [event.writer for event in reader.poll()] == ["job"]
    put(run_dir, record(2, writer="job"), "job")
    reader.ignore("job")
    assert reader.poll() == []


def test_other_files_in_the_folder_are_no_journals(run_dir: str) -> None:
    folder = Path(run_dir, "journal")
    (folder / "w-0-0.ended").write_text("x")
    (folder / "folder.jsonl").mkdir()
    (folder / "link.jsonl").symlink_to(put(run_dir, record(1)))
    assert numbers(run_dir) == [1]


def test_a_line_longer_than_any_event_is_skipped_without_being_kept(
    run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_LINE", 200_000)
    put(run_dir, record(1) + b"x" * 3_000_000)
    reader = JournalReader(run_dir)
    assert [event.seq for event in reader.poll()] == [1]
    put(run_dir, b"x" * 3_000_000 + b"\n" + record(2))
    assert [event.seq for event in reader.poll()] == [2]
    assert reader.bad_lines == 1


@pytest.mark.parametrize("pad", [0, 65_000, 66_000, 1_000_000])
def test_lines_of_any_length_are_read_whole(run_dir: str, pad: int) -> None:
    put(run_dir, b"".join(record(n, pad=pad) for n in range(1, 6)))
    assert numbers(run_dir) == [1, 2, 3, 4, 5]


def test_a_run_that_was_removed_is_told(run_dir: str) -> None:
    with pytest.raises(JournalError, match="No such file"):
        read_run(run_dir + "-gone")


def test_a_file_that_may_not_be_read_is_told_by_name(run_dir: str) -> None:
    path = put(run_dir, record(1))
    reader = JournalReader(run_dir)
    reader.poll()
    path.unlink()
    path.mkdir()
    with pytest.raises(JournalError, match=r"w\.jsonl"):
        reader.poll()


def test_a_file_that_vanishes_is_no_error(run_dir: str) -> None:
    path = put(run_dir, record(1))
    reader = JournalReader(run_dir)
    assert len(reader.poll()) == 1
    path.unlink()
    assert reader.poll() == []


@given(st.lists(st.integers(0, 60)))
def test_a_set_of_numbers_behaves_like_one(values: list[int]) -> None:
    plain: set[int] = set()
    ranges = NumberSet()
    for value in values:
        assert ranges.add(value) is (value not in plain)
        plain.add(value)
    assert all((number in ranges) is (number in plain) for number in range(-1, 62))
    assert len(ranges._starts) == sum(n - 1 not in plain for n in plain)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.integers(1, 8),
    cuts=st.lists(st.integers(1, 400), max_size=12),
)
def test_bytes_that_arrive_in_any_pieces_give_each_event_once(
    tmp_path_factory: pytest.TempPathFactory, counts: int, cuts: list[int]
) -> None:
    run = create_run(str(tmp_path_factory.mktemp("h")), "run-1")
    whole = b"".join(record(n) for n in range(1, counts + 1))
    reader = JournalReader(run)
    found: list[int] = []
    at = 0
    for cut in [*cuts, len(whole)]:
        put(run, whole[at : at + cut])
        at += cut
        found += [event.seq for event in reader.poll()]
    assert found == list(range(1, counts + 1))
    assert reader.bad_lines == 0


garbage = st.binary(max_size=120)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.integers(1, 20), garbage), max_size=8),
    tail=garbage,
    cut=st.integers(0, 300),
)
def test_no_bytes_anywhere_break_the_reader_or_lose_an_intact_record(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[int, bytes]],
    tail: bytes,
    cut: int,
) -> None:
    """Garbage before and after every record, each followed by a newline; the end cut anywhere."""
    run = create_run(str(tmp_path_factory.mktemp("h")), "run-1")
    whole = b"".join(junk + b"\n" + record(n) for n, junk in pieces) + tail
    kept = whole[: max(0, len(whole) - cut)]
    put(run, kept)
    lines = kept.split(b"\n")[:-1]
    intact = {n for n, _ in pieces if record(n)[:-1] in lines}
    assert set(numbers(run)) == intact
    reader = JournalReader(run, hole_patience=0.0)
    assert {event.seq for event in reader.poll()} == intact
    assert reader.poll() == []


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), junk=st.binary(min_size=1, max_size=50))
def test_bytes_put_in_anywhere_cost_at_most_the_record_that_they_hit(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    run = create_run(str(tmp_path_factory.mktemp("h")), "run-1")
    whole = b"".join(record(n) for n in range(1, 6))
    at %= len(whole) + 1
    put(run, whole[:at] + junk + whole[at:])
    found = numbers(run)
    assert len(found) >= 4
    assert found == sorted(set(found))
    assert set(found) <= set(range(1, 6))


def test_reading_opens_one_file_at_a_time(run_dir: str) -> None:
    for number in range(50):
        put(run_dir, record(1, writer=f"w{number}"), f"w{number}")
    before = set(os.listdir("/proc/self/fd"))
    events = iter_run(run_dir)
    next(events)
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0
    assert len(list(events)) == 49
