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
    │   └── ObjectNotFound            the server has none, or it is not to be seen
    ├── MissingContextError (RuntimeError)  called outside of flows and tasks
    ├── MissingFlowError (RuntimeError)  a file or module holds no such flow
    ├── UnspecifiedFlowError          it holds several
    ├── ScriptError                   a file that was to be loaded raised an error
    ├── FlowRunWaitTimeout (TimeoutError)  a flow run has not ended in time
    ├── FlowPauseTimeout (TimeoutError)  a paused flow run was not resumed in time
    ├── NotPausedError                a flow run that is to go on is not paused
    ├── SuspendError (RuntimeError)   a flow run can be paused, not suspended
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
    ├── ServerError                   the server cannot be started, reached or asked
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

Here stand those that a job may need; the others are loaded with their module when one of them is
asked for, because a job that goes well would load sixty classes for nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Self

    from hpc_flows.exceptions.calls import *  # noqa: F403 - had from here, see __getattr__
    from hpc_flows.exceptions.endings import *  # noqa: F403 - as above
    from hpc_flows.exceptions.outside import *  # noqa: F403 - as above


class HpcFlowsError(Exception):
    """Base of every error that hpc_flows raises on its own account."""


PrefectException = HpcFlowsError


class SettingsError(HpcFlowsError):
    """A setting, or the file that holds it, cannot be used."""


class ResourceError(HpcFlowsError, ValueError):
    """A resource request cannot be read."""


class ParameterError(HpcFlowsError, TypeError):
    """A call does not fit a flow or task."""


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


class ReservedArgumentError(ParameterError):
    """A task's function has a parameter whose name `submit` and `map` need."""


class OptionValueError(ParameterError, ValueError):
    """An option of a flow or task is of the right kind, and beyond what is possible."""


class InvalidNameError(ParameterError, ValueError):
    """A name holds a character that addresses and paths are made with."""


class JournalError(HpcFlowsError):
    """The journal of a run cannot be written or read."""


class JournalTaken(JournalError):
    """Another process writes, or wrote, a journal of that name in the run."""


class PayloadError(HpcFlowsError):
    """A task or its arguments cannot be sent to a job."""


class ResultError(HpcFlowsError):
    """A result cannot be written or read."""


class MissingResult(ResultError):
    """The result of a run is not, or no longer, there."""


class RunError(HpcFlowsError):
    """How a run ended, as `result()` raises it."""


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


#: Where the other exceptions are; all are had from here, and say so in tracebacks and pickles.
_MODULES = ("calls", "endings", "outside")


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        for module in _MODULES:
            home = __import__(f"{__name__}.{module}", fromlist=[module])
            _adopt(home)
        if name in globals():
            return globals()[name]
    hint = close_match(name, globals())
    msg = f"module {__name__!r} has no attribute {name!r}.{hint}"
    raise AttributeError(msg)


def _adopt(home: Any) -> None:
    """Take over what a module offers."""
    for name in home.__all__:
        found = getattr(home, name)
        if isinstance(found, type):
            found.__module__ = __name__
        globals()[name] = found
