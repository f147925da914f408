"""Flows out of functions without a decorator, and out of files that cannot be imported here.

Where packages are on other machines only, the file's text is read: the decorator's options, the
function, its text for people. Names that the function's signature needs are looked up by running
the file's statements one by one, and passing over those that fail.
"""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import MissingFlowError
from hpc_flows.flows import Flow
from hpc_flows.flows.loading import (
    attribute,
    load_flow_from_entrypoint,
    load_module,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Function = ast.FunctionDef | ast.AsyncFunctionDef

__all__ = [
    "load_flow_arguments_from_entrypoint",
    "load_function_and_convert_to_flow",
    "safe_load_flow_from_entrypoint",
]


def load_function_and_convert_to_flow(entrypoint: str) -> Flow[..., Any]:
    """Return a flow of the function that an entrypoint names, which need not be decorated.

    Raises:
        MissingFlowError: there is no such file, module or function.
        ScriptError: the file raised an error.
    """
    place, name = parts_of(entrypoint)
    fn = attribute(load_module(place), name)
    if isinstance(fn, Flow):
        return fn
    if not callable(fn):
        msg = f"Function with name {name!r} not found in {place!r}."
        raise MissingFlowError(msg)
    made: Flow[..., Any] = Flow(fn, log_prints=True)
    return made


def load_flow_arguments_from_entrypoint(
    entrypoint: str, arguments: list[str] | None = None
) -> dict[str, Any]:
    """Return what a flow is called and described by, without importing its file.

    Args:
        entrypoint: `path/file.py:function`.
        arguments: which options of `@flow` are wanted: `name`, `description`, `version`, `retries`,
            ...; all that are usual unless given.

    Raises:
        MissingFlowError: there is no such file or function.
    """
    definition, statements, _ = _read(entrypoint)
    wanted = arguments or ["name", "version", "retries", "description", "timeout_seconds"]
    names = _names_of(statements)
    options = _options(definition, names, wanted)
    if "name" in wanted and not options.get("name"):
        options["name"] = definition.name.replace("_", "-")
    told = ast.get_docstring(definition)
    if "description" in wanted and "description" not in options and told:
        options["description"] = told
    return options


def safe_load_flow_from_entrypoint(entrypoint: str) -> Flow[..., Any] | None:
    """Return the flow that an entrypoint names, or None if it cannot be had.

    Where the file does not import, as a package is missing here, the flow is made of the function
    alone: it tells its name, text and parameters, and runs only as far as it needs nothing else.

    Raises:
        MissingFlowError: there is no such file or function.
    """
    definition, statements, outer = _read(entrypoint)
    try:
        return load_flow_from_entrypoint(entrypoint)
    except Exception:  # noqa: BLE001 - the file's own code may raise anything
        return _made_alone(definition, statements, outer)


def _read(entrypoint: str) -> tuple[Function, list[ast.stmt], str | None]:
    """Return a flow's function, the statements of its file, and the name of its class, if any."""
    path, name = parts_of(entrypoint)
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            statements = ast.parse(file.read(), path).body
    except OSError as error:
        msg = f"The file {path!r} cannot be read: {error.strerror}."
        raise MissingFlowError(msg) from None
    outer, _, function = name.rpartition(".")
    for each in _bodies(statements, outer):
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == function:
            return each, statements, outer or None
    msg = f"Could not find flow {name!r} in {path}: no function of that name is defined there."
    raise MissingFlowError(msg)


def _bodies(statements: list[ast.stmt], outer: str) -> Iterator[ast.stmt]:
    if not outer:
        yield from statements
    for each in statements:
        if isinstance(each, ast.ClassDef) and each.name == outer:
            yield from each.body


def _names_of(statements: list[ast.stmt]) -> dict[str, Any]:
    """Return what a file's names mean, as far as its statements can be run."""
    names: dict[str, Any] = {"__name__": "__hpc_flows_reading__"}
    for each in statements:
        if _is_main_guard(each):
            continue
        _run(each, names)
    return names


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _run(statement: ast.stmt, names: dict[str, Any]) -> None:
    module = ast.Module([statement], type_ignores=[])
    code = compile(ast.fix_missing_locations(module), "<flow>", "exec")
    try:
        exec(code, names)  # noqa: S102 - the user's own flow file, that is to be loaded
    except Exception:  # noqa: BLE001 - what the statement needs is not here
        return


def _options(definition: Function, names: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Return the options of `@flow` that can be told."""
    found: dict[str, Any] = {}
    for decorator in _decorators(definition):
        for keyword in decorator.keywords:
            if keyword.arg in wanted and _known(keyword.value, names) is not None:
                found[str(keyword.arg)] = _value(keyword.value, names)
    return found


def _decorators(definition: Function) -> Iterator[ast.Call]:
    """Yield `flow(...)` of a function's decorators."""
    for each in definition.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] == "flow":
            yield each


def _value(expression: ast.expr, names: dict[str, Any]) -> Any:
    code = compile(ast.fix_missing_locations(ast.Expression(expression)), "<flow>", "eval")
    return eval(code, names)  # noqa: S307 - as in `_run`


def _made_alone(
    definition: Function, statements: list[ast.stmt], outer: str | None
) -> Flow[..., Any] | None:
    """Return a flow of the function alone, or None if its options cannot be told."""
    names = _names_of(statements)
    asked = [keyword.value for each in _decorators(definition) for keyword in each.keywords]
    if any(_known(expression, names) is None for expression in asked):
        return None
    options = _options(definition, names, ["name", "version", "retries", "description"])
    bare = _bare(definition, names)
    _run(bare, names)
    fn = names.get(definition.name)
    if fn is None or (outer is not None and fn.__code__.co_varnames[:1] == ("self",)):
        return None
    made: Flow[..., Any] = Flow(fn, **options)
    return made


def _bare(definition: Function, names: dict[str, Any]) -> Function:
    """Return the function without decorators; annotations and defaults without meaning are None."""
    definition.decorator_list = []
    arguments = definition.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = _known(argument.annotation, names)
    definition.returns = None
    arguments.defaults = [_known(each, names) or ast.Constant(None) for each in arguments.defaults]
    arguments.kw_defaults = [
        each if each is None else _known(each, names) or ast.Constant(None)
        for each in arguments.kw_defaults
    ]
    return definition


def _known(expression: ast.expr | None, names: dict[str, Any]) -> ast.expr | None:
    """Return an expression if it has a value here."""
    if expression is None:
        return None
    try:
        _value(expression, names)
    except Exception:  # noqa: BLE001 - what the expression needs is not here
        return None
    return expression
