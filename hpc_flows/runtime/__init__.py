"""Facts about what asks: `runtime.flow_run.name`, `runtime.task_run.run_count`, `runtime.job.id`.

They are looked up whenever they are asked for. Outside of runs (of jobs, of deployments) each is
None, or empty where it would be a list or a dict. For tests, the environment variable
`HPC_FLOWS__RUNTIME__FLOW_RUN__NAME` (or Prefect's `PREFECT__RUNTIME__FLOW_RUN__NAME`) overrides
`runtime.flow_run.name`, and so on for every attribute that is no list and no dict.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.runtime import deployment, flow_run, job, task_run

__all__ = ["deployment", "flow_run", "job", "task_run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return __import__(f"hpc_flows.runtime.{name}", fromlist=[name])
    from hpc_flows.exceptions import close_match  # noqa: PLC0415 - only once it is wrong

    msg = f"hpc_flows.runtime has no attribute {name!r}.{close_match(name, __all__)}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
