"""How far imports have read journals, so that the next import reads what has come since.

What is remembered stands in the database beside the events: an older copy of it that was put back
remembers what it holds. A file that has neither grown nor changed is not opened; one that was
replaced is known by the bytes before the place that was reached, and is read from its beginning.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from hpc_flows.server.db.bulk import REPLACE, upsert_rows
from hpc_flows.server.db.models import imported_files, runs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from hpc_flows.server.db import Database

#: Bytes before the place that was reached by which a file is known again.
_MARKED = 4096
#: What stands for all of a run in place of a path, and how far its import came.
_ALL, _BEGUN, _WHOLE = "", "begun", "whole"
_COLUMNS = ("run_pk", "path", "size", "modified", "done", "mark")


class Place(NamedTuple):
    """How far a journal was read.

    Attributes:
        path: of the journal.
        size: of the whole file, in bytes.
        modified: when it was, in nanoseconds since 1970.
        done: bytes of the whole lines that were taken.
        mark: digest of the last of these.
    """

    path: str
    size: int
    modified: int
    done: int
    mark: str


class Memory:
    """How far the journals of one run were read.

    Args:
        database: where that stands.
        run: id of the run.
        owner_id: whose run it has to be; of others' nothing is known.
    """

    def __init__(self, database: Database, run: str, owner_id: int) -> None:
        self._database, self._run, self._owner = database, run, owner_id
        self._known: dict[str, Place] = {}
        with database.reading() as connection:
            table = imported_files.c
            query = select(*(table[name] for name in _COLUMNS[1:]))
            query = query.join(runs, runs.c.pk == table.run_pk).where(*self._mine())
            self._known = {row.path: Place(*row) for row in connection.execute(query)}

    def has_all_of(self, paths: Iterable[str]) -> bool:
        """Tell whether there is nothing new in some journals; they are not opened for that."""
        return self.is_whole and all(self._is_same(path) for path in paths)

    @property
    def is_whole(self) -> bool:
        """Whether the last import came to its end, and brought what lies beside the journals."""
        last = self._known.get(_ALL)
        return last is not None and last.mark == _WHOLE

    def begin_import(self) -> None:
        """Note that an import begins; should it be killed, the next one will know."""
        self.keep([Place(_ALL, 0, 0, 0, _BEGUN)])

    def end_import(self) -> None:
        """Note that an import came to its end."""
        self.keep([Place(_ALL, 0, 0, 0, _WHOLE)])

    def begin(self, file: BinaryIO, path: str) -> int:
        """Put an open journal at the place that was reached, and return that."""
        known = self._known.get(_as_text(path))
        if known is None or os.fstat(file.fileno()).st_size < known.done:
            return 0
        if mark_of(file, known.done) != known.mark:
            return 0
        return file.seek(known.done)

    def keep(self, places: Iterable[Place]) -> None:
        """Remember how far journals were read; what is read is in the database already."""
        with self._database.writing() as connection:
            key = connection.scalar(select(runs.c.pk).where(*self._mine()))
            if key is None:  # it was deleted meanwhile
                return
            rows = [(key, *place._replace(path=_as_text(place.path))) for place in places]
            taking = tuple((name, REPLACE) for name in _COLUMNS[2:])
            upsert_rows(connection, imported_files, _COLUMNS, rows, taking=taking)

    def _is_same(self, path: str) -> bool:
        known = self._known.get(_as_text(path))
        try:
            facts = os.lstat(path)
        except OSError:
            return False
        return known is not None and (known.size, known.modified) == (
            facts.st_size,
            facts.st_mtime_ns,
        )

    def _mine(self) -> tuple[Any, ...]:
        return runs.c.id == self._run, runs.c.owner_id == self._owner, runs.c.removed.is_(None)


def mark_of(file: BinaryIO, done: int) -> str:
    """Return the digest by which the bytes before a place of an open file are known again."""
    begin = max(0, done - _MARKED)
    return blake2b(os.pread(file.fileno(), done - begin, begin), digest_size=16).hexdigest()


def _as_text(path: str) -> str:
    """Return a path as both databases take it, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
