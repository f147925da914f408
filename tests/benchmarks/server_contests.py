"""Contests of servers: how quickly they take what runs report, and how quickly they answer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measure import Budget, Command, Contest, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.in_process import Sides

TESTS = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).parent / "programs"

#: Events that our server is sent, task runs that it has stored, and task runs that Prefect's
#: server is sent, which takes about a hundred events a second.
EVENTS, STORED, PREFECTS = 100_000, 1_000_000, 300

ON_POSTGRESQL = "hpc_flows on PostgreSQL"


def contests(sides: Sides, rounds: int) -> list[Contest]:
    """Return the contests of servers."""
    return [_ingest(sides, rounds), _queries(sides)]


def _ours(sides: Sides, program: str, *words: str) -> Command:
    # The program starts PostgreSQL as the tests do, whose folder is on the path of theirs.
    env = {**sides.env, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    return Command((sides.ours, str(PROGRAMS / program), *words), env)


def _prefect(sides: Sides) -> Command:
    program = str(PROGRAMS / "prefect_ingest.py")
    return Command((sides.ours, program, str(PREFECTS)), sides.prefect)


def _ingest(sides: Sides, rounds: int) -> Contest:
    events = str(EVENTS)
    return Contest(
        "server: events over HTTP, recorded",
        {
            "hpc_flows": partial(told, _ours(sides, "server_ingest.py", "sqlite", events)),
            ON_POSTGRESQL: partial(told, _ours(sides, "server_ingest.py", "postgresql", events)),
            "Prefect": partial(told, _prefect(sides)),
        },
        (
            Budget("per_event", 100.0, "an event in at most 100 µs (10,000/s), in µs", scale=1e6),
            Budget("per_event", 0.02, "Prefect ÷ 50", against="Prefect"),
        ),
        rounds=rounds,
        shown=(("per_event", "s"), ("rate", "n")),
    )


def _queries(sides: Sides) -> Contest:
    stored: Sequence[str] = (str(STORED),)
    return Contest(
        f"server: lists and details of {STORED:,} task runs (Prefect: {PREFECTS})",
        {
            "hpc_flows": partial(told, _ours(sides, "server_queries.py", "sqlite", *stored)),
            ON_POSTGRESQL: partial(told, _ours(sides, "server_queries.py", "postgresql", *stored)),
            "Prefect": partial(told, _prefect(sides)),
        },
        (Budget("p95", 100.0, "95 of 100 within 100 ms, in ms", scale=1e3),),
        rounds=1,
        shown=(("p50", "s"), ("p95", "s"), ("timeline", "s")),
    )
