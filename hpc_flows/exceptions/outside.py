"""Exceptions of clusters, files, limits and the shell: had from `hpc_flows.exceptions`."""

from __future__ import annotations

from hpc_flows.exceptions import HpcFlowsError, ResourceError, ResultError

__all__ = [
    "AccountingUnavailable",
    "AcquireConcurrencySlotTimeoutError",
    "ClusterError",
    "CommandNotFound",
    "CommandTimedOut",
    "ConcurrencySlotAcquisitionError",
    "DoesNotFit",
    "ForeignRecord",
    "HashError",
    "LeaseError",
    "LeaseTimeout",
    "LimitError",
    "SchedulerError",
    "SchedulerUnavailable",
    "ServerError",
    "ShellError",
    "ShellTimeout",
    "SlotLost",
    "SubmissionInDoubt",
    "SubmissionRejected",
    "SubmissionThrottled",
    "TransactionError",
    "TransportError",
    "UnknownCluster",
    "UnknownLimit",
]


class DoesNotFit(ResourceError):
    """No partition of the cluster can hold what a task asks for."""


class ClusterError(HpcFlowsError):
    """A cluster profile cannot be used."""


class UnknownCluster(ClusterError):
    """No cluster profile has that name."""


class ShellError(HpcFlowsError, RuntimeError):
    """A shell command failed, or could not be started.

    Attributes:
        return_code: exit code of the script, negative for the signal that killed it; None if it
            was not started.
        command: what failed.
        output: the last lines that were printed.
    """

    def __init__(
        self,
        message: str = "",
        return_code: int | None = None,
        command: str = "",
        output: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.return_code = return_code
        self.command = command
        self.output = output

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.return_code, self.command, self.output)


class ShellTimeout(ShellError, TimeoutError):
    """Shell commands took longer than their `timeout_seconds`, and were ended."""


class ForeignRecord(ResultError):
    """A kept result was not written by this user, or was changed or cut; nothing is unpickled."""


class HashError(ResultError, ValueError):
    """No key can be made of a task's inputs."""


class TransactionError(HpcFlowsError, RuntimeError):
    """A transaction, or the lock that it needs, cannot be had, or is used in a wrong way."""


class LeaseError(HpcFlowsError):
    """A lease's folder or file cannot be read or written."""


class LeaseTimeout(LeaseError, TimeoutError):
    """A lease was held by somebody else for all the time that there was to wait."""


class LimitError(HpcFlowsError):
    """A concurrency limit cannot be made, read or changed."""


class UnknownLimit(LimitError):
    """No concurrency limit has that name."""


class ConcurrencySlotAcquisitionError(LimitError):
    """Slots of a concurrency limit can never be had."""


class AcquireConcurrencySlotTimeoutError(LimitError, TimeoutError):
    """Slots of a concurrency limit were not to be had within the time."""


class SlotLost(LimitError):
    """A holder of slots lost them: others may have taken them meanwhile."""


class TransportError(HpcFlowsError):
    """A command could not be run on the machine."""


class CommandNotFound(TransportError):
    """The machine has no such command."""


class CommandTimedOut(TransportError):
    """A command gave no answer within its time limit; it may have done its work all the same."""


class ServerError(HpcFlowsError):
    """The server cannot be started, reached or asked."""


class SchedulerError(HpcFlowsError):
    """The batch system, or the way to it, is in trouble."""


class SchedulerUnavailable(SchedulerError):
    """The batch system cannot be asked; this says nothing about any job."""


class AccountingUnavailable(SchedulerError):
    """The site keeps no job history, or its database does not answer."""


class SubmissionRejected(SchedulerError):
    """The scheduler refused a job and would refuse it again."""


class SubmissionThrottled(SchedulerError):
    """The scheduler takes no more jobs now; it may later."""


class SubmissionInDoubt(SchedulerError):
    """The scheduler gave no answer: the job may have been accepted."""
