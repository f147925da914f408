"""Runs flows with parameters by name, as Prefect's module of this name does."""

from __future__ import annotations

from hpc_flows.engine.parameters import defaults_of, unbind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    from hpc_flows.flows import Flow

    Return = Literal["result", "state"]

__all__ = ["run_flow", "run_flow_async", "run_flow_sync"]


def run_flow(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any] | None = None,
    wait_for: Any = None,
    return_type: Return = "result",
) -> Any:
    """Call a flow: returns its value, or what gives it to `await` if the flow is async.

    Args:
        flow: the flow.
        parameters: the arguments by the names of the function's parameters.
        wait_for: futures to wait for before it starts.
        return_type: `state` to have the final state instead of the value.
    """
    args, kwargs = unbind(flow.fn, {**defaults_of(flow.fn), **(parameters or {})})
    return flow(*args, return_state=return_type == "state", wait_for=wait_for, **kwargs)


def run_flow_sync(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any] | None = None,
    wait_for: Any = None,
    return_type: Return = "result",
) -> Any:
    """Call a flow that is a plain function, as `run_flow` does."""
    return run_flow(flow, parameters, wait_for, return_type)


async def run_flow_async(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any] | None = None,
    wait_for: Any = None,
    return_type: Return = "result",
) -> Any:
    """Call a flow that is a coroutine function, as `run_flow` does, and await it."""
    return await run_flow(flow, parameters, wait_for, return_type)
