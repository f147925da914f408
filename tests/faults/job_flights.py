"""Flows that run in a thread, so that a test can do harm meanwhile."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from hpc_flows import flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows import Task
    from hpc_flows.states import State


class Flight:
    """A flow that runs in a thread, so that the test can do harm meanwhile."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._result: list[Any] = []
        self._thread = threading.Thread(target=lambda: self._result.append(work()), daemon=True)
        self._thread.start()

    def land(self, seconds: float = 300.0) -> Any:
        """Return what the flow returned."""
        self._thread.join(seconds)
        assert self._result, f"the flow has not ended within {seconds} s"
        return self._result[0]


def launch(task: Task[..., Any], *args: Any, **kwargs: Any) -> Flight:
    """Start a flow of one submitted run; it returns the run's final state."""
    states: list[State] = []

    @flow
    def one() -> None:
        future = task.submit(*args, **kwargs)
        future.wait()
        states.append(future.state)

    def work() -> State:
        # A flow whose run failed is Failed and says so; here only the run is looked at.
        one(return_state=True)
        return states[0]

    return Flight(work)


def launch_map(task: Task[..., Any], *args: Any) -> Flight:
    """Start a flow of mapped runs; it returns their final states."""
    states: list[State] = []

    @flow
    def many() -> None:
        futures = task.map(*args)
        futures.wait()
        states.extend(future.state for future in futures)

    def work() -> list[State]:
        many(return_state=True)
        return states

    return Flight(work)


def wait_for(what: Callable[[], Any], seconds: float = 150.0) -> Any:
    """Return the first true value of a function."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.1)
    raise AssertionError(f"nothing within {seconds} s: {what}")
