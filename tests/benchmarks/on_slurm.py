"""Contests on a real Slurm: the array of 1,000 no-op tasks, and 200 no-op jobs.

They run where `sbatch` is found, as the user who starts the bench; on a site of the project's own
that is what `make bench` arranges. The sides submit the same thing: one CPU, 100 MB, ten minutes,
no partition named (or that of HPC_FLOWS_BENCH_PARTITION).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.in_process import PROGRAMS, Sides
from tests.benchmarks.measure import BenchError, Budget, Command, Contest, Sample, told

if TYPE_CHECKING:
    from collections.abc import Callable

ELEMENTS = 1000
JOBS = 200

COMMANDS = (
    "sbatch",
    "squeue",
    "sacct",
    "scancel",
    "scontrol",
    "sinfo",
    "srun",
    "sstat",
    "sacctmgr",
)

#: Profiles of the bench's own.
CLUSTERS = Path(__file__).parent / "clusters"

SHOWN = (("wall", "s"), ("submitted", "s"), ("commands", "n"), ("commands_in_jobs", "n"))


def contests(sides: Sides, rounds: int, folder: Path) -> list[Contest]:
    """Return the contests, or raise where there is no Slurm or the user is root."""
    if shutil.which("sbatch") is None:
        msg = (
            "sbatch is not on PATH: start a site with `make bench`, or leave Slurm out (--no-slurm)"
        )
        raise BenchError(msg)
    if os.getuid() == 0:
        msg = "jobs are submitted by a plain user: run the bench as one, or with --no-slurm"
        raise BenchError(msg)
    counter = CommandCounter(folder)
    return [_array(sides, rounds, folder, counter), _jobs(sides, rounds, folder, counter)]


class CommandCounter:
    """Puts commands of the same names first on PATH that note each call and then do it.

    Calls from inside jobs (submitit's `srun`) are counted apart from those of the driver.
    """

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "counted"
        self._log = folder / "commands"
        self._bin.mkdir()
        self._log.touch()
        for name in COMMANDS:
            real = shutil.which(name)
            if real is not None:
                self._wrap(name, real)

    def _wrap(self, name: str, real: str) -> None:
        script = self._bin / name
        script.write_text(
            "#!/bin/sh\n"
            f"echo {name}${{SLURM_JOB_ID:+-in-job}} >>'{self._log}'\n"
            f'exec {real} "$@"\n'
        )
        script.chmod(0o755)

    def run(self, command: Command) -> Sample:
        """Run a program that tells its figures, and add how many commands it took."""
        before = len(self._lines())
        path = f"{self._bin}:{command.env.get('PATH', os.defpath)}"
        figures = told(Command(command.argv, {**command.env, "PATH": path}, command.cwd))
        seen = self._lines()[before:]
        inside = sum(line.endswith("-in-job") for line in seen)
        return figures | {"commands": float(len(seen) - inside), "commands_in_jobs": float(inside)}

    def _lines(self) -> list[str]:
        return self._log.read_text().splitlines()


def _side(
    python: str, sides: Sides, program: str, tail: tuple[str, ...], counter: CommandCounter
) -> Callable[[], Sample]:
    partition = os.environ.get("HPC_FLOWS_BENCH_PARTITION")
    argv = (python, str(PROGRAMS / program), *tail, *([partition] if partition else []))
    env = {**sides.env, "HPC_FLOWS_CLUSTER": "bench", "HPC_FLOWS_CLUSTER_PATH": str(CLUSTERS)}
    command = Command(argv, env)
    return lambda: counter.run(command)


def _array(sides: Sides, rounds: int, folder: Path, counter: CommandCounter) -> Contest:
    count = str(ELEMENTS)
    hand, submitit = str(folder / "hand"), str(folder / "submitit")
    return Contest(
        f"{ELEMENTS:,} no-op tasks as one array on Slurm",
        {
            "by hand": _side(
                sides.ours, sides, "slurm_by_hand.py", (hand, "array", count), counter
            ),
            "hpc_flows": _side(sides.ours, sides, "slurm_ours.py", ("array", count), counter),
            "submitit": _side(
                sides.peers, sides, "slurm_submitit.py", (submitit, "array", count), counter
            ),
        },
        (
            Budget("wall", 1.4, "at most 1.4 x `python -c pass` by hand", against="by hand"),
            Budget("wall", 0.6, "at most 0.6 x submitit's map_array", against="submitit"),
            Budget("commands", 10, "at most 10 scheduler commands"),
        ),
        rounds=rounds,
        shown=SHOWN,
    )


def _jobs(sides: Sides, rounds: int, folder: Path, counter: CommandCounter) -> Contest:
    count = str(JOBS)
    hand, submitit = str(folder / "hand"), str(folder / "submitit-jobs")
    return Contest(
        f"{JOBS:,} no-op jobs on Slurm (submitit sends at most 5 a second)",
        {
            "by hand": _side(sides.ours, sides, "slurm_by_hand.py", (hand, "jobs", count), counter),
            "hpc_flows": _side(sides.ours, sides, "slurm_ours.py", ("jobs", count), counter),
            "submitit": _side(
                sides.peers, sides, "slurm_submitit.py", (submitit, "jobs", count), counter
            ),
        },
        rounds=rounds,
        shown=SHOWN,
    )
