"""A server's database with three runs of two users, for the tests of queries."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from server_data import add_user, lines
from server_stories import long_story, renamed
from sqlalchemy import insert
from test_replay import Story

from hpc_flows.server.db import Sight, open_database
from hpc_flows.server.db.people import projects
from hpc_flows.server.ingest import Ingest

if TYPE_CHECKING:
    from hpc_flows.server.db import Database

NOW = time.time()
ADA, BOB = Sight(1), Sight(2)

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)]


def filled(request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Database:
    """Return a database of the kind that a fixture's parameter says, with the runs in it."""
    if request.param == "sqlite":
        url = f"sqlite:///{factory.mktemp('db') / 'server.db'}"
    else:
        url = request.getfixturevalue("postgresql").create()
    database = open_database(url)
    database.migrate()
    add_user(database, "ada")
    add_user(database, "bob")
    with database.writing() as connection:
        connection.execute(insert(projects).values(id=3, name="lab", created=1.0))
    fill(database)
    return database


def fill(database: Database) -> None:
    """Ada has the run with everything, and one that is at work; Bob one, in a project."""
    ingest = Ingest(database)
    ingest.register("run-1", {"host": "login1"}, 1, None)
    ingest.take("run-1", lines(long_story().events), 1)
    ingest.attach("run-1", "script", "tok", "#!/bin/sh\n", 1)
    ingest.attach("run-1", "output", "t0", "the end of it", 1)
    ingest.register("living", {}, 1, None)
    ingest.take("living", lines(renamed(living_story().events, "living")), 1)
    ingest.register("bobs", {}, 2, 3)
    story = Story()
    story.tell(NOW - 50, "flow-run", id="run-1", name="Happy_Cat", flow="zoo", tags=["x"])
    story.state("run-1", "COMPLETED", NOW - 20)
    ingest.take("bobs", lines(renamed(story.events, "bobs")), 2)
    survey = {"time": NOW, "scheduler": "slurm", "partitions": [], "error": None}
    ingest.hear(1, ["living", "bobs"], {"mock": survey}, NOW, 0.5)


def living_story() -> Story:
    """One task runs beyond its walltime, one waits for ever, one follows both."""
    story = Story()
    story.tell(NOW - 100, "flow-run", id="run-1", name="wild-owl", flow="cv", tags=["x", "y"])
    story.state("run-1", "RUNNING", NOW - 100)
    for at, id_ in enumerate(("a", "b")):
        story.task(id_, "train", wall=NOW - 90 + at, resources={"walltime": 60}, map_index=at)
    story.task("c", "score", wall=NOW - 88, upstream=["a", "b"])
    story.tell(NOW - 80, "job-intent", token="j", cluster="mock", scheduler="slurm",
               task_runs=["a", "b"], array="0-1", script="path")  # fmt: skip
    story.tell(NOW - 79, "job-submitted", token="j", job="500", seconds=1)
    story.tell(NOW - 70, "job-status", token="j", job="500_1", task_run="b", phase="queued",
               raw="PENDING", reason="DependencyNeverSatisfied", nodes="",
               partition="p")  # fmt: skip
    story.tell(NOW - 70, "job-status", token="j", job="500_0", task_run="a", phase="running",
               raw="RUNNING", reason="None", nodes="c7", partition="p")  # fmt: skip
    story.state("a", "RUNNING", NOW - 70, writer="j-0-0")
    for at in range(30):
        story.tell(NOW - 60 + at // 3, "log", level="INFO" if at % 10 else "ERROR",
                   message=f"Line {at} 100%", task_run="a", flow_run="run-1")  # fmt: skip
    return story


def ids(answer: dict[str, Any]) -> list[str]:
    json.dumps(answer, allow_nan=False)
    return [item["id"] for item in answer["items"]]
