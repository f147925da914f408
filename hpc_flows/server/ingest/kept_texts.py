"""Texts that are kept beside a run, and large artifacts, which come in parts.

No body of a request is larger than a part, whatever is sent. The parts of an artifact wait in the
database until all are there; then they become its data, if they are what was announced. What the
artifacts of one run take is bounded, those that wait included.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sqlalchemy import and_, delete, func, or_, select, update

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.server.db.bulk import REPLACE, upsert_rows
from hpc_flows.server.db.models import attachment_parts as parts
from hpc_flows.server.db.models import attachments, runs
from hpc_flows.server.db.opening import now
from hpc_flows.server.db.texts import clean

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Bytes of a part, of an artifact, and of all artifacts of a run.
PART, LARGEST, QUOTA = 2**20, 16 * 2**20, 256 * 2**20

_DIGITS = frozenset("0123456789abcdef")
_DIGEST = 64


class OverQuota(HpcFlowsError):
    """The artifacts of a run would take more than they may."""


class Part(NamedTuple):
    """A part of a large artifact.

    Attributes:
        number: its place, from 1.
        of: how many there are; all but the last have `PART` bytes.
        digest: BLAKE2b of 32 bytes over the whole, in hexadecimal digits.
        content: its bytes.
    """

    number: int
    of: int
    digest: str
    content: bytes

    def check(self) -> None:
        """See that it can be one.

        Raises:
            ValueError: it cannot.
        """
        if not 1 <= self.number <= self.of <= LARGEST // PART:
            raise ValueError(
                f"Part {self.number} of {self.of} cannot be: an artifact has at most "
                f"{LARGEST // PART} parts of {PART} bytes."
            )
        if len(self.digest) != _DIGEST or not set(self.digest) <= _DIGITS:
            raise ValueError(f"The digest has to be {_DIGEST} hexadecimal digits.")
        whole = self.number < self.of
        if not self.content or len(self.content) > PART or (whole and len(self.content) != PART):
            raise ValueError(f"Each part but the last has {PART} bytes, and the last at most that.")


def keep_text(connection: Connection, run: Any, kind: str, key: str, text: str) -> None:
    """Keep a text in place of what was there, and raise the run's version.

    Args:
        connection: in a transaction.
        run: the run's row, with `pk` and `artifact_bytes`.
        kind: `script`, `output` or `artifact`.
        key: by which it is found.
        text: the text.

    Raises:
        OverQuota: it is an artifact, and there is no room for it.
    """
    size = len(text.encode("utf-8", "replace"))
    changes: dict[str, Any] = {"version": runs.c.version + 1, "changed": now()}
    if kind == "artifact":
        taken = run.artifact_bytes - _size_of(connection, run.pk, key)
        waits = and_(parts.c.run_pk == run.pk, parts.c.key == key)
        connection.execute(delete(parts).where(waits))
        _check_room(taken + _waiting(connection, run.pk), size)
        changes["artifact_bytes"] = taken + size
    upsert_rows(
        connection,
        attachments,
        ("run_pk", "kind", "key", "content", "updated", "size"),
        [(run.pk, kind, key, clean(text, LARGEST), now(), size)],
        taking=(("content", REPLACE), ("updated", REPLACE), ("size", REPLACE)),
    )
    connection.execute(update(runs).where(runs.c.pk == run.pk).values(changes))


def keep_part(connection: Connection, run: Any, key: str, part: Part) -> bool:
    """Keep a part; tell whether all are there now. What waits of another content is dropped.

    Raises:
        OverQuota: there is no room for the whole of it.
    """
    mine = and_(parts.c.run_pk == run.pk, parts.c.key == key)
    again = or_(parts.c.digest != part.digest, parts.c.part == part.number)
    connection.execute(delete(parts).where(mine, again))
    others = _waiting(connection, run.pk, but=key) - _size_of(connection, run.pk, key)
    _check_room(run.artifact_bytes + others, (part.of - 1) * PART + 1)
    names = ("run_pk", "key", "digest", "part", "content", "updated")
    row = (run.pk, key, part.digest, part.number, part.content, now())
    upsert_rows(connection, parts, names, [row])
    there = connection.scalar(select(func.count()).select_from(parts).where(mine))
    return there == part.of


def joined(connection: Connection, run_pk: int, key: str, digest: str) -> str:
    """Return the text that the parts of an artifact make.

    Raises:
        ValueError: it is not what was announced, or no JSON.
    """
    mine = and_(parts.c.run_pk == run_pk, parts.c.key == key, parts.c.digest == digest)
    found = connection.scalars(select(parts.c.content).where(mine).order_by(parts.c.part))
    content = b"".join(found)
    if blake2b(content, digest_size=_DIGEST // 2).hexdigest() != digest:
        raise ValueError("The parts do not make what their digest says; send all of them again.")
    try:
        # Numbers that JSON lacks would go out as they stand, and no browser reads them.
        text = content.decode()
        json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"An artifact is JSON, and this is none: {error}.") from None
    return text


def drop_parts(connection: Connection, run_pk: int, key: str) -> None:
    """Forget the parts of an artifact that wait."""
    connection.execute(delete(parts).where(parts.c.run_pk == run_pk, parts.c.key == key))


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _size_of(connection: Connection, run_pk: int, key: str) -> int:
    """Return the bytes of an artifact's data that are kept."""
    mine = and_(attachments.c.run_pk == run_pk, attachments.c.kind == "artifact")
    return connection.scalar(select(attachments.c.size).where(mine, attachments.c.key == key)) or 0


def _waiting(connection: Connection, run_pk: int, but: str | None = None) -> int:
    """Return the bytes of parts that wait, but for those of one artifact."""
    query = select(func.sum(func.length(parts.c.content))).where(parts.c.run_pk == run_pk)
    return int(connection.scalar(query.where(parts.c.key != (but or ""))) or 0)


def _check_room(taken: int, more: int) -> None:
    if taken + more > QUOTA:
        raise OverQuota(
            f"The artifacts of this run take {taken} bytes here, and with {more} more they would "
            f"take more than the {QUOTA} that they may. The file of the run still has it; keep "
            f"large data as results or files, and a picture or a summary as artifact."
        )
