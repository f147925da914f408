"""`FILE:FLOW` and `-p name=value`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click
import pytest

from hpc_flows.cli.flow_file import load_flow, read_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[str, str], Path]

FLOWS = """
from hpc_flows import flow

@flow
def census(folder: str, top: int = 3, version: str = "1"):
    return folder, top

@flow(name="second one")
def other(**anything):
    return anything
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def refusal(where: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        load_flow(where)
    return caught.value.message


def test_a_flow_is_found_by_file_and_name(write: Write) -> None:
    path = write("cli_flows_a.py", FLOWS)
    assert load_flow(f"{path}:census").fn.__module__ == "cli_flows_a"


def test_a_flow_is_found_by_the_name_that_its_decorator_gives(write: Write) -> None:
    path = write("cli_flows_b.py", FLOWS)
    assert load_flow(f"{path}:second one").fn.__name__ == "other"


def test_the_name_may_be_left_out_where_there_is_one_flow(write: Write) -> None:
    path = write("cli_flows_c.py", FLOWS.partition("@flow(name")[0])
    assert load_flow(str(path)).fn.__name__ == "census"


def test_several_flows_without_a_name_are_listed(write: Write) -> None:
    told = refusal(str(write("cli_flows_d.py", FLOWS)))
    assert "name one" in told
    assert "census, other" in told


def test_a_misspelt_flow_is_answered_with_the_nearest(write: Write) -> None:
    path = write("cli_flows_e.py", FLOWS)
    assert "Did you mean 'census'?" in refusal(f"{path}:censsu")


def test_a_misspelt_file_is_answered_with_the_nearest(write: Write) -> None:
    path = write("cli_flows_f.py", FLOWS)
    told = refusal(f"{str(path).replace('flows_f', 'flow_f')}:census")
    assert "Did you mean 'cli_flows_f.py'?" in told


def test_a_file_without_flows_says_what_is_missing(write: Write) -> None:
    assert "@flow" in refusal(f"{write('cli_flows_g.py', 'x = 1')}:census")


def test_a_file_in_a_package_keeps_its_dotted_name(write: Write) -> None:
    write("cli_package/__init__.py", "")
    path = write("cli_package/flows.py", FLOWS)
    assert load_flow(f"{path}:census").fn.__module__ == "cli_package.flows"


def test_a_file_named_like_a_module_of_python_is_refused(write: Write) -> None:
    told = refusal(f"{write('statistics.py', FLOWS)}:census")
    assert "standard library" in told
    assert "Rename the file" in told


def test_a_module_is_found_by_its_dotted_name(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("cli_flows_h.py", FLOWS)
    monkeypatch.chdir(path.parent)
    assert load_flow("cli_flows_h:census").fn.__name__ == "census"


def test_a_file_without_its_ending_is_recognised(write: Write) -> None:
    path = write("cli_flows_l.py", FLOWS)
    assert "Did you mean 'cli_flows_l.py'?" in refusal(str(path).removesuffix(".py"))


def test_a_module_that_is_not_there_is_refused() -> None:
    assert "no file and no module 'no_such.module'" in refusal("no_such.module:flow")


def test_values_are_json_where_they_are_json(write: Write) -> None:
    flow = load_flow(f"{write('cli_flows_i.py', FLOWS)}:other")
    given = ["n=3", "x=1.5", 'names=["a"]', "on=true", "none=null", "text=hello world", "eq=a=b"]
    assert read_parameters(flow, given) == {
        "n": 3,
        "x": 1.5,
        "names": ["a"],
        "on": True,
        "none": None,
        "text": "hello world",
        "eq": "a=b",
    }


def test_a_parameter_annotated_as_text_keeps_what_was_typed(write: Write) -> None:
    flow = load_flow(f"{write('cli_flows_j.py', FLOWS)}:census")
    assert read_parameters(flow, ["version=1.10", "folder=7"]) == {"version": "1.10", "folder": "7"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["tpo=3"], "Did you mean 'top'?"),
        (["top"], "name=value"),
        (["top=3", "top=4"], "twice"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    given: list[str], told: str, write: Write
) -> None:
    flow = load_flow(f"{write('cli_flows_k.py', FLOWS)}:census")
    with pytest.raises(click.UsageError, match=re.escape(told)):
        read_parameters(flow, given)
