"""Lines out of bytes as they come, and lists of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Self


class Lines(list[str]):
    """A list of lines; awaiting it gives the list itself, as `await op.run()` would."""

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self


class LineSplitter:
    """Cuts what is read into lines, whatever bytes it is made of."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []  # pieces of a line that has not ended

    def split(self, chunk: bytes) -> list[str]:
        """Return the lines that end in this chunk."""
        if b"\n" not in chunk:
            self._begun.append(chunk)
            return []
        first, *others = chunk.split(b"\n")
        whole = [b"".join([*self._begun, first]), *others]
        self._begun = [whole.pop()]
        return [_text(line) for line in whole]

    def rest(self) -> str | None:
        """Return the last line, which no line end follows, or None."""
        line = b"".join(self._begun)
        self._begun = []
        return _text(line) if line else None


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
