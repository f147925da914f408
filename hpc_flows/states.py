"""States of flow and task runs: Prefect's nine types, its names, and the causes of a crash.

Failed means that the user's code raised. Crashed means that the machinery lost the run, with the
cause as the state's name: OutOfMemory, WalltimeExceeded, NodeFailed, Preempted, JobLost,
CancelledByScheduler. `InfrastructurePending` is "queued in the scheduler".
"""

from __future__ import annotations

import time

from hpc_flows.exceptions import (
    CRASH_CAUSES,
    CancelledRun,
    CrashedRun,
    FailedRun,
    MissingResult,
    UnfinishedRun,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any, Self


if TYPE_CHECKING:
    from enum import Enum

    class StateType(str, Enum):  # noqa: UP042 - as in Prefect, whose users compare and print it
        """The nine types that states are grouped by."""

        SCHEDULED = "SCHEDULED"
        PENDING = "PENDING"
        RUNNING = "RUNNING"
        COMPLETED = "COMPLETED"
        FAILED = "FAILED"
        CANCELLED = "CANCELLED"
        CRASHED = "CRASHED"
        PAUSED = "PAUSED"
        CANCELLING = "CANCELLING"

else:
    # The same without the enum module, for which every job of an array would pay
    # (docs/concepts/architecture.md). tests/unit/test_state_types.py holds the likeness.
    _MEMBERS: dict[str, StateType] = {}

    class _Members(type):
        """Makes the class itself a collection of its members, as enum does."""

        def __iter__(cls) -> Iterator[StateType]:
            return iter(_MEMBERS.values())

        def __len__(cls) -> int:
            return len(_MEMBERS)

        def __contains__(cls, value: object) -> bool:
            return value in _MEMBERS

        def __getitem__(cls, name: str) -> StateType:
            return _MEMBERS[name]

        @property
        def __members__(cls) -> dict[str, StateType]:
            return dict(_MEMBERS)

    class StateType(str, metaclass=_Members):
        """The nine types that states are grouped by."""

        __slots__ = ()

        def __new__(cls, value: object) -> Self:
            """Return the one member of that value."""
            try:
                return _MEMBERS[value]
            except (KeyError, TypeError):
                raise ValueError(f"{value!r} is not a valid StateType") from None

        @property
        def value(self) -> str:
            """The type's name, as a plain text."""
            return str.__str__(self)

        name = value

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{self} cannot be changed")

        def __str__(self) -> str:
            return f"StateType.{self.value}"

        def __format__(self, spec: str) -> str:
            return format(str(self), spec)

        def __repr__(self) -> str:
            return f"<StateType.{self.value}: {self.value!r}>"

        def __reduce__(self) -> tuple[type, tuple[str]]:
            return StateType, (self.value,)

    for _name in (
        "SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING"
    ).split():
        _MEMBERS[_name] = str.__new__(StateType, _name)
        setattr(StateType, _name, _MEMBERS[_name])


#: Types after which a run does not change any more.
FINAL_TYPES = frozenset(
    {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
)


class State:
    """One state of a run. It does not change; a run moves to another state instead.

    Attributes:
        type: one of the nine `StateType`.
        name: a finer name, such as `Retrying` or `OutOfMemory`.
        message: one text for people, or None.
        epoch: when it began, in seconds since 1970.
        details: JSON-safe facts: `job`, `node`, `exit_code`, `requested`, `used`, `attempt`, ...
        data: the value or exception of a final state, or an object with a `get()` that loads it.
    """

    __slots__ = ("data", "details", "epoch", "message", "name", "type")

    type: StateType
    name: str
    message: str | None
    epoch: float
    details: dict[str, Any]
    data: Any

    def __init__(
        self,
        type: StateType,  # noqa: A002 - Prefect's name
        name: str | None = None,
        message: str | None = None,
        *,
        data: Any = None,
        details: dict[str, Any] | None = None,
        epoch: float | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "type", type)
        put(self, "name", name or _DEFAULT_NAMES[type])
        put(self, "message", message)
        put(self, "data", data)
        put(self, "details", details if details is not None else {})
        put(self, "epoch", time.time() if epoch is None else epoch)

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"A state does not change; make another one instead of setting {name!r}."
        raise AttributeError(msg)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.type, self.name, self.message, self.data, self.details, self.epoch)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        mine = (self.type, self.name, self.message, self.epoch, self.details)
        return mine == (other.type, other.name, other.message, other.epoch, other.details)

    def __hash__(self) -> int:
        return hash((self.type, self.name, self.message, self.epoch))

    def __repr__(self) -> str:
        if not self.message:
            return f"{self.name}()"
        # A crash's message goes on with the end of the job's output.
        first, more, _ = str(self.message).partition("\n")
        return f"{self.name}({first + more.replace(chr(10), ' …')!r})"

    @property
    def timestamp(self) -> datetime:
        """When the state began, as an aware datetime in UTC."""
        from datetime import UTC, datetime  # noqa: PLC0415 - not needed on the job side

        return datetime.fromtimestamp(self.epoch, UTC)

    def is_scheduled(self) -> bool:
        """Tell whether the run waits for its time or its next attempt."""
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        """Tell whether the run waits for something before it starts."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """Tell whether the run's code is at work."""
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        """Tell whether the run ended well."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Tell whether the user's code raised."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Tell whether the machinery lost the run."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Tell whether a person cancelled the run."""
        return self.type is StateType.CANCELLED

    def is_cancelling(self) -> bool:
        """Tell whether a cancellation is under way."""
        return self.type is StateType.CANCELLING

    def is_paused(self) -> bool:
        """Tell whether the run waits for a person."""
        return self.type is StateType.PAUSED

    def is_final(self) -> bool:
        """Tell whether the run has ended."""
        return self.type in FINAL_TYPES

    def result(self, raise_on_failure: bool = True) -> Any:  # noqa: FBT001, FBT002 - Prefect's signature
        """Return the run's value, or raise what ended it.

        Args:
            raise_on_failure: give False to have the exception returned instead of raised.

        Raises:
            UnfinishedRun: the state is not final.
            MissingResult: the run completed and its value was not kept.
            BaseException: whatever the user's code raised; a `CrashedRun` for a crash.
        """
        if not self.is_final():
            msg = f"The run is in state {self!r}; it has no result yet. Call .wait() first."
            raise UnfinishedRun(msg)
        value = self.data.get() if isinstance(self.data, StoredValue) else self.data
        if self.is_completed():
            return value
        error = value if isinstance(value, BaseException) else self._error()
        if raise_on_failure:
            raise error
        return error

    def _error(self) -> BaseException:
        message = self.message or f"The run ended in state {self.name}."
        if self.is_crashed():
            return CRASH_CAUSES.get(self.name, CrashedRun)(message, self.details)
        if self.is_cancelled():
            return CancelledRun(message)
        return FailedRun(message)


class StoredValue:
    """A value that is kept somewhere else and loaded when it is asked for."""

    __slots__ = ()

    def get(self) -> Any:
        """Load the value.

        Raises:
            MissingResult: it is not, or no longer, there.
        """
        raise MissingResult(repr(self))


def _restore(
    type_: StateType,
    name: str,
    message: str | None,
    data: Any,
    details: dict[str, Any],
    epoch: float,
) -> State:
    return State(type_, name, message, data=data, details=details, epoch=epoch)


_DEFAULT_NAMES = {type_: type_.value.capitalize() for type_ in StateType}


def _constructor(type_: StateType, name: str, doc: str) -> Any:
    def make(
        message: str | None = None,
        *,
        data: Any = None,
        details: dict[str, Any] | None = None,
    ) -> State:
        return State(type_, name, message, data=data, details=details)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return make


Scheduled = _constructor(StateType.SCHEDULED, "Scheduled", "The run waits for its time.")
Late = _constructor(StateType.SCHEDULED, "Late", "The run should have started already.")
AwaitingRetry = _constructor(
    StateType.SCHEDULED, "AwaitingRetry", "The run failed and will be tried again."
)
AwaitingConcurrencySlot = _constructor(
    StateType.SCHEDULED, "AwaitingConcurrencySlot", "The run waits for a concurrency slot."
)
Pending = _constructor(StateType.PENDING, "Pending", "The run waits for what it depends on.")
Submitting = _constructor(StateType.PENDING, "Submitting", "The run is being submitted.")
InfrastructurePending = _constructor(
    StateType.PENDING, "InfrastructurePending", "The run's job is queued in the scheduler."
)
NotReady = _constructor(
    StateType.PENDING, "NotReady", "The run will not start: an upstream run did not complete."
)
Running = _constructor(StateType.RUNNING, "Running", "The run's code is at work.")
Retrying = _constructor(StateType.RUNNING, "Retrying", "The run's code is at work again.")
Paused = _constructor(StateType.PAUSED, "Paused", "The run waits for a person.")
Suspended = _constructor(StateType.PAUSED, "Suspended", "The run was taken off its machine.")
Cancelling = _constructor(StateType.CANCELLING, "Cancelling", "A cancellation is under way.")
Cancelled = _constructor(StateType.CANCELLED, "Cancelled", "A person cancelled the run.")
Completed = _constructor(StateType.COMPLETED, "Completed", "The run ended well.")
Failed = _constructor(StateType.FAILED, "Failed", "The user's code raised.")
TimedOut = _constructor(StateType.FAILED, "TimedOut", "The run took longer than it may.")
Crashed = _constructor(StateType.CRASHED, "Crashed", "The machinery lost the run.")


def crashed_by(cause: str, message: str, details: dict[str, Any] | None = None) -> State:
    """Return a Crashed state whose name is its cause, one of `exceptions.CRASH_CAUSES`."""
    error = CRASH_CAUSES[cause](message, details)
    return State(StateType.CRASHED, cause, message, data=error, details=details)


#: What may follow what; a final state is followed by nothing, a repeat of the type is allowed.
ALLOWED: dict[StateType, frozenset[StateType]] = {
    StateType.SCHEDULED: frozenset(StateType),
    StateType.PENDING: frozenset(StateType),
    StateType.RUNNING: frozenset(StateType),
    StateType.PAUSED: frozenset(StateType),
    StateType.CANCELLING: FINAL_TYPES | {StateType.CANCELLING},
    StateType.COMPLETED: frozenset(),
    StateType.FAILED: frozenset(),
    StateType.CANCELLED: frozenset(),
    StateType.CRASHED: frozenset(),
}


def may_follow(new: StateType, old: StateType | None) -> bool:
    """Tell whether a run in a state of type `old` may move to one of type `new`.

    Readers that receive events late or twice use it to ignore what comes too late: a Running
    that arrives after Completed changes nothing.
    """
    return old is None or new in ALLOWED[old]
