"""From `FILE:FLOW` on the command line to the flow, and from `-p name=value` to its parameters."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.exceptions import close_match

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from hpc_flows.flows import Flow


def load_flow(where: str) -> Flow[..., Any]:
    """Return the flow that `FILE:FLOW` or `MODULE:FLOW` names.

    The flow's name may be left out where the file has only one. The file is imported under its own
    name, with its folder first on the path, so that jobs can import it by name as well.

    Raises:
        click.UsageError: no such file, or no such flow in it.
    """
    place, _, name = where.partition(":")
    return find_flow(load_module(place), name, where)


def load_module(place: str) -> ModuleType:
    """Import a file, or a module by its dotted name.

    Raises:
        click.UsageError: there is none, or its name is taken.
    """
    if place.endswith(".py") or os.sep in place or os.path.exists(place):
        return _import_file(os.path.abspath(os.path.expanduser(place)), place)
    if "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    if _spec_of(place) is None:
        raise click.UsageError(f"There is no file and no module {place!r}.")
    return importlib.import_module(place)


def _spec_of(module: str) -> object | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _import_file(path: str, as_typed: str) -> ModuleType:
    if not os.path.isfile(path):
        raise click.UsageError(f"There is no file {as_typed!r}.{_nearest_file(path)}")
    if not path.endswith(".py"):
        raise click.UsageError(f"{as_typed!r} is not a Python file; give FILE.py:FLOW.")
    folder, name = _import_name(path)
    _refuse_taken_name(name, path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def _nearest_file(path: str) -> str:
    try:
        names = os.listdir(os.path.dirname(path))
    except OSError:
        return f" There is no folder {os.path.dirname(path)!r}."
    return close_match(os.path.basename(path), [n for n in names if n.endswith(".py")])


def _import_name(path: str) -> tuple[str, str]:
    """Return the folder to import from and the dotted name; files of packages keep theirs."""
    folder, name = os.path.split(os.path.splitext(path)[0])
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        name = f"{package}.{name}"
    return folder, name


def _refuse_taken_name(name: str, path: str) -> None:
    # A second module of one name would be imported on the nodes in place of the user's.
    loaded = sys.modules.get(name)
    other = getattr(loaded, "__file__", None) or ("Python itself" if loaded else None)
    if name.partition(".")[0] in sys.stdlib_module_names:
        other = "Python's standard library"
    if other is not None and not (os.path.exists(other) and os.path.samefile(other, path)):
        raise click.UsageError(
            f"{path} would be imported as {name!r}, and {other} has that name. Rename the file."
        )


def find_flow(module: ModuleType, name: str, where: str) -> Flow[..., Any]:
    """Return a module's flow of that name, or its only one when the name is empty.

    Raises:
        click.UsageError: there is none, or it is not clear which.
    """
    flows = flows_of(module)
    found = flows.get(name) or next((f for f in flows.values() if name and f.name == name), None)
    if found is not None:
        return found
    own = {n: f for n, f in flows.items() if f.fn.__module__ == module.__name__}
    if not name and len(own) == 1:
        return next(iter(own.values()))
    raise click.UsageError(_which_flow(name, where, list(own or flows)))


def flows_of(module: ModuleType) -> dict[str, Flow[..., Any]]:
    """Return a module's flows by the names they have in it."""
    from hpc_flows.flows import Flow  # noqa: PLC0415 - completion asks without loading flows

    return {name: value for name, value in vars(module).items() if isinstance(value, Flow)}


def _which_flow(name: str, where: str, known: list[str]) -> str:
    place = where.partition(":")[0]
    if not known:
        return f"{place} has no flow: no function in it is decorated with @flow."
    if not name:
        return f"{place} has several flows; name one: {place}:{known[0]} ({', '.join(known)})."
    match = close_match(name, known) or f" It has: {', '.join(known)}."
    return f"{place} has no flow {name!r}.{match}"


def read_parameters(flow: Flow[..., Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return the parameters that `name=value` texts give to a flow.

    A value is read as JSON where it is JSON, else it is the text itself; a parameter annotated
    `str` keeps what was typed (`1.10` stays `1.10`). The flow validates the values when it runs.

    Raises:
        click.UsageError: no `=`, a name twice, or a parameter that the flow has not.
    """
    known = inspect.signature(flow.fn).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise click.UsageError(f"A parameter is given as name=value, not {assignment!r}.")
        if name in values:
            raise click.UsageError(f"The parameter {name!r} is given twice.")
        if name not in known and not takes_any:
            raise click.UsageError(_unknown_parameter(flow, name, list(known)))
        annotation = known[name].annotation if name in known else None
        values[name] = _value(text, is_text=annotation in {str, "str"})
    return values


def _unknown_parameter(flow: Flow[..., Any], name: str, known: list[str]) -> str:
    has = f" It has: {', '.join(known)}." if known else " It has none."
    match = close_match(name, known) or has
    return f"The flow {flow.name!r} has no parameter {name!r}.{match}"


def _value(text: str, *, is_text: bool) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if is_text and not isinstance(value, str) else value
