"""Live progress of a run: a table that renews itself on a terminal, plain lines elsewhere.

The display is a reader of the journal like any other: a thread follows the run's folder and draws.
It takes little of the driver's time, whatever the number of task runs: after each look it rests 25
times as long as the look took.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.text import Text

from hpc_flows.cli.tally import STYLES, Tally, by_task, tally
from hpc_flows.cli.terminal import console, duration, is_unicode
from hpc_flows.journal.index import summarise
from hpc_flows.journal.reader import BATCH, JournalReader
from hpc_flows.journal.replay import RunView
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console

    from hpc_flows.journal.index import RunSummary

#: Seconds between two looks at the journal, at least.
_PERIOD = 0.25

#: A look of 1 s of processor time is followed by a rest of this many seconds: 4 % of a core.
_REST = 25.0

#: Seconds between two plain lines of progress.
_PLAIN_PERIOD = 5.0

#: Lines of the terminal that are left to what the flow prints.
_SPARE_LINES = 4

_NARROW = 44
_LONGEST_LABEL = 28
_LEAST_BAR = 8
_GLYPHS = {"done": "━", "failed": "━", "cancelled": "━", "running": "━", "queued": "─"}
_ASCII = {"done": "=", "failed": "x", "cancelled": "x", "running": ">", "queued": "-"}

#: Task runs that ended well are counted in the table; a line for each would drown the others.
_COUNTED = re.compile(r"\S+ \| INFO    \| Task run '.*' - Finished in state Completed\(\)\n?")


class Follower:
    """A view of a run that is kept up to date by reading its journal.

    Attributes:
        run_dir: the run's folder.
        view: the run as far as it was read.
    """

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.view = RunView()
        self._reader = JournalReader(run_dir)

    def catch_up(self, limit: int = BATCH) -> bool:
        """Read what was written since the last time; tell whether there was anything.

        Args:
            limit: most events that are read; the rest is there the next time.
        """
        events = self._reader.poll(limit)
        for event in events:
            self.view.apply(event)
        return bool(events)

    def read_all(self) -> None:
        """Read all that was written, however long the journal is."""
        while self.catch_up():
            pass

    def share_read(self) -> float:
        """Return which share of the bytes of the journal was read, from 0 to 1."""
        left = sum(self._reader.unread().values())
        whole = _folder_size(os.path.join(self.run_dir, "journal"))
        return 1.0 - min(left / whole, 1.0) if whole else 1.0


def _folder_size(folder: str) -> int:
    """Return the bytes of the files of a folder; of one that is not there, 0."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0


class _Newcomers:
    """Finds the folder of the run that this process begins.

    The engine tells nobody that it begins a run but the file system, as it tells everybody.
    """

    def __init__(self, home: str) -> None:
        self._runs = os.path.join(home, "runs")
        self._known = set(self._names())

    def find(self) -> str | None:
        """Return the folder of the first run that this process began since then, if any."""
        for name in sorted(set(self._names()) - self._known):
            folder = os.path.join(self._runs, name)
            owner = _owner(folder)
            if owner == (os.uname().nodename, os.getpid()):
                return folder
            if owner is not None:
                self._known.add(name)
        return None

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._runs)
        except OSError:  # the first run makes the folder; the engine tells what is wrong with it
            return []


def _owner(folder: str) -> tuple[str, int] | None:
    """Return the host and process that began a run; None while its run.json is not there."""
    try:
        with open(os.path.join(folder, "run.json"), "rb") as file:
            facts = json.load(file)
        return facts["host"], facts["pid"]
    except (OSError, ValueError, KeyError):
        return None


class Progress:
    """Shows the progress of the run that is begun in a `with` block.

    Args:
        title: what is run, such as `census on afton`.
        live: whether a table is redrawn; by default where stdout is a terminal.
        follow: folder of a run that was begun before, to be followed instead.
    """

    def __init__(self, title: str, *, live: bool | None = None, follow: str | None = None) -> None:
        self.title = title
        self.follower = None if follow is None else Follower(follow)
        self._newcomers = _Newcomers(get_settings().home)
        self.began = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._display: _Display
        if sys.stdout.isatty() if live is None else live:
            self._display = _Table(self)
        else:
            self._display = _Lines(self)

    # A console that cannot be written, or is gone, is no reason to end the run that it shows.

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self._display.open()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            while self._look():  # of a long run more than one look is left
                pass
        finally:
            with contextlib.suppress(OSError):
                self._display.close()

    def _watch(self) -> None:
        rest = 0.05
        while not self._stop.wait(rest):
            began = time.thread_time()
            changed = self._look()
            with contextlib.suppress(OSError):
                self._display.show(changed=changed)
            rest = max(_PERIOD, (time.thread_time() - began) * _REST)

    def _look(self) -> bool:
        if self.follower is None:
            folder = self._newcomers.find()
            self.follower = None if folder is None else Follower(folder)
        return self.follower is not None and self.follower.catch_up()

    @property
    def view(self) -> RunView | None:
        """The run as far as it was read, or None before it began."""
        return self.follower.view if self.follower is not None else None


class _Display:
    """What a `Progress` draws on; `show` is called by its thread."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def open(self) -> None:
        """Get ready."""

    def show(self, *, changed: bool) -> None:
        """Show where the run stands."""

    def close(self) -> None:
        """Show the end, and give the terminal back."""


class _Lines(_Display):
    """Plain lines on stderr, a few seconds apart, when something has changed."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self._last = ""
        self._due = time.monotonic() + _PLAIN_PERIOD

    def show(self, *, changed: bool) -> None:
        """Print a line when the last one is old enough and says something else."""
        view = self.progress.view
        if not changed or view is None or time.monotonic() < self._due:
            return
        words = plain_words(view)
        if words != self._last:
            self._last = words
            self._due = time.monotonic() + _PLAIN_PERIOD
            print(f"{time.strftime('%H:%M:%S')}.000 | INFO    | {words}", file=sys.stderr)  # noqa: T201 - not a record of the run


def plain_words(view: RunView) -> str:
    """Return one line of progress, such as `Progress - measure: 3 running, 57 done`."""
    parts = (f"{name}: {counted.in_words()}" for name, counted in by_task_of(view).items())
    return "Progress - " + "; ".join(parts)


def by_task_of(view: RunView) -> dict[str, Tally]:
    """Return a run's tallies by task name; task runs not yet named are left out."""
    return {task: counted for task, counted in by_task(view.task_runs.values()).items() if task}


class _Table(_Display):
    """A table at the bottom of the terminal; what the flow prints goes by above it."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self._console = console()
        self._live = Live(
            Text(""), console=self._console, auto_refresh=False, transient=True, screen=False
        )
        self._second = -1
        self._real = sys.stderr

    def open(self) -> None:
        """Start drawing; stdout and stderr are printed above the table from here on."""
        self._live.start()
        self._real = sys.stderr
        sys.stderr = _Filtered(sys.stderr)

    def show(self, *, changed: bool) -> None:
        """Draw anew when something has changed, and once a second for the clock."""
        second = int(time.time() - self.progress.began)
        if changed or second != self._second:
            self._second = second
            self._live.update(self._picture(), refresh=True)

    def close(self) -> None:
        """Draw the end, and leave it on the terminal."""
        sys.stderr = self._real
        self._live.transient = False
        try:
            self._live.update(self._picture(), refresh=True)
        finally:
            self._live.stop()

    def _picture(self) -> Text:
        view = self.progress.view
        counted = by_task_of(view) if view is not None else {}
        elapsed = time.time() - self.progress.began
        lines = [header(self.progress.title, elapsed, self._console.width)]
        lines += table_lines(counted, self._console)
        return Text("\n", no_wrap=True, overflow="crop").join(lines)


class _Filtered:
    """A stderr that leaves out the lines of task runs that ended well: the table counts them."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text unless it is such a line."""
        if not _COUNTED.fullmatch(text):
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def header(title: str, elapsed: float, width: int) -> Text:
    """Return the line above the table: what is run, and for how long."""
    clock = duration(float(int(elapsed))).replace(".0 s", " s").replace("0.00 s", "0 s")
    line = Text(title[: max(width - len(clock) - 3, 8)], style="bold", no_wrap=True)
    return line.append(f"  {clock}", "dim")


def table_lines(counted: dict[str, Tally], where: Console) -> list[Text]:
    """Return a line for each task; those that still have something to do come first when cut."""
    room = max(where.height - _SPARE_LINES, 3)
    shown = dict(counted)
    if len(counted) > room:
        open_first = sorted(counted, key=lambda name: counted[name].ended == counted[name].total)
        shown = {name: counted[name] for name in open_first[: room - 1]}
    label = min(max((len(name) for name in shown), default=0), _LONGEST_LABEL)
    sums = [f"{each.ended}/{each.total}" for each in shown.values()]
    width = max((len(text) for text in sums), default=0)
    lines = [_task_line(name, each, (label, width), where) for name, each in shown.items()]
    if len(shown) < len(counted):
        rest = [each for name, each in counted.items() if name not in shown]
        lines.append(Text(f"and {len(rest)} tasks more: {_sum(rest).in_words()}", style="dim"))
    return lines


def _sum(tallies: Sequence[Tally]) -> Tally:
    total = Tally()
    for each in tallies:
        for name in STYLES:
            total.add(name, getattr(each, name))
    return total


def _task_line(name: str, counted: Tally, widths: tuple[int, int], where: Console) -> Text:
    label, number = widths
    line = Text(_cut(name, label).ljust(label), no_wrap=True, overflow="crop")
    line.append(f" {counted.ended}/{counted.total}".rjust(number + 1))
    if where.width < _NARROW:
        return line
    words = Text()
    for part in ("running", "queued", "waiting", "failed", "cancelled"):
        amount = getattr(counted, part)
        if amount:
            words.append(f"  {amount} {part}", STYLES[part])
    room = where.width - label - number - 3 - 34
    if room >= _LEAST_BAR:
        line.append("  ").append(bar(counted, min(room, 60), unicode=is_unicode(where)))
    return line.append(words)


def bar(counted: Tally, width: int, *, unicode: bool = True) -> Text:
    """Return a bar in which each standing has its share, the ended ones first."""
    glyphs = _GLYPHS if unicode else _ASCII
    blank = "┄" if unicode else "."
    drawn = Text()
    total = max(counted.total, 1)
    at = seen = 0
    for part in ("done", "failed", "cancelled", "running", "queued", "waiting"):
        seen += getattr(counted, part)
        upto = round(seen / total * width)
        drawn.append(glyphs.get(part, blank) * (upto - at), STYLES[part])
        at = upto
    return drawn


def _cut(label: str, room: int) -> str:
    return label if len(label) <= room else label[: room - 1] + "~"


def watch(run_dir: str) -> None:
    """Show the progress of a run that goes on elsewhere, until it ends."""
    about = summarise(run_dir)
    if not goes_on(about):
        return
    progress = Progress(f"{about.flow} ({about.name})", follow=run_dir)
    progress.began = about.started or progress.began
    with progress:
        while goes_on(summarise(run_dir)):
            time.sleep(_PERIOD * 2)


def goes_on(about: RunSummary) -> bool:
    """Tell whether a run has not ended and may still have a driver."""
    return about.ended is None and about.alive is not False


def summary(view: RunView) -> str:
    """Return how many task runs a run had and where they stand, in words."""
    counted = tally(list(view.task_runs.values()))
    noun = "task run" if counted.total == 1 else "task runs"
    return f"{counted.total} {noun}: {counted.in_words()}" if counted.total else "no task runs"
