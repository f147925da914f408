"""Contests that need no batch system: imports, the hello flow, calls, submits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measure import (
    Budget,
    Command,
    Contest,
    Sample,
    file_calls,
    printed,
    told,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROGRAMS = Path(__file__).parent / "programs"

IMPORTS = {
    "python": "pass",
    "hpc_flows": "from hpc_flows import flow, task, Resources",
    "hpc_flows, job side": "import hpc_flows.jobs.inside",
    "Prefect": "from prefect import flow, task",
    "submitit": "import submitit",
}

#: How often a task is called or submitted; Prefect needs 7 to 57 ms for each.
MANY = 1000


@dataclass(frozen=True)
class Sides:
    """Who takes part, and with what environment.

    Attributes:
        ours, peers: the Python of each environment.
        env: environment variables of ours, with an HPC_FLOWS_HOME that is empty at first.
        prefect: those of a Prefect client with a server.
        prefect_alone: those of a Prefect user who has started no server.
    """

    ours: str
    peers: str
    env: Mapping[str, str]
    prefect: Mapping[str, str]
    prefect_alone: Mapping[str, str]


def contests(sides: Sides, rounds: int) -> list[Contest]:
    """Return the contests in the order in which they are held."""
    return [
        _imports(sides, rounds),
        _hello(sides, rounds),
        _calls(sides, rounds),
        _submits(sides, rounds),
        _element(sides, rounds),
    ]


def _imports(sides: Sides, rounds: int) -> Contest:
    def importer(side: str) -> Callable[[], Sample]:
        python = sides.ours if side.startswith(("hpc_flows", "python")) else sides.peers
        command = Command((python, "-c", IMPORTS[side]), sides.env)
        counted: Sample = {}

        def run() -> Sample:
            if not counted:  # the number does not vary; compiled modules are there from now on
                whole(command)
                counted.update(file_calls(command))
            return whole(command) | counted

        return run

    return Contest(
        "import",
        {side: importer(side) for side in IMPORTS},
        (
            Budget("calls", 1200, "at most 1,200 file-system calls"),
            Budget("cpu", 100, "at most 100 ms CPU", scale=1000),
            Budget("calls", 0.1, "file-system calls: Prefect / 10", against="Prefect"),
            Budget("cpu", 0.1, "CPU: Prefect / 10", against="Prefect"),
        ),
        rounds=2 * rounds + 1,
        shown=(("wall", "s"), ("cpu", "s"), ("calls", "calls")),
    )


def _hello(sides: Sides, rounds: int) -> Contest:
    program = str(PROGRAMS / "hello.py")
    ours = Command((sides.ours, program, "hpc_flows"), sides.env)
    prefect = Command((sides.peers, program, "prefect"), sides.prefect)
    alone = Command((sides.peers, program, "prefect"), sides.prefect_alone)
    bare = Command((sides.ours, "-c", "print('Hello, world!')"), sides.env)
    return Contest(
        "hello flow, whole process",
        {
            "python": lambda: whole(bare),
            "hpc_flows": lambda: whole(ours),
            "Prefect": lambda: whole(prefect),
            "Prefect, no server started": lambda: whole(alone),
        },
        (
            Budget("wall", 0.25, "at most 0.25 s"),
            Budget("wall", 0.1, "Prefect / 10", against="Prefect"),
        ),
        rounds=rounds,
        shown=(("wall", "s"), ("cpu", "s")),
    )


def _calls(sides: Sides, rounds: int) -> Contest:
    program = str(PROGRAMS / "calls.py")
    ours = Command((sides.ours, program, "hpc_flows", str(MANY)), sides.env)
    prefect = Command((sides.peers, program, "prefect", str(MANY)), sides.prefect)
    return Contest(
        f"{MANY:,} sequential no-op calls, each",
        {"hpc_flows": lambda: told(ours), "Prefect": lambda: told(prefect)},
        (
            Budget("call", 60, "at most 60 µs a call", scale=1e6),
            Budget("stored", 100, "at most 100 µs until the journal is on disk", scale=1e6),
            Budget("call", 0.01, "Prefect / 100", against="Prefect"),
        ),
        rounds=rounds,
        shown=(("call", "s"), ("stored", "s")),
    )


def _submits(sides: Sides, rounds: int) -> Contest:
    program = str(PROGRAMS / "submits.py")
    ours = Command((sides.ours, program, "hpc_flows", str(MANY)), sides.env)
    futures = Command((sides.ours, program, "futures", str(MANY)), sides.env)
    prefect = Command((sides.peers, program, "prefect", str(MANY)), sides.prefect)
    return Contest(
        f"{MANY:,} no-op submits on threads, each",
        {
            "concurrent.futures": lambda: told(futures),
            "hpc_flows": lambda: told(ours),
            "Prefect": lambda: told(prefect),
        },
        (Budget("task", 100, "at most 100 µs a task (10,000 tasks/s)", scale=1e6),),
        rounds=rounds,
        shown=(("task", "s"),),
    )


def _element(sides: Sides, rounds: int) -> Contest:
    """What runs on a node for one no-op element, without the batch system around it."""
    bare = Command((sides.ours, "-c", "pass"), sides.env)
    commands: dict[str, Command] = {}

    def run(program: str) -> Sample:
        if program not in commands:
            commands[program] = _prepared(sides, program)
        # An element that has left its outcome would find nothing to do.
        for mark in Path(commands[program].argv[2], "journal").glob("*.ended"):
            mark.unlink()
        return whole(commands[program])

    return Contest(
        "one element of an array, its process",
        {
            "python": lambda: whole(bare),
            "hpc_flows": lambda: run("element.py"),
            "hpc_flows, task in __main__": lambda: run("element_in_main.py"),
        },
        rounds=5 * rounds,
        shown=(("wall", "s"), ("cpu", "s")),
    )


def _prepared(sides: Sides, program: str) -> Command:
    """Map a task on the mock cluster; return the command that runs its first element again."""
    home = Path(sides.env["HPC_FLOWS_HOME"] + f"-{program.removesuffix('.py')}")
    env = {**sides.env, "HPC_FLOWS_HOME": str(home), "HPC_FLOWS_CLUSTER": "mock"}
    try:
        whole(Command((sides.ours, str(PROGRAMS / program)), env))
    finally:
        whole(Command((sides.ours, "-m", "hpc_flows", "mock", "stop"), env))
    job = next((home / "runs").glob("*/jobs/*"))
    where = Command(
        (sides.ours, "-c", "import hpc_flows.jobs as jobs; print(jobs.__path__[0])"), env
    )
    entry = str(Path(printed(where)) / "run.py")
    return Command((sides.ours, entry, str(job.parent.parent), job.name, "0", "--retake"), env)
