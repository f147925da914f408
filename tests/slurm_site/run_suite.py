"""What `make test` and `make bench` do: run as a plain user, on a real Slurm where possible."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_site import control, install
from slurm_site.configuration import Layout
from slurm_site.lanes import Passing, begin, closing_line, two_at_once
from slurm_site.processes import as_init
from slurm_site.site import Site
from slurm_site.workplace import ROOT, Workplace, find_python, must, say, venv_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The newest Python that is supported; the oldest is Debian's own, which runs everything.
_NEWEST = "3.13"

#: What the newest Python runs: most of what needs no real Slurm and no other real service.
_NEWEST_TESTS = (
    *("-m", "not slurm and not services"),
    *("tests/unit", "tests/conformance", "tests/test_architecture.py"),
)

_DEBIAN_PYTHON = Path("/usr/bin/python3")


def run(what: str, arguments: Sequence[str]) -> int:
    """Run the tests or the bench; return the exit status.

    Args:
        what: `test` or `bench`.
        arguments: go to pytest, or to the bench.
    """
    if what == "test":
        _build_page()
    why_not = install.possible()
    if why_not:
        return _run_here(what, why_not, arguments)
    install.install()
    folder = Path(tempfile.mkdtemp(prefix="hpc-flows-test-", dir="/tmp"))
    try:
        return as_init(lambda: _run_at(folder, what, arguments))
    finally:
        _clear(folder)


def _build_page() -> None:
    """Build the server's page, unless it was built of the same sources; the plain user gets it."""
    program = ROOT / "hpc_flows" / "server" / "page" / "building.py"
    argv = [str(ROOT / ".venv" / "bin" / "python"), str(program)]
    if subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        say("the page could not be built, see above: tests that look at it cannot run")


def _run_here(what: str, why_not: str, arguments: Sequence[str]) -> int:
    """Run what needs no site, in the environment that make has made."""
    python = str(ROOT / ".venv" / "bin" / "python")
    say(f"{why_not}, so nothing is run against a real Slurm: tests marked `slurm` are skipped.")
    say(f"as root on Debian, `make {what}` installs Slurm, starts it, and ends it.")
    argv = _argv(what, python, arguments)
    if what == "bench" and shutil.which("sbatch") is None:
        argv.append("--no-slurm")
    return subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode


def _run_at(folder: Path, what: str, arguments: Sequence[str]) -> int:
    base = int(os.environ.get("HPC_FLOWS_TEST_PORT_BASE", "17200"))
    layout = Layout(folder / "slurm", port_base=base)
    site = Site(layout)
    folder.chmod(0o755)
    site.make_users()
    place = Workplace(folder / layout.user, layout.user)
    place.make()
    with ExitStack() as stack:
        making = _start_making(place, "venv", _DEBIAN_PYTHON)
        stack.callback(site.down)
        site.up()
        say(f"a real Slurm is up in {layout.folder}, ports from {base}")
        listens = stack.enter_context(control.serving(site))
        env = {
            "SLURM_CONF": str(layout.conf),
            "HPC_FLOWS_TEST_SLURM": str(layout.folder),
            "HPC_FLOWS_TEST_CONTROL": str(listens),
            "HPC_FLOWS_BENCH_HOME": _cache(layout.user),
        }
        if what == "test" and not arguments:
            return _run_lanes(place, making, env, stack)
        must(making, "making the environment", _log(place, "venv"))
        return place.start(_argv(what, _python(place, "venv"), arguments), env).wait()


def _run_lanes(
    place: Workplace, making: subprocess.Popen[bytes], env: dict[str, str], stack: ExitStack
) -> int:
    """Run everything in two lanes, on Debian's Python and in part on the newest."""
    newest = find_python(_NEWEST, place)
    name = f"venv-{_NEWEST}"
    newer = None if isinstance(newest, str) else _start_making(place, name, newest)
    must(making, "making the environment", _log(place, "venv"))
    debian = _python(place, "venv")
    services = ["nice", debian, "-m", "services"]
    place.start(services, {**env, "PYTHONPATH": "tests"}, _log(place, "services"))

    def start(title: str, python: str, *words: str) -> Callable[[], Passing]:
        def enter() -> Passing:
            passing = begin(place, title, _argv("test", python, words), env)
            stack.callback(passing.end)
            return passing

        return enter

    no_slurm = ("-m", "not slurm")
    starts = [
        start("all but units, without Slurm", debian, *no_slurm, "--ignore=tests/unit"),
        start("what needs Slurm", debian, "-m", "slurm"),
        start("units", debian, *no_slurm, "tests/unit"),
    ]
    if newer is None:
        say(f"not tested on Python {_NEWEST}: {newest}")
    else:
        must(newer, f"the environment for Python {_NEWEST}", _log(place, name))
        title = f"what needs no other program, on Python {_NEWEST}"
        starts.append(start(title, _python(place, name), *_NEWEST_TESTS))
    began = time.monotonic()
    return _conclude(two_at_once(starts), began)


def _conclude(passings: Sequence[Passing], began: float) -> int:
    """Tell how the passes ended; return the first bad status."""
    bad = [passing for passing in passings if passing.process.returncode != 0]
    for passing in bad:
        say(f"failed, see above: {passing.title}")
    say("all of them together:")
    sys.stdout.write(f"{closing_line(passings, time.monotonic() - began)}\n")
    return bad[0].process.returncode if bad else 0


def _python(place: Workplace, environment: str) -> str:
    return str(place.folder / environment / "bin" / "python")


def _argv(what: str, python: str, arguments: Sequence[str]) -> list[str]:
    module = {"test": "pytest", "bench": "tests.benchmarks"}[what]
    return [python, "-m", module, *arguments]


def _start_making(place: Workplace, name: str, python: Path) -> subprocess.Popen[bytes]:
    return place.start(venv_command(python, place.folder / name), log=_log(place, name))


def _log(place: Workplace, name: str) -> Path:
    return place.folder / f"{name}.log"


def _cache(user: str) -> str:
    """Return where the bench keeps its peers' environment from one run to the next."""
    return str(Path(pwd.getpwnam(user).pw_dir) / ".cache" / "hpc-flows-bench")


def _clear(folder: Path) -> None:
    """Take a run's folder away."""
    for mount in _mounts_below(folder):
        subprocess.run(["/bin/umount", "--lazy", mount], check=False)
    # Kept for who wants to look into a failure.
    if os.environ.get("HPC_FLOWS_TEST_KEEP"):
        say(f"kept {folder}")
    elif not _mounts_below(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _mounts_below(folder: Path) -> list[str]:
    places = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())
    return [place for place in places if place.startswith(f"{folder}/")]
