"""The packages that a real Slurm needs, from Debian's own archive."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_site.processes import SiteError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A program of each package, by which it is known to be there.
_PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurm-client": "sbatch",
    "slurmdbd": "slurmdbd",
    "mariadb-server": "mariadbd",
    "munge": "munged",
    "strace": "strace",
}

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_POLICY = Path("/usr/sbin/policy-rc.d")
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
    """Keep the packages from starting their daemons: the site has its own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
