"""Send task runs to a Prefect server over HTTP and wait until all can be seen; print the rate.

Usage: prefect_ingest.py TASK_RUNS, with PREFECT_API_URL in the environment. Each task run is three
events, as its own client sends them, in batches of 100 from one sender: several only make it
slower. The last line has `per_event`, `rate`, and `p50` and `p95` of list and detail requests about
these task runs, in seconds.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import sys
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

API = urlsplit(os.environ["PREFECT_API_URL"])
STATES = ("Pending", "Running", "Completed")
BATCH = 100
PATIENCE = 600.0


def main() -> None:
    many = int(sys.argv[1])
    flow = ask("POST", "/flows/", {"name": "bench"})["id"]
    asked = {"flow_id": flow, "name": "bench", "state": {"type": "RUNNING"}}
    run = ask("POST", "/flow_runs/", asked)["id"]
    events = [event for at in range(many) for event in events_of(run, at)]
    began = time.perf_counter()
    for at in range(0, len(events), BATCH):
        ask("POST", "/events", events[at : at + BATCH])
    seen, end = 0, began + PATIENCE
    done = {"operator": "and_", "state": {"type": {"any_": ["COMPLETED"]}}}
    chosen = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": done}
    while seen < many and time.perf_counter() < end:
        seen = ask("POST", "/task_runs/count", chosen)
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    if seen < many:
        sys.exit(f"after {PATIENCE:.0f} s only {seen} of {many} task runs can be seen")
    times = sorted(requests(run))
    figures = {
        "per_event": seconds / len(events),
        "rate": len(events) / seconds,
        "p50": times[len(times) // 2],
        "p95": times[int(0.95 * len(times))],
    }
    print(json.dumps(figures))


def requests(run: str) -> list[float]:
    """Return how long lists and details took, as Prefect's page asks for them."""
    mine = {"flow_runs": {"id": {"any_": [run]}}, "limit": 50}
    first = ask("POST", "/task_runs/filter", mine)[0]["id"]
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/flow_runs/filter", {"limit": 50}),
        ("GET", f"/flow_runs/{run}", None),
        ("POST", "/task_runs/filter", mine),
        ("POST", "/task_runs/filter", {**mine, "sort": "END_TIME_DESC"}),
        ("POST", "/task_runs/count", mine),
        ("GET", f"/task_runs/{first}", None),
        ("GET", f"/flow_runs/{run}/graph-v2", None),
        ("POST", "/logs/filter", {"limit": 50}),
    ]
    times = []
    for method, path, body in asked * 5:
        began = time.perf_counter()
        ask(method, path, body)
        times.append(time.perf_counter() - began)
    return times


def events_of(run: str, at: int) -> list[dict[str, Any]]:
    id_ = str(uuid.uuid4())
    return [event(run, id_, at, number, name) for number, name in enumerate(STATES)]


def event(run: str, id_: str, at: int, number: int, name: str) -> dict[str, Any]:
    when = (dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=number)).isoformat()
    state = {"type": name.upper(), "name": name, "message": None, "state_details": {}, "data": None}
    task_run = {
        "name": f"train-{at}",
        "task_key": "train",
        "dynamic_key": id_,
        "run_count": 1,
        "flow_run_run_count": 1,
        "task_inputs": {},
        "tags": [],
        "labels": {},
        "empirical_policy": {},
        "expected_start_time": when,
        "start_time": when,
        "end_time": when if number == len(STATES) - 1 else None,
        "total_run_time": 0.0,
    }
    resource = {
        "prefect.resource.id": f"prefect.task-run.{id_}",
        "prefect.resource.name": f"train-{at}",
        "prefect.run-count": "1",
        "prefect.state-message": "",
        "prefect.state-name": name,
        "prefect.state-timestamp": when,
        "prefect.state-type": name.upper(),
        "prefect.orchestration": "client",
    }
    related = {
        "prefect.resource.id": f"prefect.flow-run.{run}",
        "prefect.resource.role": "flow-run",
    }
    return {
        "id": str(uuid.uuid4()),
        "occurred": when,
        "event": f"prefect.task-run.{name}",
        "resource": resource,
        "related": [related],
        "payload": {
            "intended": {"from": None, "to": name.upper()},
            "initial_state": None,
            "validated_state": state,
            "task_run": task_run,
        },
    }


def ask(method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body)
    connection = http.client.HTTPConnection(API.hostname or "", API.port, timeout=120)
    connection.request(method, API.path + path, data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status >= http.client.BAD_REQUEST:
        sys.exit(f"{method} {path}: {response.status} {content[:300]!r}")
    return json.loads(content) if content else None


main()
