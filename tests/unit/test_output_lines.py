"""Bytes become lines of a log, whatever they are, and however fast they come."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from hpc_flows.logging.follower import Follower
from hpc_flows.logging.lines import LONGEST_LINE, Allowance, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_lines_that_come_in_pieces_are_put_together() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb") == ["a"]
    assert lines.feed(b"c") == []
    assert lines.feed(b"\n\nd") == ["bc", ""]
    assert lines.last() == ["d"]
    assert lines.last() == []


def test_characters_may_be_cut_in_the_middle() -> None:
    euro = "€\n".encode()
    lines = Lines()
    assert [text for byte in euro for text in lines.feed(bytes([byte]))] == ["€"]


def test_bytes_that_are_no_text_are_written_as_escapes() -> None:
    assert Lines().feed(b"\xff\x00\x1b[31mred\x1b[0m\tx\x07\n") == [
        "\\xff\\x00\x1b[31mred\x1b[0m\tx\\x07"
    ]


def test_of_an_overwritten_line_the_last_text_counts() -> None:
    lines = Lines()
    assert lines.feed(b"10 %\r20 %") == []
    assert lines.feed(b"\r30 %\rdone\nunix\r\n") == ["done", "unix"]
    assert lines.feed(b"50 %\r") == []
    assert lines.feed(b"\n") == ["50 %"]


def test_an_endless_line_is_cut_and_costs_no_memory() -> None:
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * 10_000) == []
    (text,) = lines.feed(b"y\nz\n")[:1]
    assert text == "x" * LONGEST_LINE + f"… (cut here; {1_000_001 - LONGEST_LINE} bytes more)"
    assert lines.feed(b"next\n") == ["next"]


def test_an_allowance_is_used_up_and_comes_back() -> None:
    allowance = Allowance(burst=500, rate=1e9)
    assert allowance.take("x" * 100)
    time.sleep(0.001)
    assert allowance.take("x" * 100)
    assert not Allowance(burst=500, rate=0).take("x" * 400)


class Following:
    """A file that is followed, and what became of it."""

    def __init__(self, path: Path, allowance: Allowance | None = None) -> None:
        self.file = path.open("ab", buffering=0)
        self.file.write(b"before\n")
        self.lines: list[str] = []
        self.warnings: list[str] = []
        descriptor = os.open(path, os.O_RDONLY)
        self.follower = Follower(descriptor, self.lines.append, self.warnings.append, allowance)


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Following]:
    made = Following(tmp_path / "out")
    yield made
    made.follower.end()
    made.file.close()


def test_what_was_there_before_is_not_followed(following: Following) -> None:
    following.file.write(b"one\ntwo")
    following.follower.catch_up()
    assert following.lines == ["one"]
    following.follower.finish()
    assert following.lines == ["one", "two"]


def test_a_thread_looks_by_itself(following: Following) -> None:
    following.follower.start()
    following.file.write(b"one\n")
    give_up = time.monotonic() + 30
    while not following.lines:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert following.lines == ["one"]


def test_a_file_that_is_emptied_is_followed_on(following: Following) -> None:
    following.file.truncate(0)
    following.follower.catch_up()
    following.file.write(b"new\n")
    following.follower.catch_up()
    assert following.lines == ["new"]


def test_after_its_end_nothing_is_followed(following: Following) -> None:
    following.follower.end()
    following.file.write(b"late\n")
    following.follower.catch_up()
    following.follower.end()
    assert following.lines == []


def test_a_flood_is_cut_and_counted(tmp_path: Path) -> None:
    flood = Following(tmp_path / "out", Allowance(burst=2100, rate=0))
    flood.file.write(b"0123456789\n" * 1000)
    flood.follower.end()
    flood.file.close()
    assert flood.lines == ["0123456789"] * 10
    assert flood.follower.is_cut
    (warning,) = flood.warnings
    assert warning.startswith("990 lines of output (10890 characters) came too fast")


def test_emitting_may_catch_up_again(tmp_path: Path) -> None:
    """A signal handler may look at the file in the middle of a look."""
    path = tmp_path / "out"
    path.write_bytes(b"")
    seen: list[str] = []

    def emit(text: str) -> None:
        seen.append(text)
        follower.catch_up()

    follower = Follower(os.open(path, os.O_RDONLY), emit, seen.append)
    path.write_bytes(b"a\nb\n")
    follower.catch_up()
    follower.end()
    assert seen == ["a", "b"]
