"""Tasks that the tests of clusters send to jobs; nodes import this module."""

from __future__ import annotations

import os
from typing import Any

from hpc_flows import Resources, get_run_logger, task

SMALL = Resources(cpus=1, memory="100M", walltime="5m")


@task(resources=SMALL)
def nothing(x: Any) -> None:
    del x


@task(resources=SMALL)
def square(x: int) -> int:
    return x * x


@task(resources=SMALL)
def total(values: list[int]) -> int:
    return sum(values)


@task(resources=SMALL, log_prints=True)
def talk(word: str) -> str:
    get_run_logger().info("logged %s", word)
    print("printed", word)  # noqa: T201 - what is tested
    return word


@task(resources=Resources(cpus=2, memory="200M", walltime="5m", environment={"MARK": "a b'c"}))
def surroundings() -> dict[str, str]:
    wanted = ("MARK", "OMP_NUM_THREADS", "SRUN_CPUS_PER_TASK", "SLURM_JOB_NAME", "PRIVATE_TOKEN")
    return {name: os.environ[name] for name in wanted if name in os.environ}


@task(resources=SMALL, retries=2)
def third_time(folder: str) -> int:
    count = len(os.listdir(folder))
    open(f"{folder}/{count}", "x").close()
    if count < 2:
        raise OSError("not yet")
    return count


@task(resources=SMALL)
def table(size: int) -> Any:
    import numpy as np

    return np.arange(size)
