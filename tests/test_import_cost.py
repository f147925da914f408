"""Importing hpc_flows, and starting on a node, stays cheap.

Every task run on a cluster pays this price once, times a thousand for an array, against a shared
file system. Times vary with the machine and are measured by `make bench`; what is loaded and how
often the file system is asked does not vary, and is held here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

#: The design's limit, bare Python included.
LIMIT = 1200
#: Limits of today, beyond bare Python: measured (24, 303, 327), and some twenty calls of slack.
STATEMENTS = {
    "import hpc_flows": 45,
    "from hpc_flows import flow, task, Resources": 325,
    "import hpc_flows.jobs.inside": 345,
}

#: What must not be loaded by these statements, with what it costs (CPU beyond bare Python).
FORBIDDEN = {
    "argparse": "7 ms",
    "asyncio": "13 ms",
    "cloudpickle": "22 ms",
    "concurrent.futures": "12 ms",
    "contextlib": "loads collections and types for what `try` does",
    "dataclasses": "11.6 ms, more than half of what one array element may cost",
    "datetime": "states keep seconds since 1970",
    "hashlib": "loads OpenSSL; `_blake2` is free",
    "hmac": "loads hashlib",
    "inspect": "11 ms",
    "json": "6.5 ms; `_json` is enough on the job side",
    "logging": "11 ms",
    "pathlib": "8 ms",
    "re": "4.7 ms",
    "socket": "the job side opens no connection",
    "subprocess": "8 ms",
    "tempfile": "loads random and shutil",
    "threading": "3.3 ms",
    "tomllib": "only needed when there is a profile file",
    "traceback": "only needed when something failed",
    "typing": "8 ms",
    "uuid": "loads platform; `os.urandom` is enough",
    "click": "belongs to the command line",
    "jinja2": "belongs to the side that submits",
    "numpy": "belongs to the user",
    "pydantic": "validates parameters when a flow starts, not before",
    "rich": "belongs to the command line",
}

CALLS = (
    "open,openat,stat,lstat,newfstatat,statx,access,faccessat,faccessat2,"
    "readlink,readlinkat,getdents64"
)


def _python(code: str, *, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in this interpreter, with nothing else of this process's environment."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [*before, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        timeout=60,
        check=True,
    )


def _modules(code: str) -> set[str]:
    out = _python(f"{code}\nimport sys\nprint(*sys.modules)").stdout
    return set(out.split())


def _traced(code: str, log: Path) -> int:
    _python(code, before=("strace", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(log)))
    return len(log.read_text().splitlines())


def _audited(code: str) -> int:
    """Count opened and listed files: fewer than strace sees, but it needs no permission."""
    hook = (
        "import sys\n"
        "count = [0]\n"
        "seen = {'open', 'os.listdir', 'os.scandir', 'import'}\n"
        "sys.addaudithook(lambda name, _: name in seen and count.__setitem__(0, count[0] + 1))\n"
    )
    return int(_python(f"{hook}{code}\nprint(count[0])").stdout)


def _strace_works() -> bool:
    strace = shutil.which("strace")
    if strace is None:
        return False
    done = subprocess.run(
        [strace, "-qq", "-e", "trace=openat", "/bin/true"], capture_output=True, check=False
    )
    return done.returncode == 0


def _count(code: str, tmp_path: Path) -> int:
    return _traced(code, tmp_path / "calls") if _strace_works() else _audited(code)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_file_system_is_asked_little(statement: str, tmp_path: Path) -> None:
    _python(statement)  # so that compiled modules are there, as on a cluster
    bare, loaded = (_count(code, tmp_path) for code in ("pass", statement))
    assert loaded <= LIMIT
    assert loaded - bare <= STATEMENTS[statement], f"{loaded} calls, {bare} of them Python's own"


@pytest.mark.parametrize("statement", STATEMENTS)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    loaded = _modules(statement) - _modules("pass")
    heavy = {name: FORBIDDEN[name] for name in sorted(loaded & set(FORBIDDEN))}
    assert not heavy


@pytest.mark.parametrize("statement", STATEMENTS)
def test_only_the_standard_library_and_hpc_flows_are_loaded(statement: str) -> None:
    loaded = _modules(statement) - _modules("pass")
    tops = {name.partition(".")[0] for name in loaded}
    assert tops <= {"hpc_flows", *sys.stdlib_module_names}


#: A flow whose module the nodes can import, as a user's package has it.
FLOW = """
from hpc_flows import Resources, flow, task

@task(resources=Resources(cpus=1, memory="100MB", walltime="5m"))
def noop(number: int) -> int:
    return number

@flow
def many() -> list[int]:
    return noop.map(range(2)).result()
"""

#: Limits of a whole no-op element beyond bare Python: measured (312), with some slack.
ELEMENT_CALLS = 345


@pytest.fixture(scope="module")
def element(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Run a map on the mock cluster; give the command that runs its element 0 once more."""
    folder = tmp_path_factory.mktemp("element")
    (folder / "noop_flow.py").write_text(FLOW)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "HPC_FLOWS_HOME": str(folder / "home"),
        "HPC_FLOWS_CLUSTER": "mock",
    }
    try:
        code = "from noop_flow import many; assert many() == [0, 1]"
        _done([sys.executable, "-c", code], environment)
        job = next((folder / "home" / "runs").glob("*/jobs/*"))
        entry = str(ROOT / "hpc_flows" / "jobs" / "run.py")
        yield [entry, str(job.parent.parent), job.name, "0", "--retake"]
    finally:
        _done([sys.executable, "-m", "hpc_flows", "mock", "stop"], environment)


def _done(argv: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=True
    )


def test_a_whole_array_element_loads_nothing_heavy(element: list[str]) -> None:
    done = _done([sys.executable, "-X", "importtime", *element], {"PATH": "/usr/bin:/bin"})
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hpc_flows.jobs.inside" in loaded
    heavy = {name: FORBIDDEN[name] for name in sorted(loaded & set(FORBIDDEN))}
    assert not heavy


@pytest.mark.skipif(not _strace_works(), reason="strace is not there, or may not trace")
def test_a_whole_array_element_asks_the_file_system_little(
    element: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    trace = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(log)]
    _done([*trace, sys.executable, *element], {"PATH": "/usr/bin:/bin"})
    calls = len(log.read_text().splitlines())
    assert calls <= LIMIT
    assert calls - _count("pass", tmp_path) <= ELEMENT_CALLS


def test_a_heavy_module_would_be_noticed() -> None:
    assert "dataclasses" in _modules("import dataclasses")


def test_the_audit_hook_counts_what_strace_is_not_there_to_count() -> None:
    assert _audited("import json") > _audited("pass")
