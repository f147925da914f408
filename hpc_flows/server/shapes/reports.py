"""What relays send, and what they are answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from hpc_flows.server.shapes import Count, Id, Line, Open, Shape, Text, Time

#: Runs, clusters and writers that one relay may speak of at once.
MOST_RUNS, MOST_CLUSTERS, MOST_WRITERS = 5000, 200, 100_000
_Small = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]


class About(Open):
    """What `run.json` says of a run, with the user's name."""

    id: Id | None = None
    created: Time | None = None
    host: _Small | None = None
    pid: int | None = None
    cwd: _Small | None = None
    python: _Small | None = None
    hpc_flows: _Small | None = None
    name: _Small | None = None
    flow: _Small | None = None
    user: _Small | None = None
    key_id: _Small | None = None
    project: Line | None = None


class Registered(Shape):
    """That the server knows the run now."""

    run: str
    project: str | None
    epoch: str


class Taken(Shape):
    """What the server made of a batch; `counts` says how many events of each writer it holds.

    `version` is the run's after it.
    """

    epoch: str
    taken: int
    repeated: int
    refused: int
    counts: dict[str, int]
    version: int


class Attached(Shape):
    """That an attachment is kept, and the run's version after it."""

    epoch: str
    version: int


class Counts(Shape):
    """How many events of each writer, and which version, of each run a relay was told."""

    runs: Annotated[dict[Id, dict[Id, Count]], Field(max_length=MOST_RUNS)]
    versions: Annotated[dict[Id, Count], Field(default_factory=dict, max_length=MOST_RUNS)]


class Behind(Shape):
    """Of which writers the server has less, and which runs it does not know, or not any more.

    A run of which something else is missing, such as an attachment, is in `behind` without writers.
    """

    behind: dict[str, list[str]]
    unknown: list[str]
    gone: list[str]


class Heartbeat(Open):
    """That a relay lives, what it reports of, and what it sees of clusters."""

    mode: Literal["driver", "login", "stdio"]
    host: Line
    pid: Annotated[int, Field(ge=0, le=2**31)] | None = None
    version: Line | None = None
    clock: Time | None = None
    runs: Annotated[list[Id], Field(default_factory=list, max_length=MOST_RUNS)]
    clusters: Annotated[
        dict[Id, dict[str, Any]], Field(default_factory=dict, max_length=MOST_CLUSTERS)
    ]


class Order(Shape):
    """What somebody wants the driver of a run to do."""

    id: str
    run: str
    action: Literal["cancel", "pause", "resume"]
    reason: str
    by: str


class Heard(Shape):
    """The answer to a heartbeat."""

    epoch: str
    time: float
    commands: list[Order]


class Outcome(Shape):
    """What became of a command."""

    status: Literal["delivered", "refused", "failed"]
    message: Text = ""
