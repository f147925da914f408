"""Hooks: functions of the user's that are called when a run enters a state."""

from __future__ import annotations

from hpc_flows.engine.drive import Call
from hpc_flows.engine.options import function_flags
from hpc_flows.exceptions import ParameterError, repr_of
from hpc_flows.logging import ERROR, INFO, run_log, trace_of, without_our_frames

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
    if not hasattr(hooks, "__iter__"):
        raise ParameterError(_wrong(owner, name, f"Expected iterable for {name!r}", hooks))
    found = [hooks] if isinstance(hooks, str) else list(hooks)
    for hook in found:
        if not callable(hook):
            raise ParameterError(_wrong(owner, name, f"Expected callables in {name!r}", hook))
    return found


def _wrong(owner: str, name: str, expected: str, given: Any) -> str:
    kind = owner.partition(" ")[0].lower()
    return (
        f"{owner}: {expected}; got {type(given).__name__} instead. Please provide a list of hooks "
        f"to {name!r}:\n\n@{kind}({name}=[hook1, hook2])\ndef my_{kind}():\n\tpass"
    )


def hook_name(hook: Any) -> str:
    """Return what logs call a hook: the name of its function."""
    inner = getattr(hook, "func", hook)  # of functools.partial
    return str(getattr(inner, "__name__", None) or repr(hook))


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
        name = hook_name(hook)
        begun = f"Running hook {name!r} in response to entering state {state.name!r}"
        run_log(context, INFO, begun)
        try:
            args = (subject, run, state)
            yield Call(hook, args, {}, context, None, is_coroutine_function(hook))
        except Exception as error:  # noqa: BLE001 - a hook must not change how the run ends
            told = f"An error was encountered while running hook {name!r}: {repr_of(error)}"
            run_log(context, ERROR, told + trace_of(without_our_frames(error)))
        else:
            run_log(context, INFO, f"Hook {name!r} finished running successfully")
