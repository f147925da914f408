"""Run commands side by side and keep the medians.

All sides of a contest take turns in one run, so that what the machine does meanwhile hits them
alike. What is compared are ratios; seconds are printed because people want to see them.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: One run of one side: figures by name, such as `wall` (seconds) or `calls`.
Sample = dict[str, float]

#: Calls that ask the file system about a name; on a cluster each is a message to a server.
FILE_CALLS = (
    "open,openat,stat,lstat,newfstatat,statx,access,faccessat,faccessat2,"
    "readlink,readlinkat,getdents64"
)


class BenchError(Exception):
    """A side of a contest did not run."""


@dataclass(frozen=True)
class Command:
    """A command of a side.

    Attributes:
        argv: what to run.
        env: its whole environment.
        cwd: where it runs.
        timeout: seconds until it is given up.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str = "/"
    timeout: float = 900.0


@dataclass(frozen=True)
class Budget:
    """A promise about one figure of hpc_flows, alone or divided by another side's.

    Attributes:
        figure: name of the figure.
        limit: the most that it may be.
        against: the side whose same figure divides ours; None for the figure itself.
        text: the promise in words.
        scale: what the figure is multiplied by before it is compared, for rates and units.
        other: name of the figure of `against`, when it is another one.
    """

    figure: str
    limit: float
    text: str
    against: str | None = None
    scale: float = 1.0
    other: str | None = None


@dataclass(frozen=True)
class Contest:
    """Something that several sides can do.

    Attributes:
        name: what is done.
        sides: name of each side and the function that lets it run once.
        budgets: what is promised about the side `hpc_flows`.
        rounds: how often each side runs; the figures are medians.
        shown: figures to print, with their units.
    """

    name: str
    sides: Mapping[str, Callable[[], Sample]]
    budgets: Sequence[Budget] = ()
    rounds: int = 5
    shown: Sequence[tuple[str, str]] = (("wall", "s"),)


@dataclass
class Outcome:
    """What a contest gave: medians by side and figure, every sample, and the budgets' verdicts."""

    contest: Contest
    medians: dict[str, Sample]
    samples: dict[str, list[Sample]]
    verdicts: list[Verdict] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A budget and what was measured; `kept` is None where it could not be measured."""

    budget: Budget
    value: float | None
    kept: bool | None


def hold(contest: Contest, say: Callable[[str], None]) -> Outcome:
    """Let all sides of a contest take turns and return the medians."""
    samples: dict[str, list[Sample]] = {side: [] for side in contest.sides}
    failures: dict[str, str] = {}
    for turn in range(contest.rounds):
        for side, run in contest.sides.items():
            if side in failures:
                continue
            say(f"{contest.name}: {side} ({turn + 1}/{contest.rounds})")
            try:
                samples[side].append(run())
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                failures[side] = str(error)
                say(f"{contest.name}: {side} did not run: {error}")
    medians = {side: median(taken) for side, taken in samples.items() if taken}
    outcome = Outcome(contest, medians, samples, failures=failures)
    outcome.verdicts = [judge(budget, medians) for budget in contest.budgets]
    return outcome


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of every figure that all samples have."""
    names = set.intersection(*(set(sample) for sample in samples))
    return {name: statistics.median([sample[name] for sample in samples]) for name in sorted(names)}


def judge(budget: Budget, medians: Mapping[str, Sample]) -> Verdict:
    """Compare a budget with the medians."""
    value = medians.get("hpc_flows", {}).get(budget.figure)
    if value is not None and budget.against is not None:
        other = medians.get(budget.against, {}).get(budget.other or budget.figure)
        value = value / other if other else None
    if value is None:
        return Verdict(budget, None, None)
    value *= budget.scale
    return Verdict(budget, value, value <= budget.limit)


def whole(command: Command) -> Sample:
    """Run a command; return its `wall` and `cpu` seconds, children included."""
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        child = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=dict(command.env),
            cwd=command.cwd,
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise BenchError(_complaint(command, child.returncode, errors))
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}


def _complaint(command: Command, code: int, errors: object) -> str:
    errors.seek(0)  # type: ignore[attr-defined]
    tail = errors.read().decode(errors="replace").strip().splitlines()[-8:]  # type: ignore[attr-defined]
    return f"{' '.join(command.argv)} ended with {code}:\n  " + "\n  ".join(tail)


def told(command: Command) -> Sample:
    """Run a program that prints its own figures as a JSON object in its last line."""
    figures: Sample = json.loads(printed(command))
    return figures


def printed(command: Command) -> str:
    """Run a command and return the last line that it printed."""
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(command.env),
            cwd=command.cwd,
            timeout=command.timeout,
            check=False,
        )
        if done.returncode:
            raise BenchError(_complaint(command, done.returncode, errors))
    return done.stdout.decode().strip().splitlines()[-1]


def file_calls(command: Command) -> Sample:
    """Run a command under strace; return how many `calls` asked the file system about a name."""
    strace = shutil.which("strace")
    if strace is None:
        msg = "strace is not installed: file-system calls are not counted"
        raise BenchError(msg)
    with tempfile.NamedTemporaryFile() as log:
        argv = (strace, "-f", "-qq", "-e", f"trace={FILE_CALLS}", "-o", log.name, *command.argv)
        whole(Command(argv, command.env, command.cwd, command.timeout))
        return {"calls": float(len(log.read().splitlines()))}
