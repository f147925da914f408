"""Facts about the deployment of the flow run: `from hpc_flows.runtime import deployment`.

`id`, `name` and `version` are None and `parameters` is empty for runs that no deployment has made;
`flow_run_id` is the innermost flow run's. The environment may set them, so that flows which ask
can be tested.
"""

from __future__ import annotations

from hpc_flows.runtime.lookup import find, id_of_flow_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _nothing() -> None:
    return None


#: What gives each attribute its value; tests may replace one.
FIELDS: dict[str, Callable[[], Any]] = {
    "id": _nothing,
    "name": _nothing,
    "version": _nothing,
    "parameters": dict,
    "flow_run_id": id_of_flow_run,
}


def __getattr__(name: str) -> Any:
    return find("deployment", FIELDS, name)


def __dir__() -> list[str]:
    return sorted(FIELDS)
