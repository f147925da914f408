"""States of flow and task runs: Prefect's nine types, its names, and the causes of a crash.

Failed means that the user's code raised. Crashed means that the machinery lost the run, with the
cause as the state's name: OutOfMemory, WalltimeExceeded, NodeFailed, Preempted, JobLost,
CancelledByScheduler. `InfrastructurePending` is "queued in the scheduler".

What is done with states now and then (errors out of nested states, states out of exceptions and
return values, groups of states) is in `rules`, which is loaded when one of its names is first used.
"""

from __future__ import annotations

import sys
import time

from hpc_flows.exceptions import (
    MissingResult,
    PausedRun,
    UnfinishedRun,
)
from hpc_flows.runs import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any, Self

    from hpc_flows.states.details import StateDetails
    from hpc_flows.states.rules import *  # noqa: F403 - had from here, see _RULES


if TYPE_CHECKING:
    from typing import Generic as _Generic

    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:

    class _Generic:
        """Stands for typing.Generic, which costs 8 ms to import in every job."""

        __slots__ = ()

        def __class_getitem__(cls, _: object) -> type:
            return cls

    R = "R"

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
    # The same without the enum module, which every job of an array would pay for.
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


#: Flags of the code of coroutine functions and asynchronous generators.
_COROUTINE = 0x280
#: Types after which a run does not change any more.
FINAL_TYPES = frozenset(
    {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
)


class State(_Generic[R]):
    """One state of a run. It does not change; a run moves to another state instead.

    Attributes:
        type: one of the nine `StateType`.
        name: a finer name, such as `Retrying` or `OutOfMemory`.
        message: one text for people, or None.
        epoch: when it began, in seconds since 1970.
        details: JSON-safe facts: `job`, `node`, `exit_code`, `requested`, `used`, `attempt`, ...
        data: the value or exception of a final state, or an object with a `get()` that loads it.
    """

    __slots__ = ("_id", "_run", "data", "details", "epoch", "message", "name", "type")

    _id: str
    type: StateType
    name: str
    message: str | None
    epoch: float
    details: dict[str, Any]
    data: Any

    def __init__(
        self,
        type: StateType | str,  # noqa: A002 - Prefect's name
        name: str | None = None,
        message: str | None = None,
        *,
        data: Any = None,
        details: dict[str, Any] | None = None,
        epoch: float | None = None,
        state_details: Any = None,
    ) -> None:
        """Make a state, of what the attributes of these names say.

        `type` may be a text; `state_details` is a dict of more details, as Prefect has it.

        Raises:
            ValueError: there is no such type.
        """
        kind = type if type.__class__ is StateType else StateType(type)
        _put_type(self, kind)
        _put_name(self, name or _DEFAULT_NAMES[kind])
        _put_message(self, message)
        _put_data(self, data)
        _put_details(self, {} if details is None else details)
        _put_epoch(self, time.time() if epoch is None else epoch)
        if state_details is not None:
            from hpc_flows.states.details import take_details  # noqa: PLC0415 - rare

            take_details(self, state_details)

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"A state does not change; make another one instead of setting {name!r}."
        raise AttributeError(msg)

    def __reduce__(self) -> tuple[Any, ...]:
        kind = self.type.value  # a plain text: pickling the type itself takes as long as the rest
        return _restore, (kind, self.name, self.message, self.data, self.details, self.epoch)

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

    @property
    def id(self) -> str:
        """Text of a UUID, which is drawn when it is first asked for."""
        if not hasattr(self, "_id"):
            object.__setattr__(self, "_id", new_id())
        return self._id

    @property
    def state_details(self) -> StateDetails:
        """`details` as attributes, of which those that Prefect knows are None unless given."""
        from hpc_flows.states.details import StateDetails  # noqa: PLC0415 - rare

        return StateDetails(self)

    def belongs_to(self, subject: str, run_id: str, flow_run_id: str | None = None) -> None:
        """Note the run, a "flow" or a "task" of `flow_run_id`, that is in this state."""
        _put_run(self, (subject, run_id, flow_run_id))

    @property
    def run(self) -> tuple[str, str, str | None] | None:
        """Of whose run this is the state: "flow" or "task", its id, its flow's; or None."""
        return getattr(self, "_run", None)

    def model_copy(self, *, update: dict[str, Any] | None = None) -> State:
        """Return a copy, with the attributes in `update` changed.

        Raises:
            TypeError: `update` names what a state does not have.
        """
        from hpc_flows.states.details import copied  # noqa: PLC0415 - rare

        return copied(self, epoch=self.epoch, of_run=self.run, update=update or {})

    copy = model_copy

    def fresh_copy(self, **update: Any) -> State:
        """Return a copy that begins now and belongs to no run, with some attributes changed."""
        from hpc_flows.states.details import copied  # noqa: PLC0415 - rare

        return copied(self, epoch=None, of_run=None, update=update)

    def result(self, raise_on_failure: bool = True) -> Any:  # noqa: FBT001, FBT002 - Prefect's signature
        """Return the run's value, or raise what ended it.

        `await state.result()` does the same, as scripts that were written for Prefect have it.

        Args:
            raise_on_failure: give False to have the exception, or what else the state holds,
                returned instead of raised.

        Raises:
            UnfinishedRun: the state is not final.
            MissingResult: the run completed and its value was not kept.
            BaseException: whatever the user's code raised; a `CrashedRun` for a crash.
        """
        value = self.get(raise_on_failure)
        if not sys._getframe(1).f_code.co_flags & _COROUTINE:  # noqa: SLF001 - the one way to it
            return value
        from hpc_flows.awaiting import awaited  # noqa: PLC0415 - only coroutines need it

        return awaited(value)

    async def aresult(self, raise_on_failure: bool = True) -> Any:  # noqa: FBT001, FBT002 - as above
        """Return what `result` returns, awaited."""
        return self.get(raise_on_failure)

    def get(self, raise_on_failure: bool = True) -> Any:  # noqa: FBT001, FBT002 - as above
        """Return what `result` returns; never something to await."""
        if not self.is_final():
            raise self._unfinished()
        value = self.loaded()
        if self.type is StateType.COMPLETED:
            return value
        if value is None:
            value = self.error()
        elif raise_on_failure and not isinstance(value, BaseException):
            from hpc_flows.states.details import exception_of  # noqa: PLC0415 - rare

            value = exception_of(self)
        if raise_on_failure:
            raise value
        return value

    def loaded(self) -> Any:
        """Return `data`, loaded from where it lies."""
        value = self.data
        while isinstance(value, StoredValue):
            value = value.get()
        return value

    def result_handle(self) -> Any:
        """Return a handle of the run's result file, to read parts of it without loading it all.

        Raises:
            UnfinishedRun: the state is not final.
            MissingResult: the result is in no file.
        """
        if not self.is_final():
            raise self._unfinished()
        if isinstance(self.data, StoredValue):
            return self.data.handle()
        raise MissingResult("The result is in memory, not in a file. Use result().")

    def _unfinished(self) -> UnfinishedRun:
        what = f"The run is in state {self!r}"
        if self.is_paused():
            return PausedRun(f"{what}; it has no result until it is resumed and has ended.")
        return UnfinishedRun(f"{what}; it has no result yet. Call .wait() first.")

    def error(self) -> BaseException:
        """Return the exception that stands for how a run ended that left none of its own."""
        from hpc_flows.states.details import stand_in  # noqa: PLC0415 - most runs leave one

        return stand_in(self)


# What sets the attributes past `__setattr__`, which refuses. Every task has three states or more,
# and `object.__setattr__` takes twice as long.
_put_type, _put_name, _put_message, _put_data, _put_details, _put_epoch, _put_run = [
    State.__dict__[name].__set__ for name in "type name message data details epoch _run".split()
]


class StoredValue:
    """A value that is kept somewhere else and loaded when it is asked for."""

    __slots__ = ()

    def get(self) -> Any:
        """Load the value.

        Raises:
            MissingResult: it is not, or no longer, there.
        """
        raise MissingResult(repr(self))

    def handle(self) -> Any:
        """Return a handle of the file, to read parts of the value without loading it all.

        Raises:
            MissingResult: the value is in no file.
        """
        msg = f"{self!r} is in no file that could be opened. Use result()."
        raise MissingResult(msg)


def _restore(
    type_: StateType | str,
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
        **more: Any,
    ) -> State:
        if not more:
            return State(type_, name, message, data=data, details=details)
        from hpc_flows.states.details import state_with  # noqa: PLC0415 - rare

        return state_with(State, type_, name, message, data, details, more)

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
    from hpc_flows.exceptions import CRASH_CAUSES  # noqa: PLC0415 - most runs do not crash

    error = CRASH_CAUSES[cause](message, details)
    return State(StateType.CRASHED, cause, message, data=error, details=details)


#: Names of `rules`, which are had from here.
_RULES = (
    "StateGroup aexception_to_crashed_state aexception_to_failed_state aget_state_exception "
    "araise_state_exception areturn_value_to_state exception_to_crashed_state "
    "exception_to_failed_state format_exception get_state_exception get_state_result is_state "
    "is_state_iterable raise_state_exception return_value_to_state"
).split()


def __getattr__(name: str) -> Any:
    home = "rules" if name in _RULES else {"StateDetails": "details"}.get(name)
    if home is None:
        from hpc_flows.exceptions import close_match  # noqa: PLC0415 - only once it is wrong

        hint = close_match(name, [*globals(), *_RULES])
        msg = f"module {__name__!r} has no attribute {name!r}.{hint}"
        raise AttributeError(msg)
    value = getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
    globals()[name] = value
    return value
