"""The schedulers that the conformance suite runs on: the mock cluster, and real Slurm."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpc_flows.resources import Resources
from hpc_flows.schedulers.base import JobSpec, JobStatus, Phase
from hpc_flows.schedulers.slurm import Slurm
from hpc_flows.transports.local import LocalTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.schedulers.base import Scheduler

#: Seconds that any of these short jobs may take on a busy machine; walltime has its own.
_PATIENCE = 150.0

_PARAMS = [
    "mock",
    "mock-slurmdbd-down",
    pytest.param("slurm", marks=pytest.mark.slurm),
    pytest.param("slurm-slurmdbd-down", marks=pytest.mark.slurm),
]


class Bench:
    """A scheduler to try, and a folder that its nodes can see.

    Attributes:
        name: which it is.
        scheduler: the adapter.
        folder: for scripts and outputs.
        accounting: whether it has a history.
        minute: seconds that a minute of walltime lasts (the mock's clock may run faster).
    """

    def __init__(self, name: str, scheduler: Scheduler, folder: Path, minute: float) -> None:
        self.name = name
        self.scheduler = scheduler
        self.folder = folder
        self.minute = minute
        self.accounting = not name.endswith("slurmdbd-down")
        self._count = itertools.count(1)
        self._submitted: list[str] = []

    def token(self) -> str:
        """Return a name that no other job has."""
        return f"hf-conf-{os.getpid()}-{time.time_ns():x}-{next(self._count)}"

    def spec(self, token: str, resources: Resources | None = None, **fields: object) -> JobSpec:
        """Return a spec of a small job."""
        usual = {"output": str(self.folder / f"{token}.out"), "workdir": str(self.folder)}
        wanted = Resources(memory="100M", walltime="1h").merged(resources)
        return JobSpec(token=token, resources=wanted, **{**usual, **fields})  # type: ignore[arg-type]

    def submit(
        self,
        body: str,
        resources: Resources | None = None,
        *,
        token: str | None = None,
        **fields: object,
    ) -> str:
        """Submit a script of a few shell lines; return its id."""
        return self.submit_spec(self.spec(token or self.token(), resources, **fields), body)

    def submit_spec(self, spec: JobSpec, body: str) -> str:
        """Submit a spec's directives with a body; return the id."""
        job = self.submit_kept(spec, body)
        self._submitted.append(job)
        return job

    def submit_kept(self, spec: JobSpec, body: str) -> str:
        """Submit a job that outlives the test."""
        header = "\n".join(self.scheduler.directives(spec))
        script = self.folder / f"{spec.token}.sh"
        script.write_text(f"#!/bin/sh\n{header}\n{body}\n")
        return self.scheduler.submit(spec, str(script))

    def output(self, token: str) -> str:
        """Return what a job printed."""
        return (self.folder / f"{token}.out").read_text()

    def watch(
        self,
        job: str,
        done: Callable[[dict[str, JobStatus]], bool],
        seconds: float = _PATIENCE,
    ) -> dict[str, JobStatus]:
        """Poll until an answer is as wished; fail with the last answer otherwise."""
        return self._until(lambda: self.scheduler.poll([job]), done, seconds)

    def recorded(
        self, job: str, done: Callable[[dict[str, JobStatus]], bool]
    ) -> dict[str, JobStatus]:
        """Ask for the history until it is as wished."""
        return self._until(lambda: self.scheduler.history([job]), done, _PATIENCE)

    def end(self, job: str) -> JobStatus:
        """Wait for a plain job's or an element's end; return its status."""
        return self.watch(job, lambda found: _ended(found.get(job)))[job]

    def clear(self) -> None:
        """Cancel what a test left."""
        if self._submitted:
            self.scheduler.cancel(self._submitted)
            self._submitted.clear()

    @staticmethod
    def _until(
        ask: Callable[[], dict[str, JobStatus]],
        done: Callable[[dict[str, JobStatus]], bool],
        seconds: float,
    ) -> dict[str, JobStatus]:
        deadline = time.monotonic() + seconds
        while True:
            found = ask()
            if done(found):
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"not so within {seconds:g} s: {found}")
            time.sleep(0.2)


def _ended(status: JobStatus | None) -> bool:
    return status is not None and status.phase is Phase.ENDED


@pytest.fixture(scope="module", params=_PARAMS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """Give each scheduler in turn."""
    folder = tmp_path_factory.mktemp("conformance")
    if request.param.startswith("mock"):
        yield from _on_the_mock(request.param, folder)
    else:
        yield from _on_slurm(request, folder)


def _on_the_mock(name: str, folder: Path) -> Iterator[Bench]:
    # A short home: the path of a Unix socket may not be long.
    home = Path(tempfile.mkdtemp(prefix="hf-mock-", dir="/tmp"))
    mock = [sys.executable, "-m", "hpc_flows.mock_cluster"]
    start = [*mock, "start", "--home", str(home), "--set", "minute=4", "--set", "limit_grain=0.5"]
    subprocess.run(start, check=True, timeout=_PATIENCE)
    try:
        if name.endswith("slurmdbd-down"):
            fault = [*mock, "faults", "--home", str(home), "add", "slurmdbd_down", "times=0"]
            subprocess.run(fault, check=True, timeout=_PATIENCE)
        path = str(home / "mock" / "mock" / "bin")
        yield Bench(name, Slurm(LocalTransport(), path=[path]), folder, 4.0)
    finally:
        subprocess.run([*mock, "stop", "--home", str(home)], check=True, timeout=_PATIENCE)
        shutil.rmtree(home)


def _on_slurm(request: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
    name = request.param
    real = request.getfixturevalue("whole_slurm_site")
    if name.endswith("slurmdbd-down"):
        real.stop("slurmdbd")
    try:
        yield Bench(name, Slurm(LocalTransport()), folder, 60.0)
    finally:
        if name.endswith("slurmdbd-down"):
            real.start("slurmdbd")


@pytest.fixture
def bench(site: Bench) -> Iterator[Bench]:
    """Give a scheduler, and cancel what the test left there."""
    yield site
    site.clear()
