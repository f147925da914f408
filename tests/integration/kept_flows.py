"""Tasks whose results are kept, for tests on clusters; nodes import this module."""

from __future__ import annotations

import os
from typing import Any

from hpc_flows import Resources, task
from hpc_flows.cache_policies import INPUTS

SMALL = Resources(cpus=1, memory="100M", walltime="5m")


@task(resources=SMALL, cache_policy=INPUTS)
def square(x: int, folder: str) -> int:
    open(f"{folder}/{x}-{os.getpid()}", "x").close()
    return x * x


@task(resources=SMALL, cache_policy=INPUTS, result_serializer="hdf5")
def field(size: int) -> Any:
    import numpy as np

    return {"t": np.arange(float(size))}


@task(resources=SMALL)
def write(path: str) -> str:
    open(path, "x").close()
    return path


@write.on_rollback
def remove(txn: Any) -> None:
    value = txn.staged
    os.unlink(value.get() if hasattr(value, "get") else value)


@write.on_commit
def tell(txn: Any) -> None:
    value = txn.staged
    path = value.get() if hasattr(value, "get") else value
    open(f"{path}.committed-by-{os.getpid()}", "x").close()


@task(resources=SMALL, retries=1)
def second_time(folder: str) -> str:
    path = f"{folder}/tried"
    if not os.path.exists(path):
        open(path, "x").close()
        raise OSError("not yet")
    return path


second_time.on_rollback(remove)


@task(resources=SMALL)
def fail() -> None:
    raise ValueError("no")
