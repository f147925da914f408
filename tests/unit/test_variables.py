"""Variables are named values of the home folder, whole at any moment for any process."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow
from hpc_flows.exceptions import VariableError
from hpc_flows.journal.reader import read_run
from hpc_flows.variables import Variable, read_variable, variable_names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "value",
    [
        "text",
        '"quoted"',
        "",
        "ü\n",
        "caf\udce9.dat",
        12,
        1.5,
        True,
        None,
        {"key": ["a", None]},
        [],
        {},
    ],
)
def test_what_is_json_comes_back_as_it_was(value: Any) -> None:
    assert Variable.set("x", value, tags=["a", "b"]).value == value
    assert Variable.get("x", "another") == value
    found = read_variable("x")
    assert found is not None
    assert found.tags == ["a", "b"]


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {1}, float("nan"), object(), b"bytes"])
def test_what_would_come_back_changed_is_refused(value: Any) -> None:
    with pytest.raises(VariableError, match="'x'"):
        Variable.set("x", value)
    assert Variable.get("x") is None


def test_a_value_that_is_too_large_is_refused_with_the_way_out() -> None:
    with pytest.raises(VariableError, match="path in the variable"):
        Variable.set("x", "y" * (1 << 20))


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a b", "ü", "x" * 241, 3])
def test_names_that_are_no_names_of_files_are_refused(name: Any) -> None:
    for use in (lambda: Variable.get(name), lambda: Variable.set(name, 1)):
        with pytest.raises(VariableError, match="cannot name a variable"):
            use()


def test_it_is_not_overwritten_unasked() -> None:
    first = Variable.set("x", 1)
    with pytest.raises(ValueError, match=r"already exists\. Use `overwrite=True` to update it"):
        Variable.set("x", 2)
    second = Variable.set("x", 3, tags=["new"], overwrite=True)
    assert Variable.get("x") == 3
    assert (second.created, second.updated >= first.updated) == (first.created, True)


def test_a_default_is_for_variables_that_are_not_there() -> None:
    assert Variable.get("x") is None
    assert Variable.get("x", 42) == 42
    assert Variable[int].get("x", 7) == 7
    assert Variable.unset("x") is False
    Variable.set("x", None)
    assert Variable.get("x", 42) is None
    assert Variable.unset("x") is True
    assert variable_names() == []


def test_the_same_names_can_be_awaited() -> None:
    async def main() -> list[Any]:
        made = await Variable.aset("a", 1)
        again = await Variable.set("b", 2)
        values = [made.value, again.value, await Variable.aget("a"), await Variable.get("b")]
        return [*values, await Variable.aunset("a"), await Variable.unset("b"), variable_names()]

    assert asyncio.run(main()) == [1, 2, 1, 2, True, True, []]


def test_the_file_is_the_users_alone(home: Path) -> None:
    Variable.set("x", 1)
    path = home / "variables" / "x.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["x.json"]


def test_a_damaged_file_is_told_and_can_be_set_again(home: Path) -> None:
    Variable.set("x", 1)
    (home / "variables" / "x.json").write_text("{")
    with pytest.raises(VariableError, match="is damaged"):
        Variable.get("x")
    Variable.set("x", 2, overwrite=True)
    assert Variable.get("x") == 2


def test_of_many_processes_that_make_it_one_succeeds(home: Path) -> None:
    program = (
        "import sys\n"
        "from hpc_flows.exceptions import VariableError\n"
        "from hpc_flows.variables import Variable\n"
        "sys.stdin.read(1)\n"
        "try:\n"
        "    Variable.set('x', sys.argv[1])\n"
        "except VariableError:\n"
        "    print('late')\n"
        "else:\n"
        "    print('first')\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    answers = [process.communicate("g", timeout=60)[0].strip() for process in processes]
    assert sorted(answers) == ["first", "late", "late", "late"]
    assert Variable.get("x") == str(answers.index("first"))


def test_a_file_system_without_hard_links_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    Variable.set("x", 1)
    with pytest.raises(VariableError, match="already exists"):
        Variable.set("x", 2)
    assert Variable.get("x") == 1


def test_a_folder_that_cannot_be_written_is_named(home: Path) -> None:
    home.mkdir()
    (home / "variables").write_text("in the way")
    with pytest.raises(VariableError, match="set HPC_FLOWS_HOME"):
        Variable.set("x", 1)


def test_a_run_notes_what_it_changes_and_not_the_value(home: Path) -> None:
    @flow
    def main() -> None:
        Variable.set("token", "very secret")
        Variable.unset("token")

    main()
    (folder,) = (home / "runs").iterdir()
    events = [event for event in read_run(str(folder)) if event.kind == "variable"]
    assert [(e.data["action"], e.data["name"]) for e in events] == [
        ("set", "token"),
        ("unset", "token"),
    ]
    assert events[0].data["flow_run"] == folder.name
    assert "very secret" not in json.dumps([event.data for event in read_run(str(folder))])
