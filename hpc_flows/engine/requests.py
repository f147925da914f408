"""Asking the driver of a run for something, through a file in the run's folder.

It reaches a driver on any machine that has the folder. `cancelling` and `pausing` tell what the
driver does about it.
"""

from __future__ import annotations

import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Action = Literal["cancel", "pause", "resume"]


def ask(run_dir: str, action: Action, reason: str, **more: Any) -> str:
    """Leave a request, which appears whole or not at all; return its path.

    Args:
        run_dir: folder of the run.
        action: what is asked for.
        reason: why, in words for the journal.
        **more: further facts: `by`, `id` of a command, `flow_run`.

    Raises:
        OSError: it cannot be written.
    """
    path = os.path.join(run_dir, "control", action)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    beside = f"{path}.{os.getpid()}"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump({"reason": reason, "asked": time.time(), **more}, file)
    os.rename(beside, path)
    return path


def is_there(run_dir: str, *names: str) -> bool:
    """Tell whether one of these lies there: a request not taken yet, or the mark `paused`."""
    return any(os.path.exists(os.path.join(run_dir, "control", name)) for name in names)
