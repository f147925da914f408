"""Fixtures over the real Slurm that `make test` started; a plugin of tests/conftest.py.

Tests that need it carry the mark `slurm`. Without the site they are skipped, with the reason; with
`CI=true` in the environment such a skip is a failure.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_site import stranger
from slurm_site.control import ask
from slurm_site.processes import SiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# Read at once: a fixture of tests/conftest.py clears HPC_FLOWS_* for each test.
_FOLDER = os.environ.get("HPC_FLOWS_TEST_SLURM", "")
_CONTROL = os.environ.get("HPC_FLOWS_TEST_CONTROL", "")
_IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

_WHY = (
    "no real Slurm here: `make test` as root on Debian starts one "
    "(docs/how-to/test-against-slurm.md)"
)


class SlurmSite:
    """The real Slurm of this test run, as its plain user sees and controls it.

    Attributes:
        folder: the site's folder; `folder / "log"` has the daemons' logs.
    """

    def __init__(self, folder: Path, control: str) -> None:
        self.folder = folder
        self._control = control
        self._touched = False

    def start(self, name: str) -> None:
        """Start `slurmctld`, `slurmdbd`, `munged`, `mariadb` or a node such as `c1`."""
        self._do("start", name)

    def stop(self, name: str) -> None:
        """End a daemon politely; jobs of a node that is stopped live on."""
        self._do("stop", name)

    def kill(self, name: str) -> None:
        """End a daemon with SIGKILL; a node's jobs die with it, as in a power cut."""
        self._do("kill", name)

    def pause(self, name: str) -> None:
        """Make a daemon hang."""
        self._do("pause", name)

    def resume(self, name: str) -> None:
        """Let a daemon that hangs go on."""
        self._do("resume", name)

    def status(self) -> dict[str, bool]:
        """Return which daemons live."""
        living: dict[str, bool] = self._ask("status")
        return living

    @contextmanager
    def small_disk(self, megabytes: int) -> Iterator[Path]:
        """Give a file system of so many megabytes (64 at most) while the block runs."""
        folder = str(self._ask("mount", str(megabytes)))
        try:
            yield Path(folder)
        finally:
            self._ask("unmount", folder)

    @contextmanager
    def beside(self, variant: str) -> Iterator[Path]:
        """Give a site that differs from the usual one while the block runs: its slurm.conf.

        Args:
            variant: one of `configuration.VARIANTS`.
        """
        conf = str(self._ask("open", variant))
        try:
            yield Path(conf)
        finally:
            self._ask("close", variant)

    def mend(self) -> None:
        """Start and wake whatever a test stopped."""
        if self._touched:
            self._ask("mend")
            self._touched = False

    def _do(self, what: str, name: str) -> None:
        self._touched = True
        self._ask(what, name)

    def _ask(self, what: str, name: str = "") -> object:
        if not self._control:
            raise SiteError(
                "this site has no control socket (HPC_FLOWS_TEST_CONTROL), so its daemons cannot "
                "be stopped; start one with `python -m slurm_site serve`"
            )
        return ask(self._control, what, name)


@pytest.fixture(scope="session")
def whole_slurm_site() -> SlurmSite:
    """Return the site; for fixtures that live as long as the run."""
    return SlurmSite(Path(_FOLDER), _CONTROL)


@pytest.fixture
def slurm_site(whole_slurm_site: SlurmSite) -> Iterator[SlurmSite]:
    """Give the real Slurm, and mend afterwards what the test stopped."""
    yield whole_slurm_site
    whole_slurm_site.mend()


@pytest.fixture
def as_another_user() -> Callable[[str], str]:
    """Return what tries a Unix socket as another user: `answered`, `dropped` or `refused`.

    It takes root: the tests' own, or that which brought the site up.
    """
    if os.geteuid() == 0:
        return stranger.reach
    if _CONTROL:
        return lambda path: str(ask(_CONTROL, "reach", path))
    if _IN_CI:
        pytest.fail("CI has nobody who could act as another user: HPC_FLOWS_TEST_CONTROL is unset")
    pytest.skip("only root can act as another user: `make test` as root on Debian")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a site, or a site with a control socket, where there is none."""
    if _FOLDER:
        return
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.skip(reason=_WHY))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, make a failure of a test against real Slurm that did not run."""
    report = yield
    if _IN_CI and report.skipped and item.get_closest_marker("slurm"):
        report.outcome = "failed"
        report.longrepr = f"CI is set, and a test against real Slurm was skipped: {report.longrepr}"
    return report
