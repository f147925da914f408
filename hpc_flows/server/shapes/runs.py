"""Runs, task runs, jobs, logs and what else the page shows; times are seconds since 1970."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from hpc_flows.server.shapes import Line, Open, Shape, Text

Json = Any
Moment = float | None


class Page(Shape):
    """A part of a list: where the next one begins, and how many there are if that was counted."""

    total: int | None
    next: int | None


class FlowRun(Shape):
    """A flow run; `heard` is when its relay was last heard, `skew` its clock's seconds ahead."""

    id: str
    run: str
    name: str
    flow: str
    state_type: str | None
    state_name: str | None
    message: str | None
    details: Json
    attempt: int
    created: Moment
    started: Moment
    ended: Moment
    parameters: dict[str, Any]
    tags: list[str]
    parent_task_run: str | None
    parent_flow_run: str | None
    entrypoint: str | None
    owner: str | None
    project: str | None
    clusters: list[str]
    host: str | None
    tasks: dict[str, int]
    total_tasks: int
    heard: Moment
    skew: float | None
    version: int
    history: list[list[Any]] | None = None


class FlowRuns(Page):
    """Flow runs."""

    items: list[FlowRun]


class Scatter(Shape):
    """Points `[id, name, flow, started, duration, state type]`; `left_out` are not among them."""

    points: list[list[Any]]
    left_out: int


class Attention(Open):
    """Something that a person should look at."""

    kind: str
    flow_run: str | None
    name: str | None
    text: str
    since: Moment


class Strip(Open):
    """What ended within a step of time."""

    t: float
    completed: int
    failed: int


class Dashboard(Shape):
    """What needs attention, what is active, and what happened lately."""

    attention: list[Attention]
    active: list[FlowRun]
    states: dict[str, int]
    strip: list[Strip]


class StateCount(Open):
    """How many task runs are in a state."""

    name: str
    type: str
    count: int


class TaskCount(Open):
    """The task runs of one task, by state."""

    task: str
    total: int
    states: list[StateCount]
    first_started: Moment
    last_ended: Moment


class Counts(Shape):
    """The task runs of a flow run, counted by task and state."""

    tasks: list[TaskCount]
    version: int


class Timeline(Open):
    """Task runs over time: single ones (`rows`), or, when they are many, counted in steps."""

    mode: Literal["rows", "bins"]
    begin: Moment
    end: Moment
    rows: list[dict[str, Any]] | None = None
    step: float | None = None
    tasks: list[dict[str, Any]] | None = None


class Graph(Shape):
    """Which task takes results of which: nodes, and edges `[from, to, count]`."""

    nodes: list[dict[str, Any]]
    edges: list[list[Any]]
    left_out: int


class TaskRun(Open):
    """A task run; `reason` is why its job is pending, in the scheduler's words and in ours."""

    id: str
    run: str
    flow_run: str | None
    name: str
    task: str
    state_type: str | None
    state_name: str | None
    attempt: int
    created: Moment
    queued: Moment
    started: Moment
    ended: Moment
    map_index: int | None
    token: str | None
    job: str | None
    node: str | None
    cluster: str | None
    partition: str | None
    reason: str | None
    reason_words: str | None


class TaskRuns(Page):
    """Task runs."""

    items: list[TaskRun]


class Output(Shape):
    """The tail of what a task run's job wrote."""

    text: str
    updated: float


class LogRecord(Open):
    """A log record; `id` is the cursor of its place."""

    id: Any
    t: float
    level: int
    message: str
    logger: str | None
    task_run: str | None
    flow_run: str | None


class Logs(Shape):
    """Log records; `dropped` could not be kept by the run, `arrived` asks for what comes later."""

    items: list[LogRecord]
    next: Any
    previous: Any
    dropped: int
    arrived: str


class Job(Open):
    """A submission to a batch system."""

    run: str
    token: str
    cluster: str | None
    scheduler: str | None
    job: str | None
    members: int
    phases: dict[str, int]
    reasons: list[dict[str, Any]]


class Usage(Shape):
    """What the jobs of a flow run took, in hours of one core: the cores that were asked for × time.

    `asked_core_hours` is what their walltimes would have allowed, `busy_core_hours` what their
    processors worked as far as jobs told it, which was of `told_core_hours`. `left_out` is how many
    task runs were too many to be added up.
    """

    task_runs: int
    left_out: int
    core_hours: float
    asked_core_hours: float
    busy_core_hours: float
    told_core_hours: float


class Jobs(Page):
    """Submissions."""

    items: list[Job]


class Artifact(Open):
    """Something that a run left to look at."""

    id: str
    type: str | None
    key: str | None


class Artifacts(Page):
    """Artifacts."""

    items: list[Artifact]


class Events(Page):
    """Users' own events."""

    items: list[dict[str, Any]]


class Variable(Open):
    """A small named value."""

    name: str
    value: Json
    tags: list[str]


class Variables(Open):
    """The variables of who asks."""

    items: list[Variable]


class NewValue(Shape):
    """A variable's value."""

    value: Json
    tags: Annotated[list[Line], Field(default_factory=list, max_length=100)]


class Tags(Open):
    """The tags of all flow runs that may be seen."""

    items: list[Any]


class Clusters(Open):
    """What relays have seen of clusters."""

    items: list[dict[str, Any]]


class Reason(Shape):
    """Why somebody asks the driver for something."""

    reason: Text = ""


class Given(Shape):
    """That a command waits for the driver, and what may become of it."""

    id: str
    status: str
    heard: float | None
    message: str


class Command(Shape):
    """A command and what became of it."""

    id: str
    run: str
    flow_run: str
    action: str
    reason: str
    by: str
    created: float
    status: str
    sent: Moment
    settled: Moment
    message: str | None
