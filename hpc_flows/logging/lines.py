"""From bytes that a program writes to lines that a log can hold."""

from __future__ import annotations

from time import monotonic

from hpc_flows.journal.event import unsplit

#: Bytes of a line that are kept; the rest is cut, with a mark.
LONGEST_LINE = 32768

#: Bytes of records that a task's output may make at once, and each second in the long run.
BURST, RATE = 4 << 20, 100 << 10

#: What a record costs beside its text.
_RECORD = 200

#: Control characters, which would confuse a terminal, in words; tabs and colours stay.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code not in (9, 27)}


def readable(raw: bytes) -> str:
    """Return bytes as text, in which escapes stand for what is not UTF-8 and for controls."""
    return raw.decode("utf-8", "backslashreplace").translate(_CONTROLS)


class Lines:
    """Cuts what comes in pieces into lines.

    Of a line that is overwritten by carriage returns, as progress bars do it, the last text counts,
    which is what a terminal would show in the end.
    """

    __slots__ = ("_longest", "_lost", "_rest")

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._rest = b""
        self._lost = 0

    def feed(self, data: bytes) -> list[str]:
        """Take more bytes and return the lines that they complete."""
        pieces = data.split(b"\n")
        found = []
        for piece in pieces[:-1]:
            self._add(piece)
            found.append(self._take())
        self._add(pieces[-1])
        return found

    def last(self) -> list[str]:
        """Return the line that has no end, if there is one."""
        return [self._take()] if self._rest else []

    def _add(self, piece: bytes) -> None:
        if b"\r" in piece or b"\r" in self._rest:
            piece = self._rest + piece
            self._rest = b""
            overwritten = piece.rstrip(b"\r").rfind(b"\r") + 1
            if overwritten:
                piece, self._lost = piece[overwritten:], 0
        room = max(0, self._longest - len(self._rest))
        self._rest += piece[:room]
        self._lost += max(0, len(piece) - room)

    def _take(self) -> str:
        text, lost = readable(self._rest.rstrip(b"\r")), self._lost
        self._rest, self._lost = b"", 0
        return f"{unsplit(text)}… (cut here; {lost} bytes more)" if lost else text


class Allowance:
    """How much a task may still log: a bucket that fills with time.

    Once empty it gives nothing until an eighth of it is there again, so that a flood leaves a few
    long gaps and not many short ones.
    """

    __slots__ = ("_burst", "_least", "_left", "_rate", "_seen")

    def __init__(self, burst: float = BURST, rate: float = RATE) -> None:
        self._burst = self._left = float(burst)
        self._rate = rate
        self._least = 0.0
        self._seen = monotonic()

    def take(self, text: str) -> bool:
        """Tell whether a record of that text may be made, and count it if so."""
        now = monotonic()
        self._left = min(self._burst, self._left + (now - self._seen) * self._rate)
        self._seen = now
        cost = len(text) + _RECORD
        if self._left < max(cost, self._least):
            self._least = self._burst / 8
            return False
        self._least = 0.0
        self._left -= cost
        return True
