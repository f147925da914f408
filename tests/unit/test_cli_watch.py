"""The screen of `hpc-flows watch`, without a terminal."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from hpc_flows.cli import watch_screen
from hpc_flows.cli.tally import Tally
from hpc_flows.cli.watch_screen import Screen

if TYPE_CHECKING:
    from rich.text import Text

WIDTH, HEIGHT = 60, 12


class Watched:
    """A run with a long name, whose newest log record is a traceback."""

    reading = None
    is_over = False

    def __init__(self, *records: str) -> None:
        self.counted = {"work": Tally(running=3)}
        self.row: dict[str, Any] = {
            "flow": "a flow of a very long name " * 4,
            "name": "merry-fox",
            "started": 1.0,
            "ended": 4.0,
            "state_type": "RUNNING",
            "state_name": "Running",
            "driver": "alive",
        }
        self._records = list(records)

    def look(self) -> bool:
        return False

    def timeline(self, width: int, *, unicode: bool) -> list[Text]:
        del width, unicode
        return []

    def records(self) -> list[str]:
        return self._records


def logs_of(*records: str) -> list[str]:
    """Return the lines of a screen that shows logs."""
    where = Console(file=io.StringIO(), width=WIDTH, height=HEIGHT, force_terminal=True)
    screen = Screen(Watched(*records), where)
    screen._obeys("l")
    return screen._picture().plain.split("\n")


def test_records_of_several_lines_leave_the_newest_and_the_keys_in_sight() -> None:
    trace = "12:00:00 | ERROR   | broke\nTraceback\n\tline 1\n" + "line\n" * 20
    lines = logs_of(trace, "12:00:01 | INFO    | the newest")
    assert len(lines) == HEIGHT
    assert "the newest" in lines[-2]
    assert lines[-1].startswith("Ctrl-C")
    assert "No log records yet" in "".join(logs_of())


def test_records_do_not_move_the_cursor() -> None:
    shown = "".join(
        logs_of("12:00:00 | INFO    | \x1b[31mred\x1b[0m and \x1b[2J\r\x1b]0;own\x07end")
    )
    assert "red and end" in shown


def test_a_long_name_leaves_the_state_in_sight() -> None:
    head = logs_of()[0]
    assert len(head) <= WIDTH
    assert head.startswith("a flow of")
    assert head.endswith("Running  3.0 s")


@pytest.mark.parametrize(
    ("typed", "keys"),
    [("jjq", ["j", "j", "q"]), ("\x1b[A\x1b[Bk", ["\x1b[A", "\x1b[B", "k"]), ("", [""])],
)
def test_keys_that_were_typed_at_once_are_told_apart(
    typed: str, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, into = os.pipe()
    os.write(into, typed.encode())
    os.close(into)
    with open(out, encoding="utf-8") as keyboard:
        monkeypatch.setattr("sys.stdin", keyboard)
        assert watch_screen._keys() == keys
