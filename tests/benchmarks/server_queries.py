"""How long the server's queries take with a million task runs stored."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from hpc_flows.server.queries import (
    artifacts,
    events,
    flow_runs,
    graphs,
    jobs,
    logs,
    overview,
    task_runs,
    timelines,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.server.db import Database, Sight

#: The large run begins at this time, in seconds since 1970, and lasts for some minutes.
BEGIN = 1_790_000_000.0


def queries(run: str, task_run: str) -> dict[str, Callable[[Any, Sight], Any]]:
    """Return list and detail queries, by name, about the large run and about everything."""
    f, t, inside = flow_runs.FlowRunFilter, task_runs.TaskRunFilter, {"flow_run": run}
    found: dict[str, Callable[[Any, Sight], Any]] = {
        "flow runs": lambda c, s: flow_runs.list_flow_runs(c, s, f()),
        "flow runs, failed": lambda c, s: flow_runs.list_flow_runs(c, s, f(states=("FAILED",))),
        "flow runs, by name": lambda c, s: flow_runs.list_flow_runs(c, s, f(name="FOX")),
        "flow runs, longest": lambda c, s: flow_runs.list_flow_runs(c, s, f(), "-duration"),
        "scatter": lambda c, s: flow_runs.scatter(c, s, f(parent="any")),
        "flow run": lambda c, s: flow_runs.flow_run(c, s, run),
        "counts": lambda c, s: flow_runs.counts(c, s, run),
        "graph": lambda c, s: graphs.graph(c, s, run),
        "graph, opened": lambda c, s: graphs.graph(c, s, run, ("train",)),
        "task runs of all": lambda c, s: task_runs.list_task_runs(c, s, t(), "-created"),
        "task runs failed": lambda c, s: task_runs.list_task_runs(
            c, s, t(states=("FAILED",)), "-created"
        ),
        "task run": lambda c, s: task_runs.task_run(c, s, task_run),
        "task runs, page 900": lambda c, s: task_runs.list_task_runs(
            c, s, t(**inside), "created", 100, 90_000
        ),
        "logs": lambda c, s: logs.list_logs(c, s, logs.LogFilter(run=run), order="desc"),
        "logs, search": lambda c, s: logs.list_logs(
            c, s, logs.LogFilter(run=run, search="item 4321 "), order="asc"
        ),
        "logs of task run": lambda c, s: logs.list_logs(c, s, logs.LogFilter(task_run=task_run)),
        "timeline, zoomed": lambda c, s: timelines.timeline(
            c, s, run, timelines.TimelineFilter(begin=BEGIN + 100, end=BEGIN + 110)
        ),
        "jobs": lambda c, s: jobs.list_jobs(c, s, jobs.JobFilter(run=run)),
        "clusters": jobs.clusters,
        "artifacts": lambda c, s: artifacts.list_artifacts(c, s, artifacts.ArtifactFilter()),
        "events": lambda c, s: events.list_events(c, s, events.EventFilter()),
        "dashboard": lambda c, s: overview.dashboard(c, s, 24),
        "tags": overview.tags,
    }
    for sort in ("created", "-started", "ended", "-duration", "wait", "name", "map_index"):
        found[f"task runs, {sort}"] = lambda c, s, sort=sort: task_runs.list_task_runs(  # type: ignore[misc]
            c, s, t(**inside), sort
        )
    for name, chosen in (
        ("task", t(task="train", **inside)),
        ("failed", t(states=("FAILED", "CRASHED"), **inside)),
        ("running", t(states=("RUNNING",), **inside)),
        ("name", t(name="train-4321", **inside)),
        ("node", t(node="c7", **inside)),
    ):
        found[f"task runs, of {name}"] = lambda c, s, chosen=chosen: task_runs.list_task_runs(  # type: ignore[misc]
            c, s, chosen
        )
    return found


def overall(run: str) -> dict[str, Callable[[Any, Sight], Any]]:
    """Return the queries that look at every task run of the large run."""
    chosen = timelines.TimelineFilter()
    return {"timeline, counted": lambda c, s: timelines.timeline(c, s, run, chosen)}


def measure(
    database: Database, sight: Sight, asked: dict[str, Callable[[Any, Sight], Any]], times: int
) -> dict[str, list[float]]:
    """Return how many seconds each query took each time, all in turn."""
    taken: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(times):
        for name, ask in asked.items():
            began = time.perf_counter()
            with database.reading() as connection:
                ask(connection, sight)
            taken[name].append(time.perf_counter() - began)
    return taken


def percentile(taken: dict[str, list[float]], part: float = 0.95) -> float:
    """Return below how many seconds that part of all queries stayed."""
    every = sorted(seconds for each in taken.values() for seconds in each)
    return every[min(len(every) - 1, int(part * len(every)))]


def medians(taken: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each query, in seconds."""
    return {name: statistics.median(each) for name, each in taken.items()}
