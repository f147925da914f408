"""What people ask of runs, handed to their drivers: a file in the run's folder `control`.

A server that was taken over could send anything. So only runs of this home and of this user are
touched, and all that is written is a request that the driver knows.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from hpc_flows.exceptions import JournalError
from hpc_flows.journal.event import encode
from hpc_flows.journal.folder import check_name
from hpc_flows.journal.index import summarise
from hpc_flows.reporting.cursors import write_whole

if TYPE_CHECKING:
    from hpc_flows.reporting.sink import Order

#: What drivers understand.
ACTIONS = frozenset({"cancel", "pause", "resume"})

#: Most characters of a reason that are handed on.
_LONGEST = 1000

DELIVERED, REFUSED, FAILED = "delivered", "refused", "failed"


def deliver(order: Order, home: str) -> tuple[str, str]:
    """Hand an order to the driver of its run; return what became of it, and a sentence."""
    if order.action not in ACTIONS:
        return REFUSED, f"No driver knows how to {order.action[:50]!r}."
    folder = _own_run(home, order.run)
    if folder is None:
        return REFUSED, "The relay that was asked has no such run of its own."
    about = summarise(folder)
    if about.ended is not None:
        return FAILED, f"The run has ended already: {about.state_name}."
    if about.alive is False:
        return FAILED, (
            f"Its driver, process {about.pid} on {about.host}, is gone. What its jobs left can be "
            f"cancelled there: hpc-flows runs cancel {order.run}"
        )
    try:
        write_whole(os.path.join(folder, "control", order.action), _request(order))
    except OSError as error:
        return FAILED, f"The request could not be written: {error.strerror}."
    return DELIVERED, f"The driver, process {about.pid} on {about.host}, looks at it within 2 s."


def _own_run(home: str, run: str) -> str | None:
    """Return the folder of a run, if it is this user's."""
    try:
        check_name(run)
        folder = os.path.join(home, "runs", run)
        facts = os.lstat(os.path.join(folder, "run.json"))
    except (JournalError, OSError, ValueError):
        return None
    if facts.st_uid != os.geteuid() or os.path.islink(folder):
        return None
    return folder


def _request(order: Order) -> bytes:
    by = order.by[:_LONGEST]
    reason = order.reason[:_LONGEST] or f"{order.action} by {by or 'the server'}"
    facts = {"reason": reason, "asked": time.time(), "by": by, "id": order.id}
    if order.flow_run and order.flow_run != order.run:
        facts["flow_run"] = order.flow_run
    return (encode(facts) + "\n").encode("ascii")
