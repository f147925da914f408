"""Lines out of bytes as they come, lists of them, and who waits for what."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hpc_flows.awaiting import COROUTINE

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType
    from typing import Any, Self

#: Frames of their own that stand in the code of a function.
_INSIDE = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>"})


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


def is_awaited(depth: int = 2) -> bool:
    """Tell whether `async def` code called the function that asks this.

    Such code can await what it is given. The cells of a notebook run in an event loop too, and
    cannot, unless there is an `await` in them.
    """
    frame: FrameType | None = sys._getframe(depth)  # noqa: SLF001 - the one way to the caller
    while frame is not None and frame.f_code.co_name in _INSIDE:
        frame = frame.f_back
    return frame is not None and bool(frame.f_code.co_flags & COROUTINE)
