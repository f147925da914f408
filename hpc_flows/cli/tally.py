"""Task runs counted by where they stand: what progress, lists and summaries show."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.journal.replay import TaskRunView

_STANDINGS = {
    "SCHEDULED": "waiting",
    "PENDING": "waiting",
    "PAUSED": "waiting",
    "RUNNING": "running",
    "CANCELLING": "running",
    "COMPLETED": "done",
    "FAILED": "failed",
    "CRASHED": "failed",
    "CANCELLED": "cancelled",
}

#: Colours of the standings, as of the states that they are made of.
STYLES = {
    "waiting": "dim",
    "queued": "yellow",
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "cancelled": "magenta",
    "gone": "red",
}


def standing(run: TaskRunView) -> str:
    """Return where a task run stands: one of the counts of `Tally`."""
    return standing_of(run.state_type, run.state_name)


def standing_of(state_type: str | None, state_name: str | None) -> str:
    """Return where a task run in such a state stands."""
    if state_name == "InfrastructurePending":
        return "queued"
    return _STANDINGS.get(str(state_type), "waiting")


@dataclass(slots=True)
class Tally:
    """How many task runs stand where.

    Attributes:
        waiting: for other task runs, for a place, or for their next attempt.
        queued: in the cluster's queue.
        running, done, cancelled: as they say.
        failed: failed or crashed.
        gone: not ended when the driver that ran them, or would have submitted them, was gone.
    """

    waiting: int = 0
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    gone: int = 0

    @property
    def total(self) -> int:
        """How many task runs there are."""
        return sum(getattr(self, each.name) for each in fields(self))

    @property
    def ended(self) -> int:
        """How many task runs have ended, well or not."""
        return self.done + self.failed + self.cancelled

    def add(self, standing_: str, change: int = 1) -> None:
        """Count one more (or, with -1, one less) that stands so."""
        setattr(self, standing_, getattr(self, standing_) + change)

    def in_words(self, *, separator: str = ", ") -> str:
        """Return the counts that are not zero, such as `3 running, 57 done`."""
        words = [
            f"{getattr(self, each.name)} {each.name}"
            for each in fields(self)
            if getattr(self, each.name)
        ]
        return separator.join(words) or "nothing to do"

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name, with the total."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {
            "total": self.total
        }


def tally(runs: Iterable[TaskRunView]) -> Tally:
    """Count all of some task runs."""
    counted = Tally()
    for run in runs:
        counted.add(standing(run))
    return counted


def by_task(runs: Iterable[TaskRunView], *, orphan: bool = False) -> dict[str, Tally]:
    """Count task runs by their task's name, in the order of their making.

    Args:
        runs: the task runs.
        orphan: whether their driver is gone; only what has a job of its own may go on then.
    """
    counted: dict[str, Tally] = {}
    for run in runs:
        gone = orphan and not run.is_final and run.job is None
        counted.setdefault(run.task, Tally()).add("gone" if gone else standing(run))
    return counted
