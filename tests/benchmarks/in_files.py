"""Contests of files: results in HDF5 beside h5py by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measure import Budget, Command, Contest, told

if TYPE_CHECKING:
    from tests.benchmarks.in_process import Sides

PROGRAM = str(Path(__file__).parent / "programs" / "hdf5_files.py")

KINDS = {"array": "an array", "dict": "a dict of arrays", "table": "a table of pandas"}

#: The design's size, in MB.
SIZE = 1000


def contests(sides: Sides, rounds: int, folder: Path, size: int = SIZE) -> list[Contest]:
    """Return one contest for each kind of value; `folder` is where the files are written."""
    return [_contest(sides, rounds, folder, kind, size) for kind in KINDS]


def _contest(sides: Sides, rounds: int, folder: Path, kind: str, size: int) -> Contest:
    def side(name: str) -> Command:
        return Command((sides.ours, PROGRAM, name, kind, str(size), str(folder)), sides.env)

    return Contest(
        f"HDF5: {KINDS[kind]} of {size:,} MB",
        {"h5py": partial(told, side("h5py")), "hpc_flows": partial(told, side("hpc_flows"))},
        tuple(
            Budget(figure, 1.25, f"{figure}: at least 0.8 x bare h5py", against="h5py")
            for figure in ("write", "stored", "read")
        ),
        rounds=rounds,
        shown=(("write", "s"), ("stored", "s"), ("read", "s")),
    )
