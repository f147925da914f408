"""A worker process whose flow's process has died: it ends, with what its task has started."""

from __future__ import annotations

import os
import signal

from hpc_flows.engine.family import Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

#: `PR_SET_PDEATHSIG` of Linux: the signal that a process gets when the thread that made it ends.
_PARENT_DEATH_SIGNAL = 1


class Orphanhood:
    """What a worker does when its parent dies: nobody else would end what it computes.

    An idle worker finds its channel closed, and closes its journal before it ends.

    Attributes:
        is_busy: whether a call of the user's code runs.
    """

    def __init__(self) -> None:
        self.is_busy = False
        self._pid = os.getpid()
        self._parent = os.getppid()

    def hear(self) -> None:
        """Ask for a signal when the parent dies, by whatever it dies, and handle it."""
        import ctypes  # noqa: PLC0415 - only processes that are about to work load it

        signal.signal(signal.SIGTERM, self._end)
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGTERM))

    def _end(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._pid or os.getppid() == self._parent:
            # A forked child of the task's, or somebody has ended this worker: as ever.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.is_busy:
            signal.signal(number, signal.SIG_IGN)  # the family's end begins with it
            Family(self._pid).end(0.0)
