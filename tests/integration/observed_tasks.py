"""Tasks that look at their job, and leave artifacts, events and variables; nodes import this."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from hpc_flows import Resources, task
from hpc_flows.artifacts import create_table_artifact, update_progress_artifact
from hpc_flows.events import emit_event
from hpc_flows.runtime import flow_run, job, task_run
from hpc_flows.variables import Variable

SMALL = Resources(cpus=2, memory="100M", walltime="5m")


@task(resources=SMALL, task_run_name="look-{number}")
def look(number: int) -> dict[str, Any]:
    for name in list(os.environ):
        if name.startswith("SLURM"):  # as code does that must not see the job around it
            del os.environ[name]
    found = {name: getattr(job, name) for name in dir(job)}
    return {**found, "task": task_run.name, "flow": flow_run.name, "number": number}


@task(resources=SMALL)
def leave(progress: str) -> int:
    create_table_artifact([["x" * 100] * 10] * 100, key="from-a-job")
    update_progress_artifact(progress, 75)
    emit_event("job.was.here", {"prefect.resource.id": "job"})
    Variable.set("counted", Variable.get("start", 0) + 1)
    return int(Variable.get("counted"))


@task(resources=SMALL, log_prints=True)
def shout(word: str) -> str:
    print(word, "printed")  # noqa: T201 - what is tested
    subprocess.run(["/bin/echo", word, "echoed"], check=True)
    return word
