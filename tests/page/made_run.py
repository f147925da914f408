"""The journal of a run that was never run: as many task runs as a page must bear."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.event import seal

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = ("prepare", "train", "evaluate", "collect")
#: When the run began, in seconds since 1970: 21 November 2026, 12:00 UTC.
BEGIN = 1_795_262_400.0
GIB = 2**30


class Lines:
    """Lines of one writer, numbered as they are made."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.seq = 0

    def line(self, kind: str, wall: float, **data: Any) -> bytes:
        """Return the next line of the journal."""
        self.seq += 1
        about = {"v": 1, "run": self.run, "writer": "driver", "seq": self.seq}
        event = {**about, "wall": wall, "mono": wall - BEGIN, "kind": kind, "data": data}
        return seal(json.dumps(event, separators=(",", ":")).encode())

    def state(self, id_: str, wall: float, type_: str, name: str, **more: Any) -> bytes:
        """Return the line of a task run's state."""
        return self.line("state", wall, subject="task", id=id_, type=type_, name=name, **more)


def about(run: str) -> dict[str, Any]:
    """Return what run.json of such a run says."""
    versions = {"python": "3.11.2", "hpc_flows": "0.1.0"}
    names = {"name": "a-hundred-thousand", "flow": "sweep", "user": "alice"}
    where = {"host": "login1", "pid": 1, "cwd": "/home/alice"}
    return {"v": 1, "id": run, "created": BEGIN, **where, **versions, **names}


def journal(run: str, count: int) -> Iterator[bytes]:
    """Yield the journal of a run with four mapped tasks, each of which feeds the next."""
    lines = Lines(run)
    yield lines.line(
        "flow-run", BEGIN, id=run, name="a-hundred-thousand", flow="sweep", parameters={"n": "9"},
        tags=["made"],
    )  # fmt: skip
    flow = {"subject": "flow", "id": run, "attempt": 1}
    yield lines.line("state", BEGIN, type="RUNNING", name="Running", **flow)
    rng = random.Random(20261121)
    last = BEGIN
    for number in range(count):
        for line, wall in _task_run(lines, run, number, count, rng):
            last = wall
            yield line
    yield lines.line("log", last, level=20, message="all done", logger="hpc_flows.flow_runs")
    yield lines.line("state", last + 1, type="COMPLETED", name="Completed", **flow)


def _task_run(
    lines: Lines, run: str, number: int, count: int, rng: random.Random
) -> Iterator[tuple[bytes, float]]:
    each = max(1, count // len(TASKS))
    place, index = min(number // each, len(TASKS) - 1), number % each
    task, id_ = TASKS[place], f"{run}-{number}"
    made = BEGIN + 1200 * place + 100 * index / each
    upstream = [f"{run}-{number - each}"] if place else []
    resources = {"cpus": 2, "memory": GIB, "walltime": 3600}
    yield lines.line(
        "task-run", made, id=id_, name=f"{task}-{index}", task=task, key=f"key-{task}",
        flow_run=run, upstream=upstream, resources=resources, tags=[], map_index=index,
    ), made  # fmt: skip
    queued = made + rng.uniform(1, 5)
    yield lines.state(id_, queued, "PENDING", "InfrastructurePending", attempt=0), queued
    started = queued + rng.uniform(10, 900)
    yield lines.state(id_, started, "RUNNING", "Running", attempt=1), started
    ended = started + rng.uniform(5, 300)
    fails = number % 1000 == 7  # one of a thousand
    type_, name = ("FAILED", "Failed") if fails else ("COMPLETED", "Completed")
    message = f"ValueError: no result for {number}" if fails else None
    yield lines.state(id_, ended, type_, name, attempt=1, message=message), ended
