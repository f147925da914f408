"""Hooks: functions of the user's that are called when a run enters a state."""

from __future__ import annotations

from hpc_flows.engine.drive import Call
from hpc_flows.engine.options import function_flags
from hpc_flows.exceptions import ParameterError, repr_of
from hpc_flows.logging import ERROR, INFO, run_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.runs import FlowRun, TaskRun
    from hpc_flows.states import State

_CO_COROUTINE = 0x80


def check_hooks(owner: str, name: str, hooks: Iterable[Any] | None) -> list[Any]:
    """Return the hooks as a list.

    Raises:
        ParameterError: they are not an iterable of callables.
    """
    if hooks is None:
        return []
    if callable(hooks) or isinstance(hooks, str) or not hasattr(hooks, "__iter__"):
        msg = f"{owner}: {name} must be a list of functions, such as [{_name(hooks)}]."
        raise ParameterError(msg)
    found = list(hooks)
    for hook in found:
        if not callable(hook):
            msg = f"{owner}: {name} holds {hook!r}, which cannot be called."
            raise ParameterError(msg)
    return found


def _name(hook: Any) -> str:
    return str(getattr(hook, "__name__", None) or repr(hook))


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Tell whether calling `fn` gives a coroutine."""
    return bool(function_flags(fn) & _CO_COROUTINE)


def run_hooks(
    hooks: Sequence[Any],
    subject: Any,
    run: FlowRun | TaskRun,
    state: State,
    context: RunContext,
) -> Steps:
    """Call each hook with the flow or task, its run and its state; what they raise is logged."""
    for hook in hooks:
        name = _name(hook)
        begun = f"Running hook {name!r} in response to entering state {state.name!r}"
        run_log(context, INFO, begun)
        try:
            args = (subject, run, state)
            yield Call(hook, args, {}, context, None, is_coroutine_function(hook))
        except Exception as error:  # noqa: BLE001 - a hook must not change how the run ends
            message = f"An error was encountered while running hook {name!r}: {repr_of(error)}"
            run_log(context, ERROR, message)
        else:
            run_log(context, INFO, f"Hook {name!r} finished running successfully")
