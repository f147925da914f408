"""Artifacts, users' own events, and variables."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from hpc_flows.server.access.principals import Controller, Principal, Reader
from hpc_flows.server.problems import Problem, missing
from hpc_flows.server.queries import artifacts, events, variables
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.routes.wishes import Limit, Offset, Word, asking, found
from hpc_flows.server.service import Here, nothing, reply, reply_encoded
from hpc_flows.server.shapes import runs as shapes

api = router()


def _artifact_filter(
    run: Word | None = None,
    flow_run: Word | None = None,
    task_run: Word | None = None,
    key: Word | None = None,
    type: Word | None = None,  # noqa: A002 - the word of the address
) -> artifacts.ArtifactFilter:
    return artifacts.ArtifactFilter(
        run=run, flow_run=flow_run, task_run=task_run, key=key, type=type
    )


@api.get("/artifacts", response_model=shapes.Artifacts)
def list_artifacts(
    here: Here,
    who: Reader,
    chosen: Annotated[artifacts.ArtifactFilter, Depends(_artifact_filter)],
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    """List artifacts."""
    with here.database.reading() as connection, asking():
        return reply(artifacts.list_artifacts(connection, who.sight, chosen, limit, offset))


@api.get("/artifacts/{id}", response_model=shapes.Artifact)
def show_artifact(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - as above
    """Show an artifact."""
    with here.database.reading() as connection:
        return reply_encoded(found(artifacts.artifact(connection, who.sight, id)))


def _event_filter(
    run: Word | None = None,
    name: Word | None = None,
    resource: Word | None = None,
    since: float | None = None,
    until: float | None = None,
) -> events.EventFilter:
    return events.EventFilter(run=run, name=name, resource=resource, since=since, until=until)


@api.get("/events", response_model=shapes.Events)
def list_events(
    here: Here,
    who: Reader,
    chosen: Annotated[events.EventFilter, Depends(_event_filter)],
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    """List users' own events."""
    with here.database.reading() as connection, asking():
        return reply(events.list_events(connection, who.sight, chosen, limit, offset))


@api.get("/variables", response_model=shapes.Variables)
def list_variables(here: Here, who: Reader) -> Response:
    """List one's own variables."""
    _check_whole(who)
    with here.database.reading() as connection:
        return reply({"items": variables.list_variables(connection, who.sight)})


@api.put("/variables/{name}", response_model=shapes.Variable)
def set_variable(here: Here, who: Controller, name: str, value: shapes.NewValue) -> Response:
    """Keep a value under a name."""
    _check_whole(who)
    with here.database.writing() as connection, asking():
        row = variables.set_variable(connection, who.sight, name, value.value, value.tags)
    return reply(row)


@api.delete("/variables/{name}", status_code=204)
def delete_variable(here: Here, who: Controller, name: str) -> Response:
    """Remove a variable."""
    _check_whole(who)
    with here.database.writing() as connection:
        if not variables.delete_variable(connection, who.sight, name):
            raise missing(f"There is no variable {name[:120]!r} of yours.")
    return nothing()


def _check_whole(who: Principal) -> None:
    """Refuse a token for one run: variables belong to no run."""
    if who.grant.run is not None:
        raise Problem(403, "forbidden", "A token for one run sees no variables.")
