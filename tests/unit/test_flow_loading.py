"""Flows out of files, modules, folders and repositories."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import Flow, flow
from hpc_flows.exceptions import MissingFlowError, ScriptError, UnspecifiedFlowError
from hpc_flows.flows import (
    load_flow_arguments_from_entrypoint,
    load_flow_from_entrypoint,
    load_flow_from_script,
    load_flows_from_script,
    load_function_and_convert_to_flow,
    safe_load_flow_from_entrypoint,
    select_flow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TWO = """
from hpc_flows import flow

@flow(name="first", version="1")
def one(x: int = 1):
    '''Add one.'''
    return x + 1

@flow
def second_one():
    return 2

class Study:
    @flow
    @staticmethod
    def of(x):
        return x

def plain(x):
    return x * 2
"""


@pytest.fixture(autouse=True)
def _path() -> Iterator[None]:
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("loaded_"):
            del sys.modules[name]


def _file(folder: Path, text: str = TWO, name: str = "loaded_flows.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# Entrypoints ----------------------------------------------------------------------------------


def test_a_flow_is_loaded_from_a_file_or_a_module(tmp_path: Path) -> None:
    path = _file(tmp_path)
    assert load_flow_from_entrypoint(f"{path}:one")(4) == 5
    assert load_flow_from_entrypoint("loaded_flows:one").name == "first"
    assert load_flow_from_entrypoint("loaded_flows.second_one").name == "second-one"
    assert load_flow_from_entrypoint(f"{path}:first").name == "first"
    assert load_flow_from_entrypoint(f"{path}:Study.of")(3) == 3


def test_a_file_whose_name_is_taken_is_loaded_all_the_same(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert load_flow_from_entrypoint(f"{_file(tmp_path)}:one")(1) == 2
    changed = _file(other, TWO.replace("x + 1", "x + 100"))
    assert load_flow_from_entrypoint(f"{changed}:one")(1) == 101
    assert load_flow_from_entrypoint(f"{tmp_path / 'loaded_flows.py'}:one")(1) == 2


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ("{file}:oen", "has no flow 'oen'.*Did you mean 'one'"),
        ("{folder}/loaded_flow.py:one", r"There is no file.*Did you mean 'loaded_flows\.py'"),
        ("{folder}/nowhere/x.py:one", "There is no folder"),
        ("{folder}/loaded_text.txt:one", "is not a Python file"),
        ("no_such_module_at_all:one", "no file and no module"),
        ("{file}", "is neither"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, entrypoint: str, message: str) -> None:
    (tmp_path / "loaded_text.txt").touch()
    where = entrypoint.format(file=_file(tmp_path), folder=tmp_path)
    with pytest.raises(MissingFlowError, match=message):
        load_flow_from_entrypoint(where)


def test_a_file_that_raises_is_told_with_what_it_raised(tmp_path: Path) -> None:
    path = _file(tmp_path, "1 / 0", "loaded_broken.py")
    with pytest.raises(ScriptError, match=r"loaded_broken.py.*ZeroDivisionError") as caught:
        load_flow_from_entrypoint(f"{path}:one")
    assert isinstance(caught.value.user_exc, ZeroDivisionError)


def test_the_flows_of_a_script_are_listed_and_chosen_from(tmp_path: Path) -> None:
    path = _file(tmp_path)
    assert {each.name for each in load_flows_from_script(path)} == {"first", "second-one"}
    assert load_flow_from_script(path, flow_name="first")(1) == 2
    with pytest.raises(UnspecifiedFlowError, match="Found 2 flows in script"):
        load_flow_from_script(path)
    with pytest.raises(MissingFlowError, match=r"Flow 'frist' not found.*Did you mean 'first'"):
        load_flow_from_script(path, "frist")
    with pytest.raises(MissingFlowError, match=r"No flows found\."):
        select_flow([])


def test_a_function_without_decorator_is_made_a_flow(tmp_path: Path) -> None:
    path = _file(tmp_path)
    made = load_function_and_convert_to_flow(f"{path}:plain")
    assert made(4) == 8
    assert made.log_prints
    assert load_function_and_convert_to_flow(f"{path}:one").name == "first"
    with pytest.raises(RuntimeError, match=f"Function with name 'dog' not found in '{path}'"):
        load_function_and_convert_to_flow(f"{path}:dog")


def test_the_version_of_a_flow_changes_with_its_file(tmp_path: Path) -> None:
    path = _file(tmp_path)
    assert load_flow_from_entrypoint(f"{path}:one").version == "1"
    before = load_flow_from_entrypoint(f"{path}:second_one").version
    assert before
    path.write_text(TWO + "# more\n")
    del sys.modules["loaded_flows"]
    assert load_flow_from_entrypoint(f"{path}:second_one").version not in {before, None}
    assert flow(len).version is None


# Files that cannot be imported ----------------------------------------------------------------

MISSING = """
from hpc_flows import flow
from no_such_package import DEFAULT, label
import os

SIZE = 3

@flow(name=f"job-{SIZE}", retries=2)
def sized(x: int = SIZE, y: DEFAULT = DEFAULT, *, z=DEFAULT) -> "DEFAULT":
    '''What it is.'''
    return x, y, z

@flow(name=label)
def labelled(): ...

class Study:
    @flow
    def method(self): ...

if __name__ == "__main__":
    raise SystemExit
"""


def test_a_flow_is_read_where_it_cannot_be_imported(tmp_path: Path) -> None:
    path = _file(tmp_path, MISSING, "loaded_missing.py")
    found = safe_load_flow_from_entrypoint(f"{path}:sized")
    assert isinstance(found, Flow)
    assert (found.name, found.retries, found.description) == ("job-3", 2, "What it is.")
    assert found() == (3, None, None)


def test_a_flow_whose_name_cannot_be_told_is_not_read(tmp_path: Path) -> None:
    path = _file(tmp_path, MISSING, "loaded_missing.py")
    assert safe_load_flow_from_entrypoint(f"{path}:labelled") is None
    assert safe_load_flow_from_entrypoint(f"{path}:Study.method") is None


def test_a_flow_that_can_be_imported_is(tmp_path: Path) -> None:
    found: Any = safe_load_flow_from_entrypoint(f"{_file(tmp_path)}:one")
    assert found(1) == 2


def test_what_a_flow_is_called_is_read_without_running_it(tmp_path: Path) -> None:
    path = _file(tmp_path, MISSING, "loaded_missing.py")
    told = load_flow_arguments_from_entrypoint(f"{path}:sized")
    assert told == {"name": "job-3", "retries": 2, "description": "What it is."}
    assert load_flow_arguments_from_entrypoint(f"{path}:labelled") == {"name": "labelled"}
    assert load_flow_arguments_from_entrypoint(f"{path}:sized", ["retries"]) == {"retries": 2}
    for wrong in ("missing", "Study.other"):
        with pytest.raises(MissingFlowError, match="Could not find flow"):
            load_flow_arguments_from_entrypoint(f"{path}:{wrong}")
    with pytest.raises(MissingFlowError, match="cannot be read"):
        load_flow_arguments_from_entrypoint(f"{tmp_path}/none.py:one")


# Sources --------------------------------------------------------------------------------------


def test_a_flow_comes_out_of_a_folder(tmp_path: Path) -> None:
    _file(tmp_path)
    assert flow.from_source(tmp_path, "loaded_flows.py:one")(1) == 2  # type: ignore[attr-defined]
    with pytest.raises(MissingFlowError, match="There is no folder"):
        Flow.from_source(str(tmp_path / "none"), "x.py:f")
    with pytest.raises(MissingFlowError, match=r"must be path/in/the/source\.py:function"):
        Flow.from_source(tmp_path, "loaded_flows.py")
    with pytest.raises(MissingFlowError, match="not 5"):
        Flow.from_source(5, "x.py:f")


class Storage:
    """Code that some other library brings here."""

    def __init__(self, folder: Path) -> None:
        self.destination = folder
        self.pulled = 0

    def pull_code(self) -> None:
        self.pulled += 1


def test_a_flow_comes_out_of_what_pulls_code(tmp_path: Path) -> None:
    _file(tmp_path)
    storage = Storage(tmp_path)
    assert Flow.from_source(storage, "loaded_flows.py:one").name == "first"
    assert storage.pulled == 1
    assert asyncio.run(Flow.afrom_source(storage, "loaded_flows.py:one")).name == "first"


def _git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(
        [shutil.which("git") or "git", *who, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_flow_comes_out_of_a_repository_at_a_branch_or_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    repository = tmp_path / "repository"
    repository.mkdir()
    _git(repository, "init", "--quiet", "--initial-branch=main")
    for branch, added in (("main", 1), ("other", 100)):
        if branch != "main":
            _git(repository, "checkout", "--quiet", "-b", branch)
        _file(repository, TWO.replace("x + 1", f"x + {added}"), "loaded_of_git.py")
        _git(repository, "add", ".")
        _git(repository, "commit", "--quiet", "-m", branch)
    _git(repository, "tag", "v1", "main")
    _git(repository, "checkout", "--quiet", "main")
    url = f"file://{repository}"
    for source, value in ((url, 2), (f"{url}@other", 101), (f"{url}@v1", 2)):
        assert Flow.from_source(source, "loaded_of_git.py:one")(1) == value
    clones = set(tmp_path.glob("hpc-flows-source-*"))
    assert len(clones) == 3
    with pytest.raises(MissingFlowError, match="git cannot get"):
        Flow.from_source(f"{url}@nowhere", "loaded_of_git.py:one")
    with pytest.raises(MissingFlowError, match="git cannot get"):
        Flow.from_source(f"file://{tmp_path}/none.git", "loaded_of_git.py:one")
    assert set(tmp_path.glob("hpc-flows-source-*")) == clones


def test_without_git_a_repository_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFlowError, match="git is not installed here"):
        Flow.from_source("https://example.org/code.git", "x.py:f")
