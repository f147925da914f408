"""Clusters whose commands are counted."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo")


@pytest.fixture
def counted(tmp_path: Path) -> Callable[[str], Any]:
    """Return a function that puts counting commands before those of a folder.

    It returns the folder to put on PATH, and a function that returns how often each was called.
    """

    def wrap(real: str) -> tuple[str, Callable[[], Counter[str]]]:
        folder, log = tmp_path / "counting", tmp_path / "commands.log"
        folder.mkdir()
        log.touch()
        for name in COMMANDS:
            path = folder / name
            path.write_text(f'#!/bin/sh\necho {name} >> {log}\nexec {real}/{name} "$@"\n')
            path.chmod(0o755)
        return str(folder), lambda: Counter(log.read_text().split())

    return wrap


def folder_of(command: str) -> str:
    """Return the folder that holds a command."""
    found = shutil.which(command)
    assert found is not None
    return found.rpartition("/")[0]
