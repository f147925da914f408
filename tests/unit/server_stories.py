"""Stories of runs for the tests of the server: everything that can be told is told in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from test_replay import Story, cluster_story

from hpc_flows.journal.event import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

ARTIFACT = "0f6a0a35-31e5-4d3e-9d3a-b0f1e2c3d4e5"


def long_story() -> Story:
    """Return the story of two tasks on a cluster, and more: all kinds of events are in it."""
    story = cluster_story()
    story.tell(11.5, "flow-run", id="sub", name="calm-owl", flow="inner", parameters={},
               parent_flow_run="run-1", parent_task_run="t0", tags=["a", "b"])  # fmt: skip
    story.state("t2", "RUNNING", 12.5, writer="tok2-0-0", details={"node": "c9", "job": "91"})
    story.task("t2", "score", wall=12, upstream=["t0", "t1", "t3"], flow_run="sub", tags=["x"])
    story.task("t3", "train", wall=12.1, upstream=["t9"])
    story.tell(12.2, "job-cancel", jobs=["77_1", "91"], reason="asked to")
    story.tell(12.3, "job-intent", token="tok2", cluster="other", scheduler="slurm",
               task_runs=["t2", "t1"], array=None, script="#!/bin/sh", resources=None)  # fmt: skip
    story.tell(12.4, "job-submitted", token="tok2", job="91", seconds=0.2)
    story.tell(12.5, "job-status", token="tok2", job="91", task_run="t2", phase="queued",
               raw="PENDING", reason="Resources", nodes="", partition="p")  # fmt: skip
    story.tell(12.6, "job-status", token="tok2", job="91", task_run="t2", phase="running",
               raw="RUNNING", reason="None", nodes="c9", partition="p")  # fmt: skip
    story.tell(12.7, "job-refused", token="tok3", message="no such account")
    story.tell(13, "artifact", id=ARTIFACT, type="progress", key="p", data=10.0, created=13.0,
               updated=13.0, flow_run="run-1", tags=["x"])  # fmt: skip
    for wall in (14.0, 15.0):
        story.tell(wall, "artifact", id=ARTIFACT, type="progress", key="p", data=wall * 2,
                   update=True, created=13.0, updated=wall)  # fmt: skip
    story.tell(15.5, "log", level="WARNING", message="two\0lost", logger="x", dropped=2)
    story.tell(15.6, "log", writer="tok2-0-0", level="ERROR", message="ärger", task_run="t2")
    story.tell(15.7, "event", id="e-1", name="model.trained",
               occurred="2026-01-02T03:04:05+01:00", resource={"prefect.resource.id": "model.7"},
               related=[], payload={"a": "\0"})  # fmt: skip
    story.tell(15.8, "variable", action="set", name="x")
    story.tell(15.9, "of-a-newer-version", what="ever")
    story.state("t3", "COMPLETED", 16.0)
    story.state("t3", "COMPLETED", 17.0, "RolledBack")
    story.state("sub", "COMPLETED", 16.5)
    story.events[-1].data["subject"] = "flow"
    return story


def renamed(events: Iterable[Event], run: str) -> list[Event]:
    """Return the same events in a run of another name."""
    return [
        Event(
            *(run, event.writer, event.seq, event.wall, event.mono, event.kind),
            json.loads(json.dumps(event.data).replace('"run-1"', json.dumps(run))),
        )
        for event in events
    ]
