"""Contests of thousands of small tasks, and of large values, on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measure import Budget, Command, Contest, told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.benchmarks.in_process import Sides
    from tests.benchmarks.measure import Sample

PROGRAM = str(Path(__file__).parent / "programs" / "many.py")

#: Sides as `programs/sides.py` calls them, and what the tables call them.
NAMES = {
    "hpc_flows": "hpc_flows",
    "hpc_flows-processes": "hpc_flows",
    "prefect": "Prefect",
    "prefect-processes": "Prefect",
    "futures": "concurrent.futures",
    "futures-processes": "concurrent.futures",
    "parsl-threads": "Parsl, threads",
    "parsl-htex": "Parsl, HighThroughput",
    "dask-threads": "dask.distributed, threads",
    "dask-processes": "dask.distributed",
    "executorlib": "executorlib",
}

#: Sides that need milliseconds for each task get fewer; figures are for each task.
FEWER = {"prefect": 10, "prefect-processes": 20, "executorlib": 10, "parsl-htex": 5}

THREADS = ("futures", "hpc_flows", "parsl-threads", "dask-threads", "prefect")
PROCESSES = (
    "futures-processes",
    "hpc_flows-processes",
    "parsl-htex",
    "dask-processes",
    "executorlib",
    "prefect-processes",
)


def contests(sides: Sides, rounds: int) -> list[Contest]:
    """Return the contests in the order in which they are held."""
    hold = _Maker(sides, rounds)
    alike = "at most 100 µs a task (10,000 tasks/s)"
    return [
        hold.contest(
            "10,000 sequential no-op calls, each",
            "calls",
            10_000,
            ("hpc_flows", "parsl-threads", "dask-threads", "prefect"),
            [Budget("task", 60, "at most 60 µs a call", scale=1e6)],
        ),
        hold.contest(
            "10,000 no-op submits on threads, each",
            "submits",
            10_000,
            THREADS,
            [
                Budget("task", 100, alike, scale=1e6),
                Budget("task", 0.01, "Prefect / 100", against="Prefect"),
            ],
        ),
        hold.contest(
            "a map over 10,000 on threads, each",
            "mapped",
            10_000,
            THREADS,
            [Budget("task", 100, alike, scale=1e6)],
        ),
        hold.contest(
            "a chain of 1,000 on threads, each",
            "chain",
            1000,
            ("hpc_flows", "parsl-threads", "dask-threads", "prefect"),
        ),
        hold.contest(
            "100 subflows, each",
            "subflows",
            100,
            ("hpc_flows", "prefect"),
            [Budget("task", 0.01, "Prefect / 100", against="Prefect")],
        ),
        hold.contest(
            "10,000 no-op submits on processes, each",
            "submits",
            10_000,
            PROCESSES,
            [
                Budget(
                    "task",
                    1 / 0.7,
                    "at least 0.7 × the rate of concurrent.futures",
                    against="concurrent.futures",
                )
            ],
        ),
        hold.contest("an array of 100 MB from a process, each", "array", 5, PROCESSES[:-1]),
        hold.contest(
            "10,000 ended tasks held, memory of the driver",
            "held",
            10_000,
            THREADS,
            [Budget("peak", 200e6, "at most 200 MB")],
            shown=(("grown", "bytes a task"), ("peak", "bytes")),
        ),
    ]


class _Maker:
    """Makes contests whose sides all run the same program."""

    def __init__(self, sides: Sides, rounds: int) -> None:
        self._sides = sides
        self._rounds = rounds

    def contest(
        self,
        name: str,
        work: str,
        count: int,
        who: Sequence[str],
        budgets: Sequence[Budget] = (),
        shown: Sequence[tuple[str, str]] = (("task", "s"),),
    ) -> Contest:
        """Return a contest of one of the works of the program."""
        return Contest(
            name,
            {NAMES[side]: self._run(side, work, count) for side in who},
            budgets,
            rounds=self._rounds,
            shown=shown,
        )

    def _run(self, side: str, work: str, count: int) -> Callable[[], Sample]:
        own = side.startswith(("hpc_flows", "futures"))
        python = self._sides.ours if own else self._sides.peers
        env: Mapping[str, str] = self._sides.env
        if side.startswith("prefect"):
            env = self._sides.prefect
        few = count if work == "array" else max(1, count // FEWER.get(side, 1))
        # Parsl and executorlib start programs of theirs by name, which import `sides` again.
        path = f"{Path(python).parent}{os.pathsep}{env['PATH']}"
        env = {**env, "PATH": path, "PYTHONPATH": str(Path(PROGRAM).parent)}
        command = Command((python, PROGRAM, side, work, str(few)), env)
        return lambda: told(command)
