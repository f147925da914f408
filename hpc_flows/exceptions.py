"""Every exception of hpc_flows.

::

    HpcFlowsError
    ├── SettingsError                 a setting or a profile file is wrong
    ├── ResourceError                 a resource value cannot be read, or no partition can hold it
    │   └── DoesNotFit
    ├── ClusterError                  a cluster profile is wrong
    │   └── UnknownCluster
    ├── ParameterError (TypeError)
    │   ├── ParameterTypeError        a flow's parameter fails validation
    │   ├── ParameterBindError        a call does not fit the signature
    │   ├── SignatureMismatchError
    │   ├── InvalidNameError (ValueError)
    │   ├── ReservedArgumentError     a task uses a name that `submit` and `map` need
    │   ├── MappingLengthMismatch, MappingMissingIterable
    │   └── OptionValueError (ValueError)  an option's value is beyond what is possible
    ├── JournalError                  the journal of a run cannot be written or read
    │   └── JournalTaken              another process writes under that name already
    ├── UnknownRun                    no run of that id or name
    ├── MissingContextError (RuntimeError)  called outside of flows and tasks
    ├── MissingFlowError (RuntimeError)  a file or module holds no such flow
    ├── UnspecifiedFlowError          it holds several
    ├── ScriptError                   a file that was to be loaded raised an error
    ├── FlowRunWaitTimeout (TimeoutError)  a flow run has not ended in time
    ├── FlowVisualizationError        a flow cannot be drawn without running it
    │   └── GraphvizImportError (ImportError)
    ├── VariableError (ValueError)    a variable's name or value cannot be used, or it exists
    ├── ArtifactError (ValueError)    an artifact cannot be made, found or read
    ├── EventError (ValueError)       an event breaks a limit
    │   └── EventTooLarge
    ├── PayloadError                  a task or its arguments cannot be sent to a job
    ├── ResultError                   a result cannot be written or read
    │   ├── MissingResult
    │   ├── ForeignRecord             what lies there was not written by this user, or was changed
    │   └── HashError (ValueError)    no key can be made of a task's inputs
    ├── TransactionError (RuntimeError)  a transaction or its lock cannot be had, or is misused
    ├── LeaseError                    a lease's folder or file cannot be used
    │   └── LeaseTimeout (TimeoutError)
    ├── LimitError                    a concurrency limit cannot be made, read or changed
    │   ├── UnknownLimit              no limit has that name
    │   ├── ConcurrencySlotAcquisitionError  slots can never be had
    │   ├── AcquireConcurrencySlotTimeoutError (TimeoutError)
    │   └── SlotLost                  somebody else may have the slots that a holder still uses
    ├── ShellError (RuntimeError)     a shell command failed, or could not be started
    │   └── ShellTimeout (TimeoutError)
    ├── TransportError                a command could not be run on the machine
    │   ├── CommandNotFound
    │   └── CommandTimedOut
    ├── SchedulerError
    │   ├── SchedulerUnavailable      cannot ask: says nothing about any job
    │   ├── AccountingUnavailable     the site keeps no history, or it is down
    │   ├── SubmissionRejected        the scheduler said no, and will say it again
    │   ├── SubmissionThrottled       not now: a limit of the site is reached
    │   └── SubmissionInDoubt         perhaps: look the token up before submitting again
    └── RunError                      how a run ended, raised by `result()`
        ├── UnfinishedRun, CycleOfWaits (RuntimeError)  it has not ended; it never would
        │   └── PausedRun
        ├── FailedRun
        │   ├── TaskRunTimeoutError (TimeoutError)
        │   └── FlowRunTimeoutError (TimeoutError)
        ├── UpstreamTaskError         a task was not run because an upstream task did not complete
        ├── CancelledRun
        └── CrashedRun                the machinery lost it; the cause is the class
            ├── OutOfMemory
            ├── WalltimeExceeded
            ├── NodeFailed
            ├── Preempted
            ├── JobLost
            └── CancelledByScheduler

`TerminationSignal`, an `ExternalSignal`, is raised by SIGTERM and is no `Exception`, as
KeyboardInterrupt is none. `PrefectException` is another name of `HpcFlowsError`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Self


class HpcFlowsError(Exception):
    """Base of every error that hpc_flows raises on its own account."""


PrefectException = HpcFlowsError


class SettingsError(HpcFlowsError):
    """A setting, or the file that holds it, cannot be used."""


class ResourceError(HpcFlowsError, ValueError):
    """A resource request cannot be read."""


class DoesNotFit(ResourceError):
    """No partition of the cluster can hold what a task asks for."""


class ClusterError(HpcFlowsError):
    """A cluster profile cannot be used."""


class UnknownCluster(ClusterError):
    """No cluster profile has that name."""


class ParameterError(HpcFlowsError, TypeError):
    """A call does not fit a flow or task."""


class ParameterTypeError(ParameterError):
    """A parameter's value does not fit its annotation."""

    @classmethod
    def from_validation_error(cls, exc: Any) -> Self:
        """Return the error that tells all that a pydantic ValidationError holds."""
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors()]
        return cls("Flow run received invalid parameters:\n - " + "\n - ".join(lines))


class ParameterBindError(ParameterError):
    """The arguments of a call do not fit the signature."""

    @classmethod
    def from_bind_failure(
        cls,
        fn: Callable[..., Any],
        exc: TypeError,
        call_args: Sequence[Any],
        call_kwargs: Mapping[str, Any],
    ) -> Self:
        """Return the error for a call that `inspect.Signature.bind` refused with `exc`."""
        import inspect  # noqa: PLC0415 - only once a call is wrong

        signature = str(inspect.signature(fn)).strip("()")
        return cls(
            f"Error binding parameters for function {fn.__name__!r}: {exc}.\nFunction "
            f"{fn.__name__!r} has signature {signature!r} but received args: {call_args} and "
            f"kwargs: {list(call_kwargs)}."
        )


class SignatureMismatchError(ParameterError):
    """A deployment's or hook's parameters do not fit the signature."""

    @classmethod
    def from_bad_params(cls, expected_params: list[str], provided_params: list[str]) -> Self:
        """Return the error for parameters that are not those of the function."""
        return cls(
            f"Function expects parameters {expected_params} but was provided with parameters "
            f"{provided_params}"
        )


class InvalidNameError(ParameterError, ValueError):
    """A name holds a character that addresses and paths are made with."""


class MissingFlowError(HpcFlowsError, RuntimeError):
    """A file or module holds no flow of that name, or none at all."""


class UnspecifiedFlowError(HpcFlowsError):
    """A file or module holds several flows, and it was not said which one is meant."""


class ScriptError(HpcFlowsError):
    """A file that was to be loaded raised an error.

    Attributes:
        user_exc: what it raised.
    """

    def __init__(self, path: str = "", user_exc: BaseException | None = None) -> None:
        super().__init__(f"Script at {path!r} encountered an exception: {repr_of(user_exc)}")
        self.path = path
        self.user_exc = user_exc

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.user_exc)


class ReservedArgumentError(ParameterError):
    """A task's function has a parameter whose name `submit` and `map` need."""


class OptionValueError(ParameterError, ValueError):
    """An option of a flow or task is of the right kind, and beyond what is possible."""


class MappingLengthMismatch(ParameterError):
    """The iterables given to `map` have different lengths."""


class MappingMissingIterable(ParameterError):
    """`map` was given nothing to iterate over."""


class JournalError(HpcFlowsError):
    """The journal of a run cannot be written or read."""


class JournalTaken(JournalError):
    """Another process writes, or wrote, a journal of that name in the run."""


class UnknownRun(HpcFlowsError):
    """No run has that id or name."""


class MissingContextError(HpcFlowsError, RuntimeError):
    """What was called has a meaning inside of a flow or task only."""


class FlowRunWaitTimeout(HpcFlowsError, TimeoutError):
    """A flow run has not ended in the time that was given to it."""


class FlowVisualizationError(HpcFlowsError):
    """A flow cannot be drawn without running it."""


class GraphvizImportError(FlowVisualizationError, ImportError):
    """A picture was asked for, and graphviz is not installed."""


class ExternalSignal(BaseException):
    """Something outside of the program wants it to end; no failure of the code that runs."""


class TerminationSignal(ExternalSignal):
    """The process was sent SIGTERM.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class VariableError(HpcFlowsError, ValueError):
    """A variable has a name or a value that cannot be kept, or exists already."""


class ArtifactError(HpcFlowsError, ValueError):
    """An artifact has a key or data that cannot be kept, or is not there."""


class EventError(HpcFlowsError, ValueError):
    """An event has a name, a resource or something related that breaks a limit."""


class EventTooLarge(EventError):
    """An event has more bytes than may be kept."""


class PayloadError(HpcFlowsError):
    """A task or its arguments cannot be sent to a job."""


class ResultError(HpcFlowsError):
    """A result cannot be written or read."""


class MissingResult(ResultError):
    """The result of a run is not, or no longer, there."""


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


class RunError(HpcFlowsError):
    """How a run ended, as `result()` raises it."""


class CycleOfWaits(RunError, RuntimeError):
    """Task runs wait for each other, so that none of them would ever end."""


class UnfinishedRun(RunError):
    """The run has not ended, so it has no result."""


class PausedRun(UnfinishedRun):
    """The run waits for a person, so it has no result."""


class FailedRun(RunError):
    """The run failed and left no exception to raise again."""


class TaskRunTimeoutError(FailedRun, TimeoutError):
    """A task ran longer than its `timeout_seconds`."""


class FlowRunTimeoutError(FailedRun, TimeoutError):
    """A flow ran longer than its `timeout_seconds`."""


class UpstreamTaskError(RunError):
    """A task was not run because a task it depends on did not complete."""


class CancelledRun(RunError):
    """The run was cancelled by a person."""


class CrashedRun(RunError):
    """The machinery lost the run; the user's code did not decide its end.

    Attributes:
        details: what is known, as in `State.details`: `job`, `node`, `exit_code`, `requested`,
            `used`, `output` (path of the job's output file).
    """

    def __init__(self, message: str = "", details: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.details: dict[str, object] = dict(details or {})


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


def close_match(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the known name nearest to `name`, else an empty text."""
    # difflib is only needed once something is wrong, and costs 10 ms.
    from difflib import get_close_matches  # noqa: PLC0415

    found = get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


#: Characters of an exception's text that messages repeat.
_LONGEST_TEXT = 20_000


def text_of(error: BaseException) -> str:
    """Return `str(error)`, cut where it is very long; never fails, as a `__str__` may."""
    return _cut(error, str)


def repr_of(error: object) -> str:
    """Return `repr(error)`, cut where it is very long; never fails, as a `__repr__` may."""
    return _cut(error, repr)


def _cut(error: object, spell: Callable[[object], str]) -> str:
    try:
        text = spell(error)
    except Exception:  # noqa: BLE001 - the class's own method may raise anything
        return f"({type(error).__name__}, whose __{spell.__name__}__ raises)"
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}… (cut here; {len(text)} characters in all)"
