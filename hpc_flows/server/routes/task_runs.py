"""Task runs, their jobs and what these wrote, logs, and what batch systems are seen to do."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Query, Response

from hpc_flows.server.access.principals import Reader
from hpc_flows.server.queries import jobs, logs, task_runs, usage
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.routes.wishes import Limit, Offset, Word, asking, found
from hpc_flows.server.service import Here, reply
from hpc_flows.server.shapes import runs as shapes

api = router()


def _task_filter(
    flow_run: Word | None = None,
    run: Word | None = None,
    task: Word | None = None,
    state: Annotated[list[Word] | None, Query(max_length=50)] = None,
    name: Word | None = None,
    job: Word | None = None,
    node: Word | None = None,
) -> task_runs.TaskRunFilter:
    return task_runs.TaskRunFilter(
        flow_run=flow_run,
        run=run,
        task=task,
        states=tuple(state or ()),
        name=name,
        job=job,
        node=node,
    )


@api.get("/task-runs", response_model=shapes.TaskRuns)
def list_task_runs(
    here: Here,
    who: Reader,
    chosen: Annotated[task_runs.TaskRunFilter, Depends(_task_filter)],
    sort: Word = "created",
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    """List task runs."""
    with here.database.reading() as connection, asking():
        rows = task_runs.list_task_runs(connection, who.sight, chosen, sort, limit, offset)
    return reply(rows)


@api.get("/task-runs/{id}", response_model=shapes.TaskRun)
def show(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - the name in the address
    """Show a task run."""
    with here.database.reading() as connection:
        return reply(found(task_runs.task_run(connection, who.sight, id)))


@api.get("/task-runs/{id}/output", response_model=shapes.Output)
def output(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - as above
    """Show the tail of what a task run's job wrote."""
    with here.database.reading() as connection:
        return reply(found(task_runs.output(connection, who.sight, id)))


def _log_filter(
    run: Word | None = None,
    flow_run: Word | None = None,
    task_run: Word | None = None,
    level: Annotated[int | None, Query(ge=0, le=10_000)] = None,
    search: Word | None = None,
) -> logs.LogFilter:
    return logs.LogFilter(run=run, flow_run=flow_run, task_run=task_run, level=level, search=search)


@api.get("/logs", response_model=shapes.Logs)
def list_logs(
    here: Here,
    who: Reader,
    chosen: Annotated[logs.LogFilter, Depends(_log_filter)],
    after: Word | None = None,
    before: Word | None = None,
    order: Literal["asc", "desc"] = "asc",
    arrived: Word | None = None,
    limit: Limit = 200,
) -> Response:
    """Show log records of a run, flow run or task run, in the order of their times.

    With `arrived` of an answer those that have come since, in the order in which they came: what a
    node writes is often seen later than what was written after it.
    """
    with here.database.reading() as connection, asking():
        if arrived is not None:
            _check_alone(after, before, order)
            new = logs.list_arrivals(connection, who.sight, chosen, arrived, limit)
            return reply(new)
        rows = logs.list_logs(
            connection, who.sight, chosen, after=after, before=before, order=order, limit=limit
        )
    return reply(found(rows))


def _check_alone(after: str | None, before: str | None, order: str) -> None:
    """Refuse what means nothing for records in the order in which they came."""
    if after is not None or before is not None or order != "asc":
        raise ValueError("With `arrived` there is no `after`, no `before`, and no other order.")


def _job_filter(
    run: Word | None = None,
    flow_run: Word | None = None,
    cluster: Word | None = None,
    phase: Word | None = None,
) -> jobs.JobFilter:
    return jobs.JobFilter(run=run, flow_run=flow_run, cluster=cluster, phase=phase)


@api.get("/jobs", response_model=shapes.Jobs)
def list_jobs(
    here: Here,
    who: Reader,
    chosen: Annotated[jobs.JobFilter, Depends(_job_filter)],
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    """List submissions to batch systems."""
    with here.database.reading() as connection, asking():
        return reply(jobs.list_jobs(connection, who.sight, chosen, limit, offset))


@api.get("/jobs/{run}/{token}", response_model=shapes.Job)
def show_job(here: Here, who: Reader, run: str, token: str) -> Response:
    """Show a submission, with its script and its task runs."""
    with here.database.reading() as connection:
        return reply(found(jobs.job(connection, who.sight, run, token)))


@api.get("/flow-runs/{id}/usage", response_model=shapes.Usage)
def show_usage(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - the name in the address
    """Add up how many core-hours the jobs of a flow run took."""
    with here.database.reading() as connection:
        return reply(found(usage.usage(connection, who.sight, id)))


@api.get("/clusters", response_model=shapes.Clusters)
def clusters(here: Here, who: Reader) -> Response:
    """Show what relays have seen of clusters, and how old that is."""
    with here.database.reading() as connection:
        return reply({"items": jobs.clusters(connection, who.sight)})
