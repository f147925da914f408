"""How slots are taken: whoever is first in line collects them, the others queue for that place.

Every slot is a lease, so that however processes come and go no slot has two holders. Who finds
enough free slots, and nobody waiting, takes them. Otherwise one waiter at a time holds the gate,
a lease too, and collects slots as they become free: one that wants three is not starved by many
that want one, and only one waiter of a limit looks at the slots, whatever their number.
"""

from __future__ import annotations

import os
from time import monotonic

from hpc_flows.concurrency.limits import Limit, find_limit, unknown
from hpc_flows.concurrency.spending import SLACK, spend, spent
from hpc_flows.exceptions import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    LeaseError,
)
from hpc_flows.leases import Lease, is_stale, pause_after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

#: Longest pause of the one that is first in line.
_FIRST_PAUSE = 2.0
#: Longest pause of the others.
_LONGEST_PAUSE = 20.0
#: Held slots whose holders are looked at for life, at one look.
_LOOKED_AT = 16
#: Seconds without renewal after which the next may step to the gate.
_GATE_TTL = 30.0


class Wanted:
    """What somebody wants, and for how long they wait.

    Attributes:
        names: of limits.
        occupy: how many slots of each.
        timeout: seconds to wait, or None.
        max_retries: how often to look again, or None.
        ttl: seconds that slots outlive the last renewal.
        strict: whether a limit that does not exist is an error.
        note: who wants it.
        on_lost: called with a slot's lease when it was lost.
        home: the folder of hpc_flows, or None for the one in force.
    """

    def __init__(
        self,
        names: str | list[str],
        occupy: int = 1,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        ttl: float = 300.0,
        strict: bool = False,
        note: str = "",
        on_lost: Callable[[Lease], object] | None = None,
    ) -> None:
        # Sorted, so that of two that want the same limits neither holds what the other lacks.
        self.names = sorted({names} if isinstance(names, str) else set(names))
        self.occupy = occupy
        self.timeout = timeout
        self.max_retries = max_retries
        self.ttl = ttl
        self.strict = strict
        self.note = note
        self.on_lost = on_lost
        self.home: str | None = None
        self._began = monotonic()
        self._looks = 0
        if occupy < 1 or not ttl > 0:
            raise ConcurrencySlotAcquisitionError(
                f"occupy must be at least 1 and lease_duration above 0, not {occupy} and {ttl:g}."
            )

    def limits(self) -> list[Limit]:
        """Return the limits that exist.

        Raises:
            ConcurrencySlotAcquisitionError: `strict`, and one does not.
        """
        found = {name: find_limit(name, self.home) for name in self.names}
        missing = [name for name, limit in found.items() if limit is None]
        if missing and self.strict:
            raise ConcurrencySlotAcquisitionError(unknown(missing, self.home))
        if missing:
            _warn_of(missing)
        return [limit for limit in found.values() if limit is not None]

    def wait(self, limit: Limit, pause: float) -> float:
        """Return how long to sleep now.

        Raises:
            AcquireConcurrencySlotTimeoutError: the time is over.
            ConcurrencySlotAcquisitionError: it was looked often enough.
        """
        self._looks += 1
        if self.max_retries is not None and self._looks > self.max_retries:
            msg = f"Unable to acquire {self._said(limit)} within {self.max_retries} retries."
            raise ConcurrencySlotAcquisitionError(msg)
        if self.timeout is None:
            return pause
        left = self.timeout - (monotonic() - self._began)
        if left <= 0:
            raise AcquireConcurrencySlotTimeoutError(
                f"Attempt to acquire concurrency slots timed out after {self.timeout:g} second(s): "
                f"{self._said(limit)} were not free."
            )
        return min(pause, left)

    def _said(self, limit: Limit) -> str:
        holders = limit.holders()
        held = f", of which {len(holders)} are held: {'; '.join(map(str, holders[:4]))}"
        more = "; ..." if len(holders) > 4 else ""  # noqa: PLR2004 - as many as were named
        return (
            f"{self.occupy} of {limit.limit} slots of {limit.name!r}{held if holders else ''}{more}"
        )


def _warn_of(names: list[str]) -> None:
    from hpc_flows.concurrency.telling import tell  # noqa: PLC0415 - rare

    tell("WARNING", f"Concurrency limits {names!r} do not exist - skipping acquisition.")


def taking(wanted: Wanted) -> Generator[float, None, list[Lease]]:
    """Take slots: yields the seconds to sleep before it goes on, and returns their leases.

    Raises:
        ConcurrencySlotAcquisitionError: they can never be had.
        AcquireConcurrencySlotTimeoutError: they could not be had in time.
        LeaseError: the folder of the limit cannot be used.
    """
    taken: list[Lease] = []
    try:
        for limit in wanted.limits():
            yield from _taking_of(limit, wanted, taken)
    except BaseException:
        give_back(taken)
        raise
    return taken


def give_back(leases: list[Lease]) -> None:
    """Give slots back; what cannot be given back is logged, and ends by itself."""
    for lease in leases:
        try:
            lease.release()
        except LeaseError as error:
            from hpc_flows.concurrency.telling import tell  # noqa: PLC0415 - rare

            tell("WARNING", str(error))


def _taking_of(limit: Limit, wanted: Wanted, taken: list[Lease]) -> Generator[float, None, None]:
    """Add the leases of one limit's slots to `taken`."""
    mine: list[Lease] = []

    def look(now: Limit, *, first: bool) -> float | None:
        held, waits = now.look()
        if first or _is_free_for_all(now, held, somebody_waits=waits):
            _collect(now, held, wanted, mine)
        if len(mine) >= wanted.occupy:
            taken.extend(mine)
            mine.clear()
            return None
        if not first:
            give_back(mine)
            mine.clear()
        return _FIRST_PAUSE

    try:
        yield from _in_line(limit, wanted, look)
    finally:
        give_back(mine)


def spending(wanted: Wanted) -> Generator[float, None, None]:
    """Take slots that come back with time: yields the seconds to sleep before it goes on.

    Raises:
        ConcurrencySlotAcquisitionError: they can never be had.
        AcquireConcurrencySlotTimeoutError: they could not be had in time.
        LeaseError: the folder of the limit cannot be used.
    """

    def look(now: Limit, *, first: bool) -> float | None:
        if not now.slot_decay_per_second:
            raise ConcurrencySlotAcquisitionError(
                f"The slots of {now.name!r} do not come back with time, so it is no rate. "
                f"`hpc-flows gcl update {now.name} --slot-decay-per-second 1` makes it one."
            )
        return spend(now, wanted.occupy) if first else _FIRST_PAUSE

    for limit in wanted.limits():
        yield from _in_line(limit, wanted, look)


def _in_line(limit: Limit, wanted: Wanted, look: Any) -> Generator[float, None, None]:
    """Call `look(limit, first=...)` until it returns None, with pauses of what it returns at most.

    `first` says whether we are first in line. If we are not, and had no luck, we queue for that.
    """
    began = monotonic()
    gate: Lease | None = None
    now: Limit | None = limit
    try:
        # It may be changed, or deleted, while we wait.
        while now is not None and now.active:
            _check_possible(now, wanted)
            if gate is not None and not gate.is_held():  # the process was stopped for long
                gate = None
            longest = look(now, first=gate is not None)
            if longest is not None and gate is None:
                gate = Lease.try_acquire(now.gate, ttl=_GATE_TTL, note=wanted.note)
                longest = _LONGEST_PAUSE if gate is None else look(now, first=True)
            if longest is None:
                return
            yield wanted.wait(now, min(pause_after(monotonic() - began), longest))
            now = find_limit(limit.name, wanted.home)
    finally:
        if gate is not None:
            gate.release()


def _check_possible(limit: Limit, wanted: Wanted) -> None:
    if wanted.occupy > limit.limit:
        raise ConcurrencySlotAcquisitionError(
            f"{wanted.occupy} slots of {limit.name!r} can never be had: it has {limit.limit}. Ask "
            f"for fewer, or `hpc-flows gcl update {limit.name} --limit {wanted.occupy}`."
        )


def _is_free_for_all(limit: Limit, held: list[int], *, somebody_waits: bool) -> bool:
    """Tell whether slots may be taken without standing in line: what keeps the sum is the slots.

    It is not where a rate has a say, or where the limit was made smaller than what is held.
    """
    if somebody_waits or limit.slot_decay_per_second:
        return False
    return all(index < limit.limit for index in held)


def _collect(limit: Limit, held: list[int], wanted: Wanted, mine: list[Lease]) -> None:
    """Take free slots, and those whose holders are gone, up to the number that is wanted."""
    own = {lease.path for lease in mine}
    others = [index for index in held if limit.slot(index) not in own]
    room = limit.limit - len(held) - spent(limit) + SLACK
    for index in sorted(set(range(limit.limit)).difference(held)) if room >= 1 else ():
        if len(mine) >= wanted.occupy or room < 1:
            break
        room -= _take(limit, index, wanted, mine)
    start = os.urandom(1)[0] % max(1, len(others))
    for index in [*others[start:], *others[:start]][:_LOOKED_AT]:
        if len(mine) >= wanted.occupy:
            break
        if index >= limit.limit or room < 0:
            _clear(limit.slot(index))
        else:
            _take(limit, index, wanted, mine)


def _take(limit: Limit, index: int, wanted: Wanted, mine: list[Lease]) -> bool:
    lease = Lease.try_acquire(
        limit.slot(index), note=wanted.note, ttl=wanted.ttl, on_lost=wanted.on_lost
    )
    if lease is not None:
        mine.append(lease)
    return lease is not None


def _clear(path: str) -> None:
    """Free a slot whose holder is gone and that nobody may take any more."""
    if is_stale(path):
        lease = Lease.try_acquire(path)
        if lease is not None:
            lease.release()
