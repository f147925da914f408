"""Flow runs: lists, charts, what the driver is asked to do, and their removal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, Query, Response
from pydantic import Field

from hpc_flows.server import relays, retention
from hpc_flows.server.access import people
from hpc_flows.server.access.principals import Controller, Principal, Reader, check_control
from hpc_flows.server.answers import Made
from hpc_flows.server.page import PageNotBuilt
from hpc_flows.server.problems import Problem, missing
from hpc_flows.server.queries import flow_runs, graphs, overview, timelines
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.routes.wishes import Limit, Offset, Word, asking, found
from hpc_flows.server.service import Here, Service, nothing, reply, reply_encoded
from hpc_flows.server.shapes import Shape
from hpc_flows.server.shapes import runs as shapes
from hpc_flows.server.shapes.people import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sqlalchemy import Connection

api = router()


class Words(Shape):
    """Which flow runs are wanted."""

    state: Annotated[list[Word], Field(default_factory=list, max_length=50)]
    flow: Word | None = None
    tag: Word | None = None
    name: Word | None = None
    cluster: Word | None = None
    owner: Word | None = None
    project: Word | None = None
    parent: Word = "root"
    since: float | None = None
    until: float | None = None

    def filter(self) -> flow_runs.FlowRunFilter:
        """Return it as the query takes it."""
        given = {each: getattr(self, each) for each in Words.model_fields}
        return flow_runs.FlowRunFilter(states=tuple(given.pop("state")), **given)


class ListWords(Words):
    """Which flow runs are wanted, in which order, and which part of them."""

    sort: Word = "-created"
    limit: Limit = 50
    offset: Offset = 0


class ScatterWords(Words):
    """Which flow runs are wanted, and at most how many points."""

    points: Annotated[int, Field(ge=1, le=10_000)] = 2000


@api.get("/dashboard", response_model=shapes.Dashboard)
def dashboard(
    here: Here, who: Reader, hours: Annotated[float, Query(gt=0, le=24 * 366)] = 24
) -> Response:
    """Show what needs attention, what is active, and what happened lately."""
    with here.database.reading() as connection, asking():
        return reply(overview.dashboard(connection, who.sight, hours))


@api.get("/tags", response_model=shapes.Tags)
def list_tags(here: Here, who: Reader) -> Response:
    """List the tags of flow runs."""
    with here.database.reading() as connection:
        return reply({"items": overview.tags(connection, who.sight)})


@api.get("/flow-runs", response_model=shapes.FlowRuns)
def list_flow_runs(here: Here, who: Reader, words: Annotated[ListWords, Query()]) -> Response:
    """List flow runs, the newest first unless said otherwise."""
    chosen = words.filter()
    with here.database.reading() as connection, asking():
        rows = flow_runs.list_flow_runs(
            connection, who.sight, chosen, words.sort, words.limit, words.offset
        )
    return reply(rows)


@api.get("/flow-runs/scatter", response_model=shapes.Scatter)
def scatter(here: Here, who: Reader, words: Annotated[ScatterWords, Query()]) -> Response:
    """Show start and duration of flow runs."""
    with here.database.reading() as connection, asking():
        return reply(flow_runs.scatter(connection, who.sight, words.filter(), words.points))


@api.get("/flow-runs/{id}", response_model=shapes.FlowRun)
def show(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - the name in the address
    """Show a flow run."""
    with here.database.reading() as connection:
        return reply(found(flow_runs.flow_run(connection, who.sight, id)))


@api.get("/flow-runs/{id}/counts", response_model=shapes.Counts)
def counts(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - as above
    """Count the task runs of a flow run by task and state."""
    with here.database.reading() as connection:
        return reply(found(flow_runs.counts(connection, who.sight, id)))


def _span(
    task: Word | None = None,
    state: Word | None = None,
    begin: Annotated[float | None, Query(alias="from")] = None,
    end: Annotated[float | None, Query(alias="to")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 2000,
) -> timelines.TimelineFilter:
    return timelines.TimelineFilter(task=task, state=state, begin=begin, end=end, limit=limit)


@api.get("/flow-runs/{id}/timeline", response_model=shapes.Timeline)
def timeline(
    here: Here,
    who: Reader,
    id: str,  # noqa: A002 - as above
    chosen: Annotated[timelines.TimelineFilter, Depends(_span)],
) -> Response:
    """Show the task runs of a flow run over time."""

    def make(connection: Connection) -> Made:
        shown = found(timelines.timeline(connection, who.sight, id, chosen))
        return Made(shown, timelines.holds_for(shown, chosen))

    return _kept(here, who, id, ("timeline", chosen), make)


@api.get("/flow-runs/{id}/graph", response_model=shapes.Graph)
def graph(
    here: Here,
    who: Reader,
    id: str,  # noqa: A002 - as above
    opened: Annotated[list[Word] | None, Query(alias="open", max_length=50)] = None,
) -> Response:
    """Show which task takes results of which; tasks that are opened are shown run by run."""
    open_tasks = tuple(opened or ())

    def make(connection: Connection) -> Made:
        return Made(found(graphs.graph(connection, who.sight, id, open_tasks)))

    return _kept(here, who, id, ("graph", open_tasks), make)


def _kept(
    here: Service,
    who: Principal,
    id_: str,
    wanted: tuple[Hashable, ...],
    make: Callable[[Connection], Made],
) -> Response:
    """Answer what costs much about a flow run, as it was answered before if it has not changed."""
    with here.database.reading() as connection, asking():
        key = found(flow_runs.key_of(connection, who.sight, id_))
        whose = (*wanted, key.run, key.pk)
        return reply_encoded(here.answers.of(whose, key.version, lambda: make(connection)))


@api.get(
    "/flow-runs/{id}/export",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def export(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - as above
    """Give a flow run as one HTML file, to be kept or sent; it is never shown from here."""
    # Loaded with the page's files, which need not have been built.
    from hpc_flows.server.exporting import export_html  # noqa: PLC0415

    with here.database.reading() as connection:
        try:
            page = found(export_html(connection, who.sight, id))
        except PageNotBuilt as error:
            raise Problem(503, "not-built", str(error), {"Retry-After": "3600"}) from None
    headers = {
        "Content-Disposition": f'attachment; filename="run-{_file_name(id)}.html"',
        # Should a browser show it all the same: without any right of this origin (threat T9).
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-store",
    }
    return Response(page, 200, headers, "text/html; charset=utf-8")


def _file_name(id_: str) -> str:
    return "".join(sign for sign in id_[:60] if sign.isascii() and sign.isalnum()) or "export"


@api.delete("/flow-runs/{id}", status_code=204)
def remove(here: Here, who: Controller, id: str) -> Response:  # noqa: A002 - as above
    """Remove a run and all that is in it from the server; its files stay where they are."""
    run = _run_to_change(here, who, id)
    if run != id:
        raise Problem(409, "part-of-a-run", f"It is a part of the run {run}; remove that one.")
    # Its rows go later, in portions: those of a large run take minutes.
    retention.mark_run(here.database, run, f"{who.grant.user} removed it")
    here.remover.wake()
    here.hub.changes.add([run])
    return nothing()


def _run_to_change(here: Service, who: Principal, id_: str) -> str:
    """Return the root run of a flow run that who asks may change.

    Raises:
        Problem: there is none, or it may only be read.
    """
    with here.database.reading() as connection:
        root: Any = found(flow_runs.root_of(connection, who.sight, id_))
        run = str(root[0])
        check_control(connection, who, run)
    return run


@api.post("/flow-runs/{id}/{action}", response_model=shapes.Given, status_code=202)
def command(
    here: Here,
    who: Controller,
    id: str,  # noqa: A002 - as above
    action: Literal["cancel", "pause", "resume"],
    asked: shapes.Reason | None = None,
) -> Response:
    """Ask the driver of a run to cancel, to pause or to go on; the answer says what to expect."""
    run = _run_to_change(here, who, id)
    if run != id:
        message = f"A part of a run cannot be told to {action} alone; ask for the run {run}."
        raise Problem(409, "part-of-a-run", message)
    reason = asked.reason if asked is not None else ""
    order = relays.Order(run, id, action, reason, who.grant.user)
    with here.database.writing() as connection:
        given = relays.give(connection, order)
    return reply(given, 202)


@api.get("/commands/{id}", response_model=shapes.Command)
def show_command(here: Here, who: Reader, id: str) -> Response:  # noqa: A002 - as above
    """Show what became of a command."""
    with here.database.reading() as connection:
        row = found(relays.command(connection, id))
        found(flow_runs.root_of(connection, who.sight, row["flow_run"]))
    return reply(row)


@api.put("/flow-runs/{id}/project", status_code=204)
def move(here: Here, who: Controller, id: str, place: Place) -> Response:  # noqa: A002 - as above
    """Put a run of one's own into a project, whose members may then see it, or take it out."""
    with here.database.writing() as connection:
        root: Any = found(flow_runs.root_of(connection, who.sight, id))
        owned = people.owner_and_project(connection, str(root[0]))
        if owned is None or (owned[0] != who.grant.user_id and not who.is_admin):
            raise Problem(403, "read-only", "Only its owner may move a run.")
        project = None if place.project is None else people.project_id(connection, place.project)
        if project is not None and project not in who.roles and not who.is_admin:
            raise missing(f"There is no project {place.project!r} that you may see.")
        people.move_run(connection, str(root[0]), project)
    here.hub.changes.add([str(root[0])])
    return nothing()
