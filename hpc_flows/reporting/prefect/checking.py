"""A last look at what goes to a server that others use too.

An event that lacks something is taken with a 204 all the same, and then chokes the server's
recorder for everybody: it is tried six times, with the events of others beside it. So nothing
leaves that was not looked at here.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Container

TYPES = frozenset(
    "SCHEDULED PENDING RUNNING PAUSED CANCELLING COMPLETED FAILED CANCELLED CRASHED".split()
)

#: Bytes of one event (servers refuse more than 1.5 MB) and of one request (Cloud: 5 MB).
MOST_EVENT_BYTES, MOST_REQUEST_BYTES = 1_000_000, 2_000_000

_EVENT = frozenset({"id", "occurred", "event", "resource", "related", "payload"})
_RESOURCE = frozenset(
    {
        *("prefect.resource.id", "prefect.resource.name", "prefect.run-count"),
        *("prefect.state-message", "prefect.state-name", "prefect.state-timestamp"),
        *("prefect.state-type", "prefect.orchestration"),
    }
)
_TASK_RUN = frozenset(
    {
        *("name", "task_key", "dynamic_key", "run_count", "flow_run_run_count", "task_inputs"),
        *("tags", "labels", "empirical_policy", "expected_start_time", "start_time"),
        *("end_time", "total_run_time"),
    }
)


def check_event(event: dict[str, Any], flow_runs: Container[str]) -> None:
    """Check that an event can be recorded.

    Args:
        event: as it would be sent.
        flow_runs: ids of the flow runs that the server is known to have; an empty one among them
            where task runs belong to none.

    Raises:
        ValueError: it cannot; the message says why.
    """
    _need(event.keys() == _EVENT, f"fields {sorted(event.keys() ^ _EVENT)}")
    _uuid(event["id"])
    _check_resource(event)
    _check_related(event["related"], flow_runs)
    _check_payload(event)
    size = len(json.dumps(event, allow_nan=False).encode())
    _need(size <= MOST_EVENT_BYTES, f"{size} bytes")


def _check_resource(event: dict[str, Any]) -> None:
    resource = event["resource"]
    _need(resource.keys() == _RESOURCE, "resource")
    _need(all(isinstance(value, str) for value in resource.values()), "labels that are no texts")
    _need(resource["prefect.orchestration"] == "client", "prefect.orchestration")
    kind, _, id_ = resource["prefect.resource.id"].rpartition(".")
    _need(kind == "prefect.task-run", "prefect.resource.id")
    _uuid(id_)
    _need(resource["prefect.state-timestamp"] == event["occurred"], "prefect.state-timestamp")
    _time(event["occurred"])


def _check_related(related: list[dict[str, str]], flow_runs: Container[str]) -> None:
    if not related and "" in flow_runs:
        return
    ids = {item["prefect.resource.role"]: item["prefect.resource.id"] for item in related}
    _need(ids.keys() == {"flow-run", "flow"}, "related")
    flow_run = ids["flow-run"].removeprefix("prefect.flow-run.")
    _uuid(flow_run)
    _uuid(ids["flow"].removeprefix("prefect.flow."))
    _need(flow_run in flow_runs, f"flow run {flow_run}, which the server does not know")


def _check_payload(event: dict[str, Any]) -> None:
    payload = event["payload"]
    run, state = payload["task_run"], payload["validated_state"]
    _need(run.keys() == _TASK_RUN, f"task_run {sorted(run.keys() ^ _TASK_RUN)}")
    for name in ("name", "task_key", "dynamic_key"):
        _need(isinstance(run[name], str) and bool(run[name]), name)
    for name in ("expected_start_time", "start_time", "end_time"):
        if run[name] is not None:
            _time(run[name])
    _need(state["type"] in TYPES and bool(state["name"]), "state")
    _need(event["event"] == f"prefect.task-run.{state['name']}", "event")
    _need(all(isinstance(v, str | int | float) for v in run["labels"].values()), "labels")
    for runs in run["task_inputs"].values():
        for item in runs:
            _uuid(item["id"])


def clean(value: Any) -> Any:
    """Return JSON without what a database refuses in texts: zero characters, half surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {str(clean(str(key))): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def _need(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as what is needed
    if not holds:
        raise ValueError(f"an event that a Prefect server could not record: {what}")


def _uuid(text: object) -> None:
    try:
        UUID(str(text))
    except ValueError:
        raise ValueError(f"no UUID: {text!r}") from None


def _time(text: object) -> None:
    _need(datetime.fromisoformat(str(text)).tzinfo is not None, f"time {text!r}")
