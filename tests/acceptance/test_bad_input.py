"""What users get wrong, and what they are told: the fault, the value, and what to do next."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurm_site.fixtures import SlurmSite

    Script = Callable[..., subprocess.CompletedProcess[str]]


def flow_with(resources: str) -> str:
    """Return a script whose one task asks for `resources`."""
    return f"""
from hpc_flows import Resources, flow, task
@task(resources=Resources({resources}))
def work():
    return 1
@flow
def run():
    return work.submit().result()
if __name__ == "__main__":
    print(run())
"""


def refused(done: subprocess.CompletedProcess[str], *words: str) -> str:
    """Check that the script failed and that its last words hold all of `words`."""
    assert done.returncode != 0, done.stdout
    tail = done.stderr[-3000:]
    for word in words:
        assert word in tail, f"{word!r} is not in:\n{tail}"
    return tail


def submitted(home: Path) -> bool:
    """Tell whether any run journalled that it sent a job."""
    return any(b'"job-submitted"' in p.read_bytes() for p in home.glob("runs/*/journal/*.jsonl"))


def test_an_unknown_partition_is_refused_with_the_close_match(
    script: Script, mock_cluster: str, home: Path
) -> None:
    done = script(flow_with("cpus=1, walltime='5m', partition='standrad'"))
    refused(done, "standrad", "standard")
    assert not submitted(home)


def test_two_terabytes_are_refused_with_the_nearest_that_fits(
    script: Script, mock_cluster: str, home: Path
) -> None:
    done = script(flow_with("cpus=1, walltime='5m', memory='2TB'"))
    refused(done, "DoesNotFit", "2T", "largemem")
    assert not submitted(home)


def test_a_walltime_over_the_limit_is_refused_with_the_limit(
    script: Script, mock_cluster: str, home: Path
) -> None:
    done = script(flow_with("cpus=1, walltime='30 days'"))
    refused(done, "walltime", "30-00:00:00")
    assert not submitted(home)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("memory='32 XB'", ("32 XB", "memory")),
        ("walltime='2 fortnights'", ("2 fortnights", "walltime")),
        ("cpus='many'", ("many", "cpus")),
        ("cpus=0", ("cpus", "0")),
        ("memroy='32G'", ("memroy", "memory")),
    ],
)
def test_malformed_resources_fail_at_the_decorator(
    script: Script, resources: str, words: tuple[str, ...]
) -> None:
    refused(script(flow_with(resources)), "ResourceError", *words)


def test_an_unknown_cluster_is_named_with_the_close_match(script: Script) -> None:
    done = script(flow_with("cpus=1, walltime='5m'"), HPC_FLOWS_CLUSTER="aftn")
    refused(done, "UnknownCluster", "aftn", "afton")


def test_no_sbatch_on_path_says_where_it_was_looked_for(script: Script, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = script(
        flow_with("cpus=1, walltime='5m', partition='standard'"),
        HPC_FLOWS_CLUSTER="generic_slurm",
        PATH=str(empty),
    )
    refused(done, "generic_slurm", "PATH")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_home_is_named(script: Script, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    try:
        done = script(flow_with("cpus=1"), HPC_FLOWS_HOME=str(closed / "home"))
        refused(done, str(closed), "HPC_FLOWS_HOME")
    finally:
        closed.chmod(0o700)


def other_python(folder: Path) -> str:
    """Return an interpreter of another version: one of this machine, or one that says it is."""
    for minor in range(8, 20):
        found = shutil.which(f"python3.{minor}")
        if found is None or minor == sys.version_info.minor:
            continue
        # pyenv has commands for versions that are not switched on.
        if subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    script = folder / "python3.99"
    script.write_text(OTHER_PYTHON.format(python=sys.executable))
    script.chmod(0o755)
    return str(script)


OTHER_PYTHON = """#!/bin/sh
test "$1" = --version && echo Python 3.99.0 && exit
exec {python} -c '
import sys
sys.version_info = (3, 99, 0)
del sys.argv[0]
__file__ = sys.argv[0]
sys.path.insert(0, "")
exec(compile(open(__file__).read(), __file__, "exec"))
' "$@"
"""


def test_another_python_on_the_node_is_refused_before_unpickling(
    script: Script, mock_cluster: str, home: Path, tmp_path: Path
) -> None:
    other = other_python(tmp_path)
    clusters = home / "clusters"
    clusters.mkdir(parents=True)
    (clusters / "other.toml").write_text(
        f'name = "other"\ntitle = "Mock, other Python"\nextends = "mock"\npython = "{other}"\n'
    )
    done = script(flow_with("cpus=1, walltime='5m'"), HPC_FLOWS_CLUSTER="other")
    version = subprocess.run([other, "--version"], capture_output=True, text=True, check=True)
    refused(done, "Python", ".".join(version.stdout.split()[1].split(".")[:2]))


@pytest.mark.slurm
def test_a_full_disk_is_said_and_the_flow_ends(script: Script, slurm_site: SlurmSite) -> None:
    with slurm_site.small_disk(64) as disk:
        done = script(FILL_THE_DISK, HPC_FLOWS_HOME=str(disk / "home"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == "19900"
    assert "disk" in done.stderr.lower() or "space" in done.stderr.lower()


FILL_THE_DISK = """
import os
from hpc_flows import flow, task
@task(log_prints=True)
def talk(n):
    print("x" * 4000)
    return n
@flow
def run():
    filler = open(os.path.join(os.environ["HPC_FLOWS_HOME"], "filler"), "wb")
    try:
        while True:
            filler.write(b"0" * 4096)
            filler.flush()
    except OSError:
        pass
    return sum(talk(n) for n in range(200))
if __name__ == "__main__":
    print(run())
"""
