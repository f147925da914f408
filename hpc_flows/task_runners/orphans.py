"""A worker process whose flow's process has died: it ends, with what its task has started."""

from __future__ import annotations

import os
import select
import time
from _thread import start_new_thread

from hpc_flows.engine.family import Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

#: Seconds between two looks whether an orphan has begun another call.
_LOOK = 0.05


class Orphanhood:
    """What a worker does when its flow's process dies: nobody else would end what it computes.

    A thread waits for the end of the channel, since the main one may be within a library for
    hours. An idle worker is let be: it sees the end itself, and closes its journal first. But it
    may have a call that came just before the end, and begin it yet.

    Attributes:
        is_busy: whether a call of the user's code runs.
    """

    __slots__ = ("_channel", "is_busy")

    def __init__(self, channel: socket.socket) -> None:
        self.is_busy = False
        self._channel = channel
        start_new_thread(self._watch, ())

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._channel, select.POLLRDHUP)
        poll.poll()
        while not self.is_busy:
            time.sleep(_LOOK)
        Family(os.getpid(), spares_leader=True).end(0.0)
        os._exit(1)
