"""Exceptions by which runs end that most runs never meet: had from `hpc_flows.exceptions`."""

from __future__ import annotations

from hpc_flows.exceptions import CrashedRun, HpcFlowsError, RunError

__all__ = [
    "CRASH_CAUSES",
    "CancelledByScheduler",
    "CycleOfWaits",
    "FlowPauseTimeout",
    "FlowRunWaitTimeout",
    "JobLost",
    "NodeFailed",
    "NotPausedError",
    "OutOfMemory",
    "Preempted",
    "SuspendError",
    "WalltimeExceeded",
]


class FlowRunWaitTimeout(HpcFlowsError, TimeoutError):
    """A flow run has not ended in the time that was given to it."""


class FlowPauseTimeout(HpcFlowsError, TimeoutError):
    """A flow run was paused, and nobody let it go on within the time."""


class NotPausedError(HpcFlowsError):
    """A flow run that is to go on is not paused, or has ended."""


class SuspendError(HpcFlowsError, RuntimeError):
    """A flow run cannot be suspended, only paused."""


class CycleOfWaits(RunError, RuntimeError):
    """Task runs wait for each other, so that none of them would ever end."""


class OutOfMemory(CrashedRun):
    """The job was killed because it used more memory than it had asked for."""


class WalltimeExceeded(CrashedRun):
    """The job was killed at the end of its time limit."""


class NodeFailed(CrashedRun):
    """The node that ran the job died."""


class Preempted(CrashedRun):
    """The job gave way to one of higher priority and was not queued again."""


class JobLost(CrashedRun):
    """The job ended, or vanished, without leaving an outcome."""


class CancelledByScheduler(CrashedRun):
    """The job was cancelled in the batch system, not through hpc_flows."""


#: Names of Crashed states and the exceptions that `result()` raises for them.
CRASH_CAUSES: dict[str, type[CrashedRun]] = {
    cause.__name__: cause
    for cause in (
        OutOfMemory,
        WalltimeExceeded,
        NodeFailed,
        Preempted,
        JobLost,
        CancelledByScheduler,
    )
}
