"""Whether a call is awaited, so that one function serves `x = f()` and `x = await f()`.

Prefect's functions return a coroutine where an event loop runs, and a value elsewhere. Scripts
have both forms, and the same function here answers both: it returns its value, unless the
instruction that follows the call awaits what it returns.

What takes long, such as a command, must not hold the event loop up, and may be handed to
`asyncio.gather`: it returns a coroutine to all `async def` code (`is_called_by_coroutine`).
"""

from __future__ import annotations

import opcode
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType
    from typing import Any

#: Flags of the code of coroutine functions and asynchronous generators.
_COROUTINE = 0x280
#: Frames of their own that stand in the code of a function.
_INSIDE = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>"})
_AWAIT = opcode.opmap["GET_AWAITABLE"]
_CACHE = opcode.opmap["CACHE"]


class Awaited:
    """Gives a value that is there already to who awaits it."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self._value


def awaited(value: Any, depth: int = 1) -> Any:
    """Return `value`, or what gives it to `await`, as the call of the caller is written.

    Args:
        value: what the calling function returns.
        depth: how many functions of ours stand between this one and the call in question.
    """
    frame = sys._getframe(depth + 1)  # noqa: SLF001 - the only way to the caller
    return Awaited(value) if is_awaited(frame) else value


def is_awaited(frame: FrameType) -> bool:
    """Tell whether what the current call in this frame returns is awaited at once."""
    if not frame.f_code.co_flags & _COROUTINE:
        return False
    code = frame.f_code.co_code
    place = frame.f_lasti + 2
    while place < len(code) and code[place] == _CACHE:
        place += 2
    return place < len(code) and code[place] == _AWAIT


def is_called_by_coroutine(depth: int = 2) -> bool:
    """Tell whether `async def` code called the function that asks this.

    Such code can await what it is given. The cells of a notebook run in an event loop too, and
    cannot, unless there is an `await` in them.
    """
    frame: FrameType | None = sys._getframe(depth)  # noqa: SLF001 - the one way to the caller
    while frame is not None and frame.f_code.co_name in _INSIDE:
        frame = frame.f_back
    return frame is not None and bool(frame.f_code.co_flags & _COROUTINE)
