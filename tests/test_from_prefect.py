"""Every row of docs/from_prefect.md is true: names are imported, options are given, calls exist."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import pytest

import hpc_flows
from hpc_flows import Flow, State, Task, cache_policies, futures, results, shell, transactions
from hpc_flows.cli.main import cli
from hpc_flows.context import EngineContext, FlowRunContext, RunContextView, get_run_context
from hpc_flows.exceptions import HpcFlowsError, ParameterError
from hpc_flows.flows import flow
from hpc_flows.shell import ShellOperation
from hpc_flows.states import Completed
from hpc_flows.tasks import task

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parent.parent / "docs" / "from_prefect.md"

SPAN = re.compile(r"`([^`]+)`")
IMPORT = re.compile(r"from ([\w.]+) import (.+)")
OPTIONS = re.compile(r"(@task|@flow|ShellOperation)\((.+)\)")
ATTRIBUTE = re.compile(r"([a-z]+)\.(\w+)")
DOTTED = re.compile(r"(prefect\w*(?:\.\w+)*)\.(\w+)")

COMMAND = re.compile(r"(?:prefect|hpc-flows) ([a-z -]+)")

FIRST_COLUMNS = ("the same", "later", "refused")


class Row(NamedTuple):
    """A row of a table: what Prefect has, and what is said of it."""

    prefect: str
    here: str


def _rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "Prefect":
            yield Row(cells[0], cells[1])


ROWS = list(_rows())


def _function() -> None:
    """Do nothing."""


@task
def a_task() -> None:
    """Do nothing."""


@flow
def a_flow() -> None:
    """Do nothing."""


#: What the words before a dot stand for; attributes that only objects have are looked up there.
OBJECTS: dict[str, Any] = {
    "task": a_task,
    "flow": a_flow,
    "state": Completed(),
    "future": futures.PrefectFuture,
    "futures": futures.PrefectFutureList,
    "store": results.ResultStore,
    "policy": cache_policies.CachePolicy,
    "txn": transactions.Transaction,
    "operation": ShellOperation(["true"]),
    "process": shell.ShellProcess,
}


def _ours(module: str) -> str:
    return re.sub(r"^prefect_shell", "hpc_flows.shell", re.sub(r"^prefect\b", "hpc_flows", module))


def _can_import(module: str, name: str) -> bool:
    try:
        loaded = importlib.import_module(_ours(module))
    except ModuleNotFoundError:
        return False
    if hasattr(loaded, name):
        return True
    try:
        importlib.import_module(f"{_ours(module)}.{name}")
    except ModuleNotFoundError:
        return False
    return True


#: Values for options that cannot be None.
GIVEN = {"validate_parameters": True, "cache_result_in_memory": True, "stream_output": True}
GIVEN |= {"return_all": True, "continue_on_error": True}


def _takes(what: str, option: str) -> bool:
    if what == "ShellOperation" and option == "commands":
        return "commands" in inspect.signature(ShellOperation).parameters
    kwargs: dict[str, Any] = {option: GIVEN.get(option)}
    try:
        if what == "ShellOperation":
            ShellOperation(["true"], **kwargs)
        else:
            (Task if what == "@task" else Flow)(_function, **kwargs)
    except ParameterError as error:
        return repr(option) not in str(error)  # the option is known, and None is not for it
    return True


def _is_command(words: list[str]) -> bool:
    command: click.Command = cli
    for word in words:
        found = None
        if isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
        if found is None:
            return False
        command = found
    return True


def _is_there(span: str) -> dict[str, bool]:
    """Return which of the names in a code span are there."""
    if found := IMPORT.fullmatch(span):
        names = [name.strip() for name in found[2].split(",")]
        return {name: _can_import(found[1], name) for name in names}
    if found := OPTIONS.fullmatch(span):
        options = [option.strip() for option in found[2].split(",")]
        return {option: _takes(found[1], option) for option in options}
    if (found := ATTRIBUTE.fullmatch(span)) and found[1] in OBJECTS:
        subject = OBJECTS[found[1]]
        known = hasattr(subject, found[2]) or found[2] in getattr(subject, "__slots__", ())
        annotated = found[2] in getattr(subject, "__annotations__", {})
        return {span: known or annotated}
    if found := COMMAND.fullmatch(span):
        return {span: _is_command(found[1].split())}
    if found := DOTTED.fullmatch(span):
        return {span: _can_import(found[1], found[2])}
    pytest.fail(f"no test knows how to look for {span!r}")


def _all_of(cell: str) -> dict[str, bool]:
    spans = SPAN.findall(cell)
    assert spans, f"nothing to look for in {cell!r}"
    return {name: there for span in spans for name, there in _is_there(span).items()}


def _refuses(span: str) -> bool:
    """Tell whether a method, or a function of the package, is there only to say why it is not."""
    found = ATTRIBUTE.fullmatch(span)
    if not found:
        if span not in hpc_flows.__all__:
            return False
        with pytest.raises(HpcFlowsError):
            getattr(hpc_flows, span)()
        return True
    with pytest.raises(HpcFlowsError):
        getattr(OBJECTS[found[1]], found[2])()
    return True


def _label(row: Row) -> str:
    return f"{row.prefect} - {row.here}"


SAME = [row for row in ROWS if row.here == "the same"]
ABSENT = [row for row in ROWS if row.here in {"later", "refused"}]
OTHER = [row for row in ROWS if row.here not in FIRST_COLUMNS]


def test_the_page_has_rows_of_each_kind() -> None:
    assert len(SAME) > 50
    assert len(ABSENT) > 10
    assert len(OTHER) > 5


@pytest.mark.parametrize("row", SAME, ids=_label)
def test_what_is_the_same_is_where_prefect_has_it(row: Row) -> None:
    missing = [name for name, there in _all_of(row.prefect).items() if not there]
    assert not missing


@pytest.mark.parametrize("row", OTHER, ids=_label)
def test_what_is_elsewhere_is_where_the_page_says(row: Row) -> None:
    missing = [name for name, there in _all_of(row.here).items() if not there]
    assert not missing


@pytest.mark.parametrize("row", ABSENT, ids=_label)
def test_what_comes_later_or_is_refused_is_not_half_there(row: Row) -> None:
    there = [name for name, there in _all_of(row.prefect).items() if there]
    assert [name for name in there if not _refuses(name)] == [], "it has come: change the row"


def test_the_contexts_of_runs_share_a_class_and_the_flows_has_two_names() -> None:
    @task
    def around() -> tuple[bool, bool]:
        outer, inner = FlowRunContext.get(), get_run_context()
        return isinstance(outer, EngineContext), isinstance(inner, RunContextView)

    @flow
    def study() -> tuple[bool, bool]:
        return around()

    assert study() == (True, True)


def test_states_are_what_the_page_shows_them_with() -> None:
    assert isinstance(OBJECTS["state"], State)
