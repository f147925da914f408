"""The screen of `hpc-flows watch`: a table, below it the timeline or the logs, and keys."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.text import Text

from hpc_flows.cli.progress import table_lines
from hpc_flows.cli.run_tables import state_of
from hpc_flows.cli.terminal import duration, harmless, is_unicode
from hpc_flows.cli.watched import reading_words, rest_after

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from hpc_flows.cli.watched import Watched

_HELP = "q leave   l logs   t timeline   j/k scroll"
_KEY = re.compile(r"\x1b\[.|.", re.DOTALL)
_KEYS_DOWN, _KEYS_UP = ("j", "\x1b[B"), ("k", "\x1b[A")

#: Columns of the title that stay, however much is told beside it.
_LEAST_TITLE = 10

#: Seconds for which keys are waited for while there is more to read.
_GLANCE = 0.01

#: Lines of the screen that are neither table nor what is below it: head, rule, foot.
_FIXED = 3


class Screen:
    """Draws a watched run on the whole terminal until it ends, or somebody leaves.

    Args:
        watched: the run.
        where: the terminal.
    """

    def __init__(self, watched: Watched, where: Console) -> None:
        self._watched = watched
        self._where = where
        self._live = Live(console=where, screen=True, auto_refresh=False)
        self._shows_logs = False
        self._scrolled = 0  # lines that the lower part is scrolled down, or the logs up
        self._lower: list[Text] = []
        self._size = (0, 0)
        self._keyboard: Any = None
        self._sigterm: Any = None

    def __enter__(self) -> Self:
        self._sigterm = signal.signal(signal.SIGTERM, _leave)  # the terminal is given back
        if sys.stdin.isatty():
            import termios  # noqa: PLC0415 - for terminals
            import tty  # noqa: PLC0415 - as above

            self._keyboard = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin.fileno())
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        if self._keyboard is not None:
            import termios  # noqa: PLC0415 - as above

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._keyboard)
        signal.signal(signal.SIGTERM, self._sigterm)

    def run(self) -> bool:
        """Draw until the run has ended, or somebody leaves; tell whether it has ended."""
        self._draw_lower()
        self._show()
        rest = rest_after(0.0)
        while not self._watched.is_over:
            if self._leaves(rest if self._watched.reading is None else _GLANCE):
                return False
            began = time.thread_time()
            if self._watched.look() or not self._shows_logs:
                self._draw_lower()
            self._show()
            rest = max(rest_after(time.thread_time() - began), 0.5)
        return True

    # Keys ----------------------------------------------------------------------------------------

    def _leaves(self, seconds: float) -> bool:
        """Obey keys for some seconds; tell whether one says to leave."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._keyboard is None:
                time.sleep(left)
                continue
            if not select.select([sys.stdin], [], [], left)[0]:
                continue
            if any(self._obeys(key) for key in _keys()):
                return True
            self._show()
        return False

    def _obeys(self, key: str) -> bool:
        if key in ("l", "t"):
            self._shows_logs, self._scrolled = key == "l" and not self._shows_logs, 0
            self._draw_lower()
        # Logs stand with their end in sight: down is towards the newest.
        down = 1 if key in _KEYS_DOWN else -1 if key in _KEYS_UP else 0
        self._scrolled = max(0, self._scrolled + (-down if self._shows_logs else down))
        return key in ("q", "")  # nothing more can be read once the terminal is gone

    # Drawing -------------------------------------------------------------------------------------

    def _draw_lower(self) -> None:
        if self._shows_logs:
            lines = (line for each in self._watched.records() for line in each.split("\n"))
            self._lower = [Text(harmless(line).expandtabs()) for line in lines]
        else:
            unicode = is_unicode(self._where)
            self._lower = self._watched.timeline(self._where.width, unicode=unicode)
        self._size = self._where.size

    def _show(self) -> None:
        if self._size != self._where.size:  # the window has another size now
            self._draw_lower()
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Text:
        height = self._where.height
        table = table_lines(self._watched.counted, self._where)
        if len(table) > (room := max((height - _FIXED) // 2, 1)):
            cut = len(table) - room + 1
            table = [*table[: room - 1], Text(f"and {cut} tasks more", style="dim")]
        below = self._visible(max(height - _FIXED - len(table), 0))
        rule = "─" if is_unicode(self._where) else "-"
        lines = [self._head(), *table, Text(rule * self._where.width, style="dim"), *below]
        lines += [Text("")] * (height - 1 - len(lines))
        foot = Text(_HELP if self._keyboard is not None else "Ctrl-C leaves", style="dim")
        for line in (*lines, foot):
            line.no_wrap, line.overflow = True, "crop"
            line.truncate(self._where.width)
        return Text("\n", no_wrap=True, overflow="crop").join((*lines[: height - 1], foot))

    def _visible(self, room: int) -> list[Text]:
        """Return the part of the logs or the timeline that is in sight."""
        most = max(len(self._lower) - room, 0)
        self._scrolled = min(self._scrolled, most)
        first = most - self._scrolled if self._shows_logs else self._scrolled
        if not self._lower:
            what = "No log records yet" if self._shows_logs else "Nothing has begun yet"
            return [Text(what, style="dim")][:room]
        return [line.copy() for line in self._lower[first : first + room]]

    def _head(self) -> Text:
        row = self._watched.row
        end = row["ended"] or time.time()
        clock = "" if row["started"] is None else duration(float(int(end - row["started"])))
        title = Text(harmless(f"{row['flow']} ({row['name']})"), style="bold")
        line = Text("  ").append_text(state_of(row)).append(f"  {clock}", "dim")
        if self._watched.reading is not None:
            line.append(f"  {reading_words(self._watched.reading)}", "yellow")
        title.truncate(max(self._where.width - line.cell_len, _LEAST_TITLE), overflow="crop")
        return title.append_text(line)


def _keys() -> list[str]:
    """Return the keys that were pressed; an arrow is several characters."""
    typed = os.read(sys.stdin.fileno(), 64).decode(errors="replace")
    return _KEY.findall(typed) or [""]


def _leave(number: int, _: object) -> None:
    """End as a signal would, by way of giving the terminal back."""
    raise SystemExit(128 + number)
