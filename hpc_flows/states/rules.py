"""What is made of states and out of them: errors, aggregates, states of exceptions and of values.

The functions answer `f(...)` and `await f(...)` alike; those with an `a` before their names are
coroutine functions.
"""

from __future__ import annotations

import sys

from hpc_flows.awaiting import awaited
from hpc_flows.exceptions import TerminationSignal, repr_of, text_of
from hpc_flows.states import (
    FINAL_TYPES,
    Completed,
    Crashed,
    Failed,
    State,
    StateType,
    StoredValue,
    details,
)
from hpc_flows.states.details import exception_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import Any


def is_state(value: object) -> bool:
    """Tell whether a value is a state."""
    return isinstance(value, State)


def is_state_iterable(value: object) -> bool:
    """Tell whether a value is a list, tuple or set of states, and of at least one."""
    return details.is_state_iterable(value, State)


def format_exception(error: BaseException, trace: Any = None) -> str:
    """Return an exception as people read it: its type and text, after its traceback if given."""
    told = f"{type(error).__name__}: {text_of(error)}" if text_of(error) else type(error).__name__
    if trace is None:
        return told
    import traceback  # noqa: PLC0415 - only where somebody wants one

    return "".join([*traceback.format_list(traceback.extract_tb(trace)), told])


# Errors ---------------------------------------------------------------------------------------


def get_state_exception(state: State) -> Any:
    """Return the exception that ended a run, looked for in nested states.

    Raises:
        ValueError: the state is neither failed, crashed nor cancelled.
        TypeError: what the state holds is no exception and cannot stand for one.
    """
    return awaited(exception_of(state))


async def aget_state_exception(state: State) -> BaseException:
    """Return the exception that ended a run, as `get_state_exception` does."""
    return exception_of(state)


def _raise_of(state: State) -> None:
    if state.is_failed() or state.is_crashed() or state.is_cancelled():
        raise exception_of(state)


def raise_state_exception(state: State) -> Any:
    """Raise what ended a run; do nothing for a state that is no failure.

    Raises:
        BaseException: what `get_state_exception` returns.
    """
    return awaited(_raise_of(state))  # type: ignore[func-returns-value]


async def araise_state_exception(state: State) -> None:
    """Raise what ended a run, as `raise_state_exception` does."""
    _raise_of(state)


async def get_state_result(state: State, raise_on_failure: bool = True) -> Any:  # noqa: FBT001, FBT002 - Prefect's signature
    """Return the value of a state, as `State.result` does."""
    return state.get(raise_on_failure)


# Groups ---------------------------------------------------------------------------------------


class StateGroup:
    """Several states, counted by type.

    Attributes:
        states: the states.
        type_counts: how many there are of each `StateType`.
        total_count, cancelled_count, paused_count, fail_count, final_count, not_final_count: how
            many there are in all, and of these types; Crashed counts as a failure.
    """

    def __init__(self, states: Iterable[State]) -> None:
        self.states = list(states)
        self.type_counts: dict[StateType, int] = {}
        for state in self.states:
            self.type_counts[state.type] = self.type_counts.get(state.type, 0) + 1
        self.total_count = len(self.states)
        self.cancelled_count = self._count(StateType.CANCELLED)
        self.paused_count = self._count(StateType.PAUSED)
        self.fail_count = self._count(StateType.FAILED) + self._count(StateType.CRASHED)
        self.final_count = sum(map(self._count, FINAL_TYPES))
        self.not_final_count = self.total_count - self.final_count

    def _count(self, type_: StateType) -> int:
        return self.type_counts.get(type_, 0)

    def all_completed(self) -> bool:
        """Tell whether all states are Completed."""
        return self._count(StateType.COMPLETED) == self.total_count

    def any_cancelled(self) -> bool:
        """Tell whether one state is Cancelled."""
        return self.cancelled_count > 0

    def any_failed(self) -> bool:
        """Tell whether one state is Failed or Crashed."""
        return self.fail_count > 0

    def any_paused(self) -> bool:
        """Tell whether one state is Paused."""
        return self.paused_count > 0

    def all_final(self) -> bool:
        """Tell whether all states are final."""
        return self.not_final_count == 0

    def counts_message(self) -> str:
        """Return the counts as a text: `total=3, not_final=1, 'FAILED'=1, 'RUNNING'=2`."""
        counts = [f"total={self.total_count}"]
        if self.not_final_count:
            counts.append(f"not_final={self.not_final_count}")
        counts += [f"{type_.value!r}={count}" for type_, count in self.type_counts.items()]
        return ", ".join(counts)

    def __repr__(self) -> str:
        return f"StateGroup({self.counts_message()})"


def aggregate(states: Iterable[State], data: Any) -> State:
    """Return the state that several states make together, which holds `data`.

    All Completed: Completed. Else one Cancelled: Cancelled; else one Paused: Paused; else Failed.
    """
    group = StateGroup(states)
    total = group.total_count
    if group.all_completed():
        return Completed("All states completed.", data=data)  # type: ignore[no-any-return]
    if group.any_cancelled():
        message = f"{group.cancelled_count}/{total} states cancelled."
        return State(StateType.CANCELLED, None, message, data=data)
    if group.any_paused():
        message = f"{group.paused_count}/{total} states paused."
        return State(StateType.PAUSED, None, message, data=data)
    if group.any_failed():
        return Failed(f"{group.fail_count}/{total} states failed.", data=data)  # type: ignore[no-any-return]
    return Failed(f"{group.not_final_count}/{total} states are not final.", data=data)  # type: ignore[no-any-return]


# States of exceptions and of values ------------------------------------------------------------


def crashed_state(error: BaseException, result_store: Any = None) -> State:
    """Return the Crashed state of a run that `error` ended, which is no failure of its code."""
    kept = error if result_store is None else result_store.create_result_record(error, key=_key())
    return Crashed(_told_crash(error), data=kept)  # type: ignore[no-any-return]


def _told_crash(error: BaseException) -> str:
    # asyncio.CancelledError goes by its name: importing asyncio costs 30 ms.
    if type(error).__name__ == "CancelledError":
        return "Execution was cancelled by the runtime environment."
    if isinstance(error, KeyboardInterrupt):
        return "Execution was aborted by an interrupt signal."
    if isinstance(error, TerminationSignal):
        return "Execution was aborted by a termination signal."
    if isinstance(error, SystemExit):
        return "Execution was aborted by Python system exit call."
    told = format_exception(error)
    return f"Execution was interrupted by an unexpected exception: {told}"


def _key() -> str:
    from hpc_flows.runs import new_id  # noqa: PLC0415 - rare

    return new_id().replace("-", "")


def exception_to_crashed_state(exc: BaseException, result_store: Any = None) -> Any:
    """Return the Crashed state of a run that `exc` ended from outside of the user's code.

    Args:
        exc: what ended it.
        result_store: a `ResultStore` that makes a record of the exception, or None.
    """
    return awaited(crashed_state(exc, result_store))


async def aexception_to_crashed_state(exc: BaseException, result_store: Any = None) -> State:
    """Return a Crashed state, as `exception_to_crashed_state` does."""
    return crashed_state(exc, result_store)


def failed_state(
    error: BaseException | None = None,
    result_store: Any = None,
    *,
    write_result: bool = False,
    **more: Any,
) -> State:
    """Return the Failed state of a run whose code raised `error`, or is just handling it."""
    error = error or sys.exc_info()[1]
    if error is None:
        msg = "Exception was not passed and no active exception could be found."
        raise ValueError(msg)
    before = more.pop("message", None)
    message = f"{str(before).rstrip()} {format_exception(error)}" if before else None
    facts = {**(more.pop("details", None) or {}), "retriable": False}
    kept = error
    if result_store is not None:
        kept = _recorded(result_store, error, _key(), None, write=write_result)
    return Failed(message or format_exception(error), data=kept, details=facts, **more)  # type: ignore[no-any-return]


def exception_to_failed_state(
    exc: BaseException | None = None,
    result_store: Any = None,
    write_result: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    **kwargs: Any,
) -> Any:
    """Return the Failed state of a run whose code raised `exc`.

    Args:
        exc: the exception; the one that is being handled, unless given.
        result_store: a `ResultStore` that makes a record of the exception, or None.
        write_result: whether the store writes the record, too.
        **kwargs: arguments of `Failed`; a `message` is put before the exception's.

    Raises:
        ValueError: no exception was given, and none is being handled.
    """
    return awaited(failed_state(exc, result_store, write_result=write_result, **kwargs))


async def aexception_to_failed_state(
    exc: BaseException | None = None,
    result_store: Any = None,
    write_result: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    **kwargs: Any,
) -> State:
    """Return a Failed state, as `exception_to_failed_state` does."""
    return failed_state(exc, result_store, write_result=write_result, **kwargs)


def value_state(
    value: Any,
    result_store: Any,
    *,
    key: str | None = None,
    expiration: datetime | None = None,
    write: bool = False,
) -> State:
    """Return the final state of a run whose function returned `value`, recorded in the store.

    A state that the user's code made is returned as it is, with its data recorded. States of other
    runs make one state together. Any other value completes the run; a generator is made a list.
    """
    if isinstance(value, State) and value.run is None:
        if not isinstance(value.data, StoredValue):
            record = _recorded(result_store, value.data, key, expiration, write=write)
            object.__setattr__(value, "data", record)
        return value
    if isinstance(value, State) or is_state_iterable(value):
        states = [value] if isinstance(value, State) else value
        record = _recorded(result_store, value, key, expiration, write=write)
        return aggregate(states, record)
    if hasattr(value, "gi_frame"):
        value = list(value)
    if not isinstance(value, StoredValue):
        value = _recorded(result_store, value, key, expiration, write=write)
    return Completed(data=value)  # type: ignore[no-any-return]


def _recorded(
    store: Any, value: Any, key: str | None, expiration: datetime | None, *, write: bool
) -> Any:
    """Return the store's record of a value; one that cannot be written is told in the log."""
    record = store.create_result_record(value, key=key, expiration=expiration)
    if write:
        try:
            store.persist_result_record(record)
        except Exception as error:  # noqa: BLE001 - the value itself is there
            import logging  # noqa: PLC0415 - only when it went wrong

            told = "The result was not written (%s); the run goes on without it."
            logging.getLogger("hpc_flows.states").warning(told, repr_of(error))
    return record


def return_value_to_state(
    retval: Any,
    result_store: Any,
    key: str | None = None,
    expiration: datetime | None = None,
    write_result: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
) -> Any:
    """Return the final state of a run whose function returned `retval`.

    * A state that the user's code made is the state itself.
    * One or more states of other runs, in a list, tuple or set, decide together, and are its data.
    * Any other value completes the run; a generator is made a list.

    Args:
        retval: what was returned, with states in place of futures.
        result_store: the `ResultStore` that makes the record of the value.
        key: of the record; the store's own choice, unless given.
        expiration: when the record is to be forgotten.
        write_result: whether the store writes the record, too.
    """
    return awaited(
        value_state(retval, result_store, key=key, expiration=expiration, write=write_result)
    )


async def areturn_value_to_state(
    retval: Any,
    result_store: Any,
    key: str | None = None,
    expiration: datetime | None = None,
    write_result: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
) -> State:
    """Return the final state of a run, as `return_value_to_state` does."""
    return value_state(retval, result_store, key=key, expiration=expiration, write=write_result)
