"""Files that belong to a run and do not stand in its journal: scripts, output tails, artifacts.

Which there are is read off the lines as they pass. What is not sent yet stands in the cursor, so
that a relay that is killed forgets none.
"""

from __future__ import annotations

import os
from json import loads
from time import monotonic
from typing import TYPE_CHECKING

from hpc_flows.journal.reader import decode
from hpc_flows.reporting.sink import Attachment, BatchRefused, SinkTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpc_flows.journal.event import Event
    from hpc_flows.reporting.cursors import Cursor
    from hpc_flows.reporting.sink import Line, RunAbout, Sink

#: Most bytes of a script, of an artifact, and of the end of an output.
MOST_BYTES, MOST_OF_ARTIFACT, TAIL = 1024 * 1024, 16 * 1024 * 1024, 64 * 1024
#: How many are sent before events have their turn again, and how many may wait before no more
#: events are read.
_AT_ONCE, MOST_DUE = 25, 500
#: Seconds after which no more of them are begun in a turn: large ones take long.
_LONGEST_TURN = 1.0
#: Seconds after the end of a task run at which its output is read: the scheduler writes last.
_OUTPUT_AFTER = 1.0
#: Errors of the sink's own, in a row, after which an attachment is passed over.
_STUMBLES = 3

_JOB = "hf-"
_FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})


class Attachments:
    """What of a run's files is to be sent; the list is the cursor's.

    Args:
        about: the run.
        cursor: its cursor.
    """

    def __init__(self, about: RunAbout, cursor: Cursor) -> None:
        self._about, self._cursor = about, cursor
        self._not_before: dict[tuple[str, str], float] = {}
        self._stumbles = 0

    @property
    def is_full(self) -> bool:
        """Whether so many wait that no more events should be read."""
        return len(self._cursor.due) > MOST_DUE

    def note(self, lines: Sequence[Line]) -> None:
        """Note the files that lines speak of."""
        for line in lines:
            if not _interests(line.text):
                continue
            try:
                found = _named(decode(line.text), self._cursor)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # the sink counts what makes no sense
            if found is not None and found not in self._cursor.due:
                self._cursor.due.append(found)
                if found[0] == "output":
                    self._not_before[found[0], found[1]] = monotonic() + _OUTPUT_AFTER

    def send(self, sink: Sink, heed: Callable[[int], object]) -> bool:
        """Send some that are due; tell whether the list has changed.

        Args:
            sink: where to.
            heed: is told the run's version that the sink has after each.

        Raises:
            SinkTrouble, SinkRefusal, RunGone: the list stands as far as they were not sent.
        """
        now = monotonic()
        ready = [each for each in self._cursor.due if self._is_ready(each, now)][:_AT_ONCE]
        began = now
        for each in ready:
            if monotonic() - began > _LONGEST_TURN:
                break  # events have their turn again
            heed(self._send_one(sink, each))
            self._cursor.due.remove(each)
            self._not_before.pop(each[:2], None)
        return bool(ready)

    def hurry(self) -> None:
        """Wait for no output any more: there will be no later."""
        self._not_before.clear()

    def is_ready(self) -> bool:
        """Tell whether one can be sent now."""
        now = monotonic()
        return any(self._is_ready(each, now) for each in self._cursor.due)

    def _is_ready(self, each: tuple[str, str, str], now: float) -> bool:
        return self._not_before.get(each[:2], 0.0) <= now

    def _send_one(self, sink: Sink, each: tuple[str, str, str]) -> int:
        kind, key, path = each
        most = MOST_OF_ARTIFACT if kind == "artifact" else MOST_BYTES
        content = read_within(self._about.folder, path, tail=kind == "output", most=most)
        version = 0
        if content is None or not content:
            return version
        # What is large is checked by the server: here it would keep the flow's threads waiting.
        if kind == "artifact" and len(content) <= MOST_BYTES and not _is_json(content):
            return version
        try:
            version = sink.attach(self._about, Attachment(kind, key, content))
        except BatchRefused:
            self._cursor.refused += 1
        except SinkTrouble as trouble:
            self._stumbles = self._stumbles + 1 if trouble.answered else 0
            if self._stumbles < _STUMBLES:
                raise
            self._cursor.refused += 1
        self._stumbles = 0
        return version


def _interests(text: bytes) -> bool:
    return (
        b'"kind":"job-intent"' in text
        or (b'"kind":"state"' in text and b'"subject":"task"' in text)
        or (b'"kind":"artifact"' in text and b'"file"' in text)
    )


def _named(event: Event, cursor: Cursor) -> tuple[str, str, str] | None:
    data = event.data
    if event.kind == "job-intent":
        if data.get("cluster") and data["cluster"] not in cursor.clusters:
            cursor.clusters.append(str(data["cluster"]))
        return ("script", str(data["token"]), str(data["script"]))
    if event.kind == "artifact":
        # Told from the home, `runs/<id>/artifacts/…`; kept from the run's folder on.
        name = str(data["file"]).partition(f"{event.run}/")[2]
        return ("artifact", str(data["id"]), name) if name else None
    if event.kind != "state" or data["type"] not in _FINAL:
        return None
    path = _output_of(event.writer) or (data.get("details") or {}).get("output")
    return ("output", str(data["id"]), str(path)) if path else None


def _output_of(writer: str) -> str | None:
    """Return the output file of the job whose writer is `<token>-<index>-<restart>`."""
    token, _, rest = writer.rpartition("-")[0].rpartition("-")
    if not token.startswith(_JOB) or not rest.isdecimal():
        return None
    return f"jobs/{token}/out-{rest}.log"


def read_within(folder: str, path: str, *, tail: bool, most: int = MOST_BYTES) -> bytes | None:
    """Return a file of the run's folder, or its end; None if it is not there or not within.

    Args:
        folder: the run's folder.
        path: whole, or from the folder on; links may not lead out of the folder.
        tail: whether the end of a long file will do; else it is left out.
        most: bytes of a file that is not long.
    """
    whole = os.path.realpath(os.path.join(folder, path))
    if not whole.startswith(os.path.realpath(folder) + os.sep):
        return None
    try:
        fd = os.open(whole, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        facts = os.fstat(fd)
        if facts.st_uid != os.geteuid() or (facts.st_size > most and not tail):
            return None
        content = os.pread(fd, most, max(0, facts.st_size - TAIL) if tail else 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    return content if not tail or len(content) < TAIL else content[content.find(b"\n") + 1 :]


def _is_json(content: bytes) -> bool:
    try:
        loads(content)
    except (ValueError, RecursionError):
        return False
    return True
