"""Runs as tests of the command line need them: made of events with times that the test chooses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.event import encode, header, seal
from hpc_flows.journal.folder import create_run

if TYPE_CHECKING:
    from pathlib import Path

#: The time at which the runs of these tests begin.
START = 1_700_000_000.0


class WrittenRun:
    """A run's folder, into which a test writes one event after the other."""

    def __init__(self, home: Path, run_id: str = "8c3f2a10-run", **meta: Any) -> None:
        facts = {"name": "merry-fox", "flow": "census", "created": START, "pid": gone_pid()}
        self.id = run_id
        self.folder = create_run(str(home), run_id, facts | meta)
        self.name = str((facts | meta)["name"])
        self._seq: dict[str, int] = {}
        self.write(0, "flow-run", id=run_id, name=self.name, flow="census", parameters={"top": "3"})
        self.flow_state(0, "RUNNING", "Running")

    def write(self, at: float, kind: str, writer: str = "driver", **data: Any) -> None:
        seq = self._seq[writer] = self._seq.get(writer, 0) + 1
        wall = START + at
        rest = f'{seq},"wall":{wall},"mono":{at},"kind":"{kind}","data":{encode(data)}}}'
        path = os.path.join(self.folder, "journal", f"{writer}.jsonl")
        with open(path, "ab") as file:
            file.write(seal((header(self.id, writer) + rest).encode()))

    def flow_state(self, at: float, type_: str, name: str, **more: Any) -> None:
        self.write(at, "state", subject="flow", id=self.id, type=type_, name=name, **more)

    def state(self, at: float, id_: str, type_: str, name: str, **more: Any) -> None:
        self.write(at, "state", subject="task", id=id_, type=type_, name=name, **more)

    def task_run(self, at: float, id_: str, task: str, **more: Any) -> str:
        facts = {"name": id_, "key": task, "flow_run": self.id, "upstream": [], "resources": None}
        self.write(at, "task-run", **{**facts, "id": id_, "task": task, **more})
        self.state(at, id_, "PENDING", "Pending")
        return id_

    def job(
        self, at: float, token: str, job: str | None, task_runs: list[str], **more: Any
    ) -> None:
        facts = {"cluster": "mock", "scheduler": "slurm", "array": "0-1", "script": "script.sh"}
        self.write(at, "job-intent", **{**facts, "token": token, "task_runs": task_runs, **more})
        if job is not None:
            self.write(at + 0.1, "job-submitted", token=token, job=job, seconds=0.1)
        for id_ in task_runs:
            self.state(at + 0.1, id_, "PENDING", "InfrastructurePending")

    def end(
        self, at: float, type_: str = "COMPLETED", name: str = "Completed", **more: Any
    ) -> None:
        self.flow_state(at, type_, name, **more)


def gone_pid() -> int:
    """Return the number of a process that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def census_run(home: Path, **meta: Any) -> WrittenRun:
    """Return a run of two array elements, of which one fails, and of a task that waits."""
    run = WrittenRun(home, **meta)
    asked = {"cpus": 1, "memory": 2**30, "walltime": 600, "partition": "standard"}
    for n in range(2):
        run.task_run(0.1, f"measure-{n}", "measure", resources=asked, map_index=n)
    run.task_run(0.2, "summarise-0", "summarise")
    run.job(1, "hf-8c3f-1", "351", ["measure-0", "measure-1"], resources=asked)
    for n in range(2):
        where = {"job": f"351_{n}", "node": f"c{n}"}
        run.state(3, f"measure-{n}", "RUNNING", "Running", attempt=1, details=where)
    used = {"max_rss": 300 * 2**20, "elapsed": 4.0, "cpu": 3.0}
    run.state(7, "measure-0", "COMPLETED", "Completed", attempt=1, details={**where, **used})
    run.write(5, "log", level="INFO", message="half way", task_run="measure-0", flow_run=run.id)
    run.write(6, "log", level="ERROR", message="no such file", task_run="measure-1")
    run.write(4, "log", level="INFO", message="counting", flow_run=run.id)
    run.state(8, "measure-1", "CRASHED", "OutOfMemory", attempt=1, message="It used too much.")
    return run
