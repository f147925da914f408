"""What a sink remembers of a run in a file: what was sent, and under which ids.

A relay that has lost its cursor sends a run from its first line; what was sent is then known here.
Each batch adds one line after it was taken, so a killed sink repeats one batch at most.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.reader import NumberSet, decode
from hpc_flows.reporting.prefect.identity import made_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpc_flows.journal.event import Event
    from hpc_flows.reporting.sink import Line

#: Ends the name of the file with lines of a journal that is elsewhere.
_KEPT = ".lines"


class Marks:
    """The memory of one run in one file.

    Args:
        folder: where the file is; empty keeps nothing.
        run: id of the root flow run.

    Attributes:
        ids: what the server calls things, by kind and our id.
    """

    def __init__(self, folder: str, run: str) -> None:
        self._folder = folder
        # A run's id comes from a file of others: no path is made of it.
        self._path = os.path.join(folder, f"{made_id('run', run)}.jsonl") if folder else ""
        self._sent: dict[str, NumberSet] = {}
        self.ids: dict[str, dict[str, Any]] = {"flow": {}, "artifact": {}, "group": {}}
        self._new: dict[str, dict[str, Any]] = {}
        self._torn = False
        for line in self._lines():
            self._take(line)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known to have been sent."""
        return not self._sent and not any(self.ids.values())

    def has(self, event: Event) -> bool:
        """Tell whether an event was sent."""
        numbers = self._sent.get(event.writer)
        return numbers is not None and event.seq in numbers

    def name(self, kind: str, ours: str, there: Any) -> None:
        """Note what the server calls something; written with the next `sent` or `write`."""
        self.ids[kind][ours] = there
        self._new.setdefault(kind, {})[ours] = there

    def sent(self, events: Iterable[Event]) -> None:
        """Note that events were sent, and write it down."""
        numbers: dict[str, list[int]] = {}
        for event in events:
            if self._sent.setdefault(event.writer, NumberSet()).add(event.seq):
                numbers.setdefault(event.writer, []).append(event.seq)
        self.write({writer: _ranges(found) for writer, found in numbers.items()})

    def write(self, ranges: dict[str, list[list[int]]] | None = None) -> None:
        """Write down what is new."""
        if not self._path or not (ranges or self._new):
            return
        text = json.dumps({"sent": ranges or {}, "ids": self._new}, separators=(",", ":"))
        # Where it cannot be written, a replay repeats what the server then takes once.
        with suppress(OSError):
            start, self._torn = (b"\n" if self._torn else b""), True
            self._append(self._path, start + text.encode() + b"\n")
            self._torn = False
        self._new = {}

    def keep(self, lines: Iterable[Line]) -> None:
        """Keep lines of a journal that is not on this machine, for `kept`."""
        text = b"".join(line.text + b"\n" for line in lines)
        if self._path and text:
            with suppress(OSError):  # as in `write`
                self._append(self._path + _KEPT, text)

    def kept(self) -> Iterator[Event]:
        """Give the events of the lines that were kept; what is damaged is left out."""
        for line in _read(self._path + _KEPT).split(b"\n") if self._path else ():
            with suppress(ValueError):
                yield decode(line)

    def _append(self, path: str, text: bytes) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            while text:  # a disk that gets full takes a part of it
                text = text[os.write(fd, text) :]
        finally:
            os.close(fd)

    def _lines(self) -> Iterator[dict[str, Any]]:
        content = _read(self._path) if self._path else b""
        self._torn = bool(content) and not content.endswith(b"\n")
        for line in content.split(b"\n"):
            with suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    yield found

    def _take(self, line: dict[str, Any]) -> None:
        with suppress(AttributeError, TypeError, ValueError):  # damaged: as if never written
            for writer, ranges in line["sent"].items():
                numbers = self._sent.setdefault(writer, NumberSet())
                for first, last in ranges:
                    for number in range(int(first), int(last) + 1):
                        numbers.add(number)
            for kind, names in line["ids"].items():
                self.ids.setdefault(kind, {}).update(names)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _ranges(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
