"""Runs that are paused: what tests of pauses share."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from hpc_flows import task
from hpc_flows.engine.requests import ask as ask_run
from hpc_flows.journal.index import summarise
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import RunView, replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


#: Seconds that anything may take on a busy machine.
PATIENCE = 150.0


def folder(home: Path) -> Path:
    """Return the folder of the only run."""
    (folder,) = (home / "runs").iterdir()
    return folder


def view(home: Path) -> RunView:
    """Return the run as its journals tell it."""
    return replay(read_run(str(folder(home))))


def root(view: RunView) -> Any:
    """Return the root flow run of a view."""
    return view.flow_runs[view.run_id]


def names(run: Any) -> list[str]:
    """Return the names of the states that a run went through."""
    return [name for _, _, name in run.history]


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_paused(home: Path) -> bool:
    """Tell whether the run, which may not have begun yet, is paused."""
    begun = list((home / "runs").glob("*/journal/*"))
    return bool(begun) and summarise(str(folder(home))).state_type == "PAUSED"


def ask(home: Path, action: Any, **more: Any) -> None:
    """Leave a request in the folder of the only run."""
    ask_run(str(folder(home)), action, "lunch", **more)


class Background:
    """A flow in a thread of its own, and what became of it."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self.value: Any = None
        self._body = body
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._body()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.value = error

    def end(self) -> Any:
        """Wait for its end; return its value or what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.value


def _step(number: int, steps: list[int]) -> int:
    steps.append(number)
    return number


#: A task that notes that it ran.
step: Any = task(name="step")(_step)
