"""What earlier starts of a job have left, for one that the scheduler has started again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.reader import decode
from hpc_flows.states import FINAL_TYPES, StateType

if TYPE_CHECKING:
    from hpc_flows.jobs.inside import Job


def states_before(job: Job, task_run: str) -> list[dict[str, Any]]:
    """Return the states of a job's own task run that earlier starts have journalled, in order."""
    found = []
    for restart in range(job.restart):
        path = os.path.join(job.run_dir, "journal", job.writer(restart) + ".jsonl")
        try:
            with open(path, "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                event = decode(line)
            except ValueError:
                continue
            if event.kind == "state" and event.data.get("id") == task_run:
                found.append(event.data)
    return found


def outcome_of(states: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the final one among states, or None."""
    return next((data for data in states if StateType(data["type"]) in FINAL_TYPES), None)


def attempts_of(states: list[dict[str, Any]]) -> int:
    """Return how often the task's code was begun."""
    return max((int(data.get("attempt", 0)) for data in states), default=0)
