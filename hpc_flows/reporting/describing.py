"""What a run's `run.json` says, for sinks that are told of the run."""

from __future__ import annotations

import os
from json import loads

from hpc_flows.reporting.sink import RunAbout


def describe(id_: str, folder: str) -> RunAbout:
    """Return what is known of a run; no facts while its `run.json` is being made, or is damaged."""
    try:
        with open(os.path.join(folder, "run.json"), "rb") as file:
            found = loads(file.read())
    except (OSError, ValueError, RecursionError):
        found = {}
    return RunAbout(id_, folder, found if isinstance(found, dict) else {})
