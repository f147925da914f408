"""From `FILE:FLOW` on the command line to the flow, and from `-p name=value` to its parameters."""

from __future__ import annotations

import inspect
import json
import os
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.exceptions import (
    MissingFlowError,
    ScriptError,
    UnspecifiedFlowError,
    close_match,
)

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
    from hpc_flows.flows import loading  # noqa: PLC0415 - completion asks without loading flows

    path = os.path.abspath(os.path.expanduser(place))
    if os.path.isfile(path) and path.endswith(".py"):
        _refuse_taken_name(path)
    try:
        return loading.load_module(place)
    except MissingFlowError as error:
        raise click.UsageError(str(error)) from None
    except ScriptError as error:
        raise (error.user_exc or error) from None


def _refuse_taken_name(path: str) -> None:
    # A second module of one name would be imported on the nodes in place of the user's.
    from hpc_flows.flows.loading import holder_of, import_name  # noqa: PLC0415 - as above

    name = import_name(path)[1]
    other = holder_of(name, path)
    if other is not None:
        raise click.UsageError(
            f"{path} would be imported as {name!r}, and {other} has that name. Rename the file."
        )


def find_flow(module: ModuleType, name: str, where: str) -> Flow[..., Any]:
    """Return a module's flow of that name, or its only one when the name is empty.

    Raises:
        click.UsageError: there is none, or it is not clear which.
    """
    from hpc_flows.flows import loading  # noqa: PLC0415 - as above

    try:
        return loading.find_flow(module, name, where.partition(":")[0])
    except (MissingFlowError, UnspecifiedFlowError) as error:
        raise click.UsageError(str(error)) from None


def flows_of(module: ModuleType) -> dict[str, Flow[..., Any]]:
    """Return a module's flows by the names they have in it."""
    from hpc_flows.flows import loading  # noqa: PLC0415 - as above

    return loading.flows_of(module)


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
