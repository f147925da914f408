"""The final state of a flow run, from what its function returned: Prefect's rules."""

from __future__ import annotations

from hpc_flows.futures import TaskFuture, find_futures, has_ended, replace_futures, value_of
from hpc_flows.states import Cancelled, Completed, Failed, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def state_of(value: Any) -> State:
    """Return the final state of a flow whose function returned `value`.

    * a state that the function has made is the final state itself;
    * one or more states of runs, in a list, tuple or set, decide together, and are its data;
    * futures, however deep in containers, decide together, and are replaced by their values;
    * any other value completes the flow, whatever became of its tasks.
    """
    if isinstance(value, State) and value.run is None:
        return value
    if isinstance(value, State) or _are_states(value):
        from hpc_flows.states.rules import aggregate  # noqa: PLC0415 - few flows return states

        return aggregate([value] if isinstance(value, State) else value, value)
    futures = find_futures(value)
    if not futures:
        return Completed(data=value)  # type: ignore[no-any-return]
    states = [future.state for future in futures]
    if isinstance(value, TaskFuture) and not states[0].is_completed():
        return _alone(states[0])
    if not all(state.is_completed() for state in states):
        return _together(states)
    values = replace_futures(value, lambda future: value_of(future.state))
    return Completed("All states completed." if len(states) > 1 else None, data=values)  # type: ignore[no-any-return]


def _are_states(value: object) -> bool:
    some = isinstance(value, (list, tuple, set)) and value
    return bool(some) and all(isinstance(item, State) for item in value)  # type: ignore[attr-defined]


def _alone(state: State) -> State:
    """Return the final state of a flow that returned one future whose run did not complete."""
    if state.is_final():
        return state.fresh_copy()
    return Failed(state.message, data=state.data)  # type: ignore[no-any-return]


def _together(states: Sequence[State]) -> State:
    """Return the final state that runs make, not all of which completed, with the first error."""
    total = len(states)
    error = _first_error(states)
    cancelled = sum(state.is_cancelled() for state in states)
    if cancelled:
        return Cancelled(f"{cancelled}/{total} states cancelled.", data=error)  # type: ignore[no-any-return]
    failed = sum(state.is_failed() or state.is_crashed() for state in states)
    if failed:
        return Failed(f"{failed}/{total} states failed.", data=error)  # type: ignore[no-any-return]
    waiting = sum(not has_ended(state) or not state.is_final() for state in states)
    return Failed(f"{waiting}/{total} states are not final.", data=error)  # type: ignore[no-any-return]


def _first_error(states: Sequence[State]) -> BaseException | None:
    """Return what ended the first run that did not complete, if it can be told."""
    for state in states:
        if state.is_completed() or not has_ended(state):
            continue
        error = value_of(state, raise_on_failure=False)
        if isinstance(error, BaseException):
            return error
    return None
