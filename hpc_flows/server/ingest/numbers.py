"""Which events of a writer were taken, in a form that a row can hold."""

from __future__ import annotations

import json

from hpc_flows.journal.reader import NumberSet

#: Most gaps in the numbers of a writer. A journal has one for each time that its disk was full.
MOST_GAPS = 50_000


class TakenNumbers(NumberSet):
    """A set of numbers of events, which can be written down and read back."""

    __slots__ = ("held",)

    def __init__(self, ranges: str | None = None, held: int = 0) -> None:
        super().__init__()
        self.held = held
        if ranges is not None:
            ends = json.loads(ranges)
            self._starts = ends[0::2]
            self._stops = ends[1::2]

    def take(self, number: int) -> bool:
        """Add a number; tell whether it was not there before.

        Raises:
            ValueError: the numbers have more gaps than any journal.
        """
        if len(self._starts) > MOST_GAPS and number not in self:
            raise ValueError(number)
        is_new = self.add(number)
        self.held += is_new
        return is_new

    def ranges(self) -> str:
        """Return the numbers as JSON: the first of each range and what follows its last."""
        ends = [end for pair in zip(self._starts, self._stops, strict=True) for end in pair]
        return json.dumps(ends, separators=(",", ":"))
