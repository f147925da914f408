"""What is shipped: the wheel, and a tree that knows no machine of its makers."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"

#: Paths and hosts of the places where this was made. In pieces, so that this file has none.
PLACES = tuple(
    "".join(pieces)
    for pieces in (
        ("/wo", r"rk/(main|shared|\.)"),
        ("/ro", r"ot/"),
        ("/opt/", r"pypi"),
        ("hp", r"cf/"),
        ("py", r"env/versions"),
        ("extra-", r"index-url"),
        ("--index", r"-url"),
        ("/sim", r"ple/"),
        ("file:", r"///"),
        ("arti", r"factory|dev", r"pi\b"),
    )
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return folder / done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("folder", ["profiles", "slurm_templates"])
def test_profiles_and_templates_are_in_the_wheel(folder: str, names: set[str]) -> None:
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert here, f"{folder}/ is empty"
    missing = {name for name in here if f"hpc_flows/_data/{name}" not in names}
    assert not missing


def test_the_installed_package_finds_its_own_data(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "from hpc_flows.settings import data_dir\n"
        "print(data_dir('profiles'), data_dir('slurm_templates'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    data = tmp_path / "hpc_flows" / "_data"
    assert done.stdout.split() == [str(data / "profiles"), str(data / "slurm_templates")]


def test_the_wheel_installs_one_command_and_no_sbatch(wheel: Path, names: set[str]) -> None:
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    parser = ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        parser.read_string(archive.read(entry_points).decode())
    assert dict(parser["console_scripts"]) == {"hpc-flows": "hpc_flows.cli.main:main"}
    assert not [name for name in names if ".data/scripts/" in name]


def test_the_wheel_holds_the_package_and_nothing_else(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert len(tops) == 2
    assert "hpc_flows" in tops
    assert "hpc_flows/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_every_module_of_the_package_is_in_the_wheel(names: set[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hpc_flows").rglob("*.py")}
    assert modules <= names


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def _shipped_files() -> list[Path]:
    """Return what git would hold; without git, everything but caches."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return [path for path in ROOT.rglob("*") if path.is_file() and not _is_cache(path)]
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def _is_cache(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(
        part.startswith((".venv", ".make", ".git", ".mypy", ".ruff", ".pytest", "__pycache__"))
        for part in parts
    )


def test_no_file_names_a_machine_or_a_registry_of_its_makers() -> None:
    places = re.compile("|".join(PLACES))
    found = []
    for path in _shipped_files():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:90]}"
            for number, line in enumerate(lines, 1)
            if places.search(line)
        ]
    assert not found, "\n".join(found)


def test_the_search_for_places_finds_one() -> None:
    assert re.search("|".join(PLACES), "see /wo" + "rk/main/README.md")
    assert not re.search("|".join(PLACES), "a network/maintenance window in /home/alice/work")
