"""Following the journals of jobs: which there are, what is new in them, which are finished.

One listing of the journal folder tells which jobs have started (their journal is there) and which
have finished (their mark is there). No file is asked for by name before the listing has shown it:
network file systems remember for long that a file was not there. Journals of jobs that run are
read from time to time for their logs, at a cost that is bounded by `DirectoryWatch.share`.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.jobs.submission import PREFIX
from hpc_flows.journal.reader import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpc_flows.jobs.submission import Element
    from hpc_flows.journal.event import Event

JOURNAL, MARK = "jsonl", "ended"
#: Bytes that are read of a journal at a time.
CHUNK = 256 * 1024
#: Seconds for which a line with zero bytes in it is waited for, before it counts as damaged.
HOLE_PATIENCE = 30.0


class Entry(NamedTuple):
    """A file of a job in the journal folder; `number` is the element's index."""

    token: str
    number: int
    restart: int
    kind: str


class DirectoryWatch:
    """Lists the journal folder of a run, quickly while things happen and slowly while not.

    Args:
        run_dir: the run's folder.
        quickest, slowest: seconds between two listings.
        share: the most of one core that listing may take; large folders are listed more seldom.
    """

    def __init__(
        self, run_dir: str, *, quickest: float = 0.03, slowest: float = 1.0, share: float = 0.05
    ) -> None:
        self.folder = os.path.join(run_dir, "journal")
        self._seen: set[str] = set()
        self._quickest, self._slowest, self._share = quickest, slowest, share
        self._pause = quickest
        self._cost = 0.0

    def new_entries(self) -> list[Entry]:
        """Return the files of jobs that have appeared since the last call."""
        began = time.thread_time()
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []  # the driver's own writer will say what is wrong with the folder
        fresh = [name for name in names if name not in self._seen]
        self._seen.update(fresh)
        found = [entry for name in fresh if (entry := parse_name(name)) is not None]
        self._cost = time.thread_time() - began
        self._pause = self._quickest if found else min(self._pause * 1.3, self._slowest)
        return found

    def hurry(self) -> None:
        """List soon again: something is about to happen."""
        self._pause = self._quickest

    @property
    def pause(self) -> float:
        """Seconds until the next listing."""
        return max(self._pause, self._cost / self._share)


def parse_name(name: str) -> Entry | None:
    """Return what a file's name says: `hf-1b4e28ba-7c9a10d2-3-0.jsonl` or `.ended`."""
    stem, _, kind = name.rpartition(".")
    token, *numbers = stem.rsplit("-", 2)
    if kind not in (JOURNAL, MARK) or not stem.startswith(PREFIX) or len(numbers) != 2:  # noqa: PLR2004 - index and restart
        return None
    index, restart = numbers
    if not (index.isdigit() and restart.isdigit()):
        return None
    return Entry(token, int(index), int(restart), kind)


def read_new(run_dir: str, element: Element, restart: int) -> Iterator[Event]:
    """Yield the events that one start of an element has written since it was last read.

    A line without its newline is left for the next time, and so is one with zero bytes in it: NFS
    may show what a node wrote later before what it wrote earlier. A damaged one is passed over.
    """
    token, index = element.submission.token, element.index
    path = os.path.join(run_dir, "journal", f"{token}-{index}-{restart}.{JOURNAL}")
    for line in _new_lines(path, element, restart):
        try:
            yield decode(line)
        except ValueError:
            continue


def _new_lines(path: str, element: Element, restart: int) -> Iterable[bytes]:
    offset = element.offsets.get(restart, 0)
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(CHUNK)
            while content and b"\n" not in content:
                more = file.read(CHUNK)
                if not more:
                    return []
                content += more
    except OSError:
        return []  # listed, and not (or no longer) there: the scheduler will tell
    lines = content.split(b"\n")[:-1]
    found = list(islice(lines, _before_hole(lines, element, restart)))
    element.offsets[restart] = offset + sum(len(line) + 1 for line in found)
    return found


def _before_hole(lines: list[bytes], element: Element, restart: int) -> int | None:
    """Return how many lines come before one that has not arrived yet; None where all count."""
    number = next((n for n, line in enumerate(lines) if b"\0" in line), None)
    if number is None:
        return None
    start = element.offsets.get(restart, 0) + sum(len(line) + 1 for line in lines[:number])
    met, since = element.holes.get(restart, (-1, 0.0))
    if met != start:
        since = time.monotonic()
        element.holes[restart] = (start, since)
    return None if time.monotonic() - since > HOLE_PATIENCE else number
