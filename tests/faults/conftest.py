"""What tests of faults share: signs of life of jobs, and the clusters that they run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from job_flights import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Laid over a shipped profile: waits that suit a machine with a local disk and a hurried tester.
QUICK = """
extends = "generic_slurm"
name = "{name}"
requeue = {requeue}
[poll]
first = 0.5
interval = 1.0
slowest = 2.0
history = 1.0
[grace]
file_system = 3.0
accounting = 8.0
lost = 12.0
"""


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[int], list[str]]:
    """Return a function that waits until so many jobs of `rest` have begun, and names them."""
    folder = tmp_path / "begun"

    def wait(count: int = 1) -> list[str]:
        def names() -> list[str]:
            return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []

        return list(wait_for(lambda: names() if len(names()) >= count else None))

    wait.folder = str(folder)  # type: ignore[attr-defined]
    return wait


@pytest.fixture
def quick_slurm(
    tmp_path: Path, slurm_site: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Return a function that makes a real Slurm, with short waits, the active cluster."""

    def activate(*, requeue: bool = True) -> str:
        path = tmp_path / "quick.toml"
        path.write_text(QUICK.format(name="quick", requeue=str(requeue).lower()))
        monkeypatch.setenv("HPC_FLOWS_CLUSTER", str(path))
        return "quick"

    return activate
