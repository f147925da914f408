"""What tests of faults share: signs of life of jobs, and the clusters that they run on."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from job_flights import wait_for
from relay_doubles import FakeServer, Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slurm_site.fixtures import SlurmSite

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
accounting = {accounting}
lost = 12.0
"""


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """Give a server of our own, to which relays report."""
    server = FakeServer().start()
    yield server
    server.stop()


@pytest.fixture
def journal(home: Path) -> Iterator[Journal]:
    """Give a run with journals that the test writes."""
    made = Journal(home)
    yield made
    made.close()


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[int], list[str]]:
    """Return a function that waits until so many jobs of `rest` have begun, and names them."""
    folder = tmp_path / "begun"

    def wait(count: int = 1, seconds: float = 150.0) -> list[str]:
        def names() -> list[str]:
            return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []

        return list(wait_for(lambda: names() if len(names()) >= count else None, seconds))

    wait.folder = str(folder)  # type: ignore[attr-defined]
    return wait


@pytest.fixture
def quick_slurm(
    tmp_path: Path, slurm_site: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Return a function that makes a real Slurm, with short waits, the active cluster."""

    def activate(*, requeue: bool = True, accounting: float = 8.0) -> str:
        path = tmp_path / "quick.toml"
        words = {"name": "quick", "requeue": str(requeue).lower(), "accounting": accounting}
        path.write_text(QUICK.format(**words))
        monkeypatch.setenv("HPC_FLOWS_CLUSTER", str(path))
        return "quick"

    return activate


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 2 MB: from the Slurm site's root daemon, or made by root itself."""
    from slurm_site import fixtures

    if fixtures._CONTROL:
        site: SlurmSite = request.getfixturevalue("whole_slurm_site")
        with site.small_disk(2) as folder:
            yield folder
        return
    folder = tmp_path / "small"
    folder.mkdir()
    command = [
        shutil.which("mount") or "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=2m",
        "tmpfs",
        str(folder),
    ]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([shutil.which("umount") or "umount", "--lazy", str(folder)], check=True)
