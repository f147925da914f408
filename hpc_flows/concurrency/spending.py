"""Rates: how many slots `rate_limit` has taken, which come back with time.

A file beside the slots says how full the bucket was, and when, by the clock of the file server. It
is changed by the holder of the gate only.
"""

from __future__ import annotations

import os

from hpc_flows.exceptions import LimitError
from hpc_flows.leases.files import server_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc_flows.concurrency.limits import Limit

#: Slots that may be missing: times are compared with those of another clock reading.
SLACK = 1e-6


def spent(limit: Limit) -> float:
    """Return how many slots of a limit a rate has taken that have not come back."""
    if not limit.slot_decay_per_second:
        return 0.0
    try:
        with open(limit.rate_file, encoding="ascii") as file:
            level, when = map(float, file.read().split())
    except (FileNotFoundError, ValueError):
        return 0.0
    passed = max(0.0, server_time(limit.folder) - when)
    return max(0.0, level - passed * limit.slot_decay_per_second)


def spend(limit: Limit, occupy: int) -> float | None:
    """Take slots, and return None; or the seconds after which there may be enough.

    The caller holds the gate of the limit.

    Raises:
        LimitError: the file cannot be written.
    """
    level = spent(limit)
    missing = level + len(limit.held_slots()) + occupy - limit.limit
    if missing > SLACK:
        return missing / limit.slot_decay_per_second
    draft = f"{limit.rate_file}-{os.urandom(4).hex()}"
    try:
        with open(draft, "w", encoding="ascii") as file:
            file.write(f"{level + occupy} {server_time(limit.folder)}")
        os.replace(draft, limit.rate_file)
    except OSError as error:
        msg = f"The use of the rate limit {limit.name!r} cannot be written down: {error}."
        raise LimitError(msg) from error
    return None
