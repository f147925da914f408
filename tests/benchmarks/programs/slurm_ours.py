"""Run a no-op task on Slurm with hpc_flows.

Usage: python slurm_ours.py array|jobs COUNT [PARTITION]

Prints seconds: `submitted` until the scheduler has taken all, `wall` until all results are there.
"""

import json
import os
import sys
import time
from pathlib import Path

from noop_tasks import noop

from hpc_flows import flow
from hpc_flows.journal.reader import read_run
from hpc_flows.settings import get_settings
from hpc_flows.task_runners import SlurmTaskRunner

how, count = sys.argv[1], int(sys.argv[2])
mode = "array" if how == "array" else "job"
resources = {"partition": sys.argv[3]} if len(sys.argv) > 3 else None
runner = SlurmTaskRunner(os.environ["HPC_FLOWS_CLUSTER"], mode=mode, resources=resources)


@flow(task_runner=runner)
def many(count: int) -> tuple[float, float]:
    """Map the task and wait for all results."""
    begun, begin = time.time(), time.perf_counter()
    futures = noop.map(range(count))
    if sum(futures.result()) != sum(range(count)):
        sys.exit("the results are wrong")
    return begun, time.perf_counter() - begin


def last_submission() -> float:
    """Return when the scheduler had taken the last job, as the journal says."""
    run = max((Path(get_settings().home) / "runs").iterdir(), key=lambda each: each.stat().st_mtime)
    return max(event.wall for event in read_run(str(run)) if event.kind == "job-submitted")


started, wall = many(count)
print(json.dumps({"submitted": last_submission() - started, "wall": wall}))
