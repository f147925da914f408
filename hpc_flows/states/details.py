"""What states can do now and then: facts as attributes, copies, the error in nested states."""

from __future__ import annotations

from hpc_flows.exceptions import (
    CRASH_CAUSES,
    CancelledRun,
    CrashedRun,
    FailedRun,
    close_match,
    repr_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hpc_flows.states import State, StateType

#: What Prefect's states may have; None unless given.
NAMES = (
    "flow_run_id",
    "task_run_id",
    "child_flow_run_id",
    "scheduled_time",
    "cache_key",
    "cache_expiration",
    "deferred",
    "untrackable_result",
    "pause_timeout",
    "pause_reschedule",
    "pause_key",
    "run_input_keyset",
    "refresh_cache",
    "retriable",
    "transition_id",
    "task_parameters_id",
)
_TIMES = ("scheduled_time", "cache_expiration", "pause_timeout")


class StateDetails:
    """A view of `State.details`: `state.state_details.scheduled_time`."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def __getattr__(self, name: str) -> Any:
        facts = self.to_dict()
        if name not in facts and name not in NAMES:
            msg = f"A state has no detail {name!r}.{close_match(name, [*NAMES, *facts])}"
            raise AttributeError(msg)
        value = facts.get(name)
        return _as_time(value) if name in _TIMES else value

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"StateDetails({facts})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateDetails) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return the facts, with the run that the state belongs to."""
        run = self._state.run
        if run is None:
            return dict(self._state.details)
        subject, run_id, flow_run_id = run
        of_flow = {} if flow_run_id is None else {"flow_run_id": flow_run_id}
        return {**self._state.details, **of_flow, f"{subject}_run_id": run_id}


def _as_time(value: Any) -> Any:
    """Return the time that a text says, which is how details keep it; others are left alone."""
    if not isinstance(value, str):
        return value
    from datetime import datetime  # noqa: PLC0415 - few states have one

    return datetime.fromisoformat(value)


def take_details(state: State, given: Any) -> None:
    """Put details into a new state: a dict, or the `state_details` of another."""
    facts = given.to_dict() if isinstance(given, StateDetails) else dict(given)
    flow_run_id, run_id = (facts.pop(f"{name}_run_id", None) for name in ("flow", "task"))
    of_flow = None if flow_run_id is None else str(flow_run_id)
    if run_id is not None:
        state.belongs_to("task", str(run_id), of_flow)
    elif of_flow is not None:
        state.belongs_to("flow", of_flow)
    state.details.update({name: _safe(value) for name, value in facts.items()})


def _safe(value: Any) -> Any:
    """Return a value as the journal can write it: times and ids as text."""
    if value is None or isinstance(value, (str, int, float, bool, list, dict)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def state_with(
    make: type[State],
    type_: StateType,
    name: str,
    message: str | None,
    data: Any,
    details: dict[str, Any] | None,
    more: dict[str, Any],
) -> State:
    """Return the state that a constructor was asked for with more than message and data.

    Raises:
        TypeError: the constructor does not have one of the keywords.
    """
    facts = dict(details or {})
    for option in _options_of(type_):
        if option in more:
            key, value = _fact(option, more.pop(option))
            if value is not None:
                facts[key] = _safe(value)
    label = more.pop("name", None) or name
    given = more.pop("state_details", None)
    if more:
        known = (*_options_of(type_), "name", "message", "data", "details", "state_details")
        wrong = next(iter(more))
        msg = f"{name}() takes no keyword {wrong!r}.{close_match(wrong, known)}"
        raise TypeError(msg)
    return make(type_, label, message, data=data, details=facts, state_details=given)


def _options_of(type_: StateType) -> tuple[str, ...]:
    if type_.value == "SCHEDULED":
        return ("scheduled_time",)
    if type_.value == "PAUSED":
        own = ("timeout_seconds", "pause_expiration_time", "reschedule")
        return (*own, "pause_timeout", "pause_reschedule", "pause_key")
    return ()


def _fact(option: str, value: Any) -> tuple[str, Any]:
    """Return the detail that an option of a constructor becomes, under its name among details."""
    if option == "reschedule":
        return "pause_reschedule", value
    if option == "pause_expiration_time":
        return "pause_timeout", value
    if option == "timeout_seconds" and value is not None:
        from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - few states have one

        return "pause_timeout", datetime.now(UTC) + timedelta(seconds=value)
    return option, value


def copied(
    state: State,
    *,
    epoch: float | None,
    of_run: tuple[str, str, str | None] | None,
    update: dict[str, Any],
) -> State:
    """Return a copy of a state with some attributes changed.

    Args:
        state: what is copied.
        epoch: when the copy begins; None means now.
        of_run: the run that it belongs to, or None.
        update: arguments of `State` that differ.
    """
    values: dict[str, Any] = {"type": state.type, "name": state.name, "message": state.message}
    values |= {"details": dict(state.details), "data": state.data, "epoch": epoch}
    made = type(state)(**{**values, **update})
    if of_run is not None:
        made.belongs_to(*of_run)
    return made


def exception_of(state: State) -> BaseException:
    """Return what ended a run, looked for in the states that its state holds.

    Raises:
        ValueError: the state is neither failed, crashed nor cancelled.
        TypeError: what it holds is no exception and cannot stand for one.
    """
    if not (state.is_failed() or state.is_crashed() or state.is_cancelled()):
        msg = f"Expected failed or crashed state got {state!r}."
        raise ValueError(msg)
    value = state.loaded()
    if value is None:
        return state.error()
    if isinstance(value, BaseException):
        return value
    if isinstance(value, str):
        return _wrapper(state)(value)
    if isinstance(value, type(state)):
        return exception_of(value)
    if is_state_iterable(value, type(state)):
        return _first_exception(value)
    msg = (
        f"Unexpected result for {state.name} state: {repr_of(value)} of type "
        f"{type(value).__name__} cannot be resolved into an exception."
    )
    raise TypeError(msg)


def stand_in(state: State) -> BaseException:
    """Return the exception that stands for how a run ended that left none of its own."""
    message = state.message or f"The run ended in state {state.name}."
    if state.is_crashed():
        return CRASH_CAUSES.get(state.name, CrashedRun)(message, state.details)
    return _wrapper(state)(message)


def _wrapper(state: State) -> type[BaseException]:
    if state.is_crashed():
        return CrashedRun
    return CancelledRun if state.is_cancelled() else FailedRun


def _first_exception(states: Iterable[State]) -> BaseException:
    for state in states:
        if state.is_failed() or state.is_crashed() or state.is_cancelled():
            return exception_of(state)
    msg = "Failed state result was an iterable of states but none were failed."
    raise ValueError(msg)


def is_state_iterable(value: object, kind: type[State]) -> bool:
    """Tell whether a value is a list, tuple or set of states, and of at least one."""
    some = isinstance(value, (list, tuple, set)) and value
    return bool(some) and all(isinstance(item, kind) for item in value)  # type: ignore[attr-defined]
