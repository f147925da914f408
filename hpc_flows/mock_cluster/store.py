"""The controller's memory on disk: an append-only file of JSON lines, written before answering.

A line is `[kind, data]`; the last line of a thing wins. A torn last line (the controller was
killed while writing) is left out. At a start the file is written anew without what was overtaken.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Store:
    """An append-only log of what the controller must not forget."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def load(self) -> Iterator[tuple[str, Any]]:
        """Yield the kept (kind, data), oldest first."""
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    kind, data = json.loads(line)
                except ValueError:
                    continue
                yield kind, data

    def put_aside(self) -> Path:
        """Rename the file, so that a new one can begin; return where it is now."""
        self.close()
        number = 1
        while (kept := self._path.with_suffix(f".old-{number}.jsonl")).exists():
            number += 1
        self._path.rename(kept)
        return kept

    def rewrite(self, entries: Iterable[tuple[str, Any]]) -> None:
        """Replace the file by these entries, atomically, and open it for more."""
        self.close()
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as out:
            for entry in entries:
                out.write(json.dumps(entry) + "\n")
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(self._path)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, kind: str, data: object) -> None:
        """Append one entry; it outlives the process once this returns."""
        os.write(self._fd, json.dumps((kind, data)).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
