"""The packages that a real Slurm and the real services need, from Debian's own archive."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_site.processes import SiteError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A program of each package, by which it is known to be there: a name, or a pattern of a path.
_PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurm-client": "sbatch",
    "slurmdbd": "slurmdbd",
    "mariadb-server": "mariadbd",
    "munge": "munged",
    "strace": "strace",
    "openssh-server": "sshd",
    "openssh-client": "ssh",
    "postgresql": "/usr/lib/postgresql/*/bin/initdb",
    "chromium": "chromium",
}

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_POLICY = Path("/usr/sbin/policy-rc.d")
_CLUSTERS = Path("/etc/postgresql-common/createcluster.d/hpc-flows-tests.conf")
_PYTHON = "/usr/bin/python3"


def possible() -> str | None:
    """Return why the packages cannot be installed here; None when they can."""
    if os.geteuid() != 0:
        return "it takes root to install and start Slurm"
    if shutil.which("apt-get", path=_PATH) is None:
        return "this is not a Debian (no apt-get)"
    return None


def install() -> None:
    """Install what is missing.

    Raises:
        SiteError: apt-get could not.
    """
    missing = [package for package, program in _PROGRAMS.items() if not _there(program)]
    if not _has_venv():
        missing.append("python3-venv")
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)  # noqa: T201 - it takes a while
    with _no_services():
        if _apt("install", *missing) != 0:
            _apt("update")
            if _apt("install", *missing) != 0:
                raise SiteError(f"apt-get install {' '.join(missing)} failed; see above")


def _there(program: str) -> bool:
    if program.startswith("/"):
        return any(Path("/").glob(program[1:]))
    return shutil.which(program, path=_PATH) is not None


def _has_venv() -> bool:
    probe = [_PYTHON, "-c", "import venv, ensurepip"]
    there = Path(_PYTHON).exists()
    return there and subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _apt(*words: str) -> int:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": _PATH}
    argv = ["apt-get", "-q", "-y", "--no-install-recommends", *words]
    return subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, check=False).returncode


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep the packages from starting daemons and making databases: the tests have their own."""
    with ExitStack() as stack:
        stack.enter_context(_held(_POLICY, "#!/bin/sh\nexit 101\n"))
        stack.enter_context(_held(_CLUSTERS, "create_main_cluster = false\n"))
        yield


@contextmanager
def _held(file: Path, text: str) -> Iterator[None]:
    """Have a file there while the block runs, unless it is there anyway."""
    if file.exists():
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    try:
        yield
    finally:
        file.unlink()
