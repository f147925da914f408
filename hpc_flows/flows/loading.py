"""From an entrypoint, such as `path/file.py:function` or `package.module:function`, to its flow."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from hpc_flows.engine.definition import Definition
from hpc_flows.exceptions import (
    MissingFlowError,
    ScriptError,
    UnspecifiedFlowError,
    close_match,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from hpc_flows.flows import Flow

__all__ = [
    "find_flow",
    "load_flow_from_entrypoint",
    "load_flow_from_script",
    "load_flows_from_script",
    "load_module",
    "select_flow",
]


def load_flow_from_entrypoint(entrypoint: str) -> Flow[..., Any]:
    """Return the flow that an entrypoint names.

    A file is imported under its own name, with its folder first on the path, so that jobs can
    import it as well; if another module has that name already, it is run under no name at all.

    Args:
        entrypoint: `path/file.py:function`, `package.module:function` or `package.module.function`.

    Raises:
        MissingFlowError: there is no such file, module or flow.
        ScriptError: the file raised an error.
    """
    place, name = parts_of(entrypoint)
    return find_flow(load_module(place), name, place)


def load_flows_from_script(path: str | os.PathLike[str]) -> list[Flow[..., Any]]:
    """Return the flows that a Python file makes or imports.

    Raises:
        MissingFlowError: there is no such file.
        ScriptError: it raised an error.
    """
    return list(flows_of(load_module(os.fspath(path))).values())


def load_flow_from_script(
    path: str | os.PathLike[str], flow_name: str | None = None
) -> Flow[..., Any]:
    """Return the flow of a Python file that has this name, or the only one in it.

    Raises:
        MissingFlowError: there is none.
        UnspecifiedFlowError: there are several, and no name was given.
        ScriptError: the file raised an error.
    """
    return select_flow(
        load_flows_from_script(path), flow_name=flow_name, from_message=f"in script {path!s}"
    )


def select_flow(
    flows: Iterable[Flow[..., Any]], flow_name: str | None = None, from_message: str | None = None
) -> Flow[..., Any]:
    """Return the flow of this name, or the only one.

    Args:
        flows: to choose from.
        flow_name: the name of the flow itself, not of its function.
        from_message: where they are from, for messages.

    Raises:
        MissingFlowError: there is none.
        UnspecifiedFlowError: there are several, and no name was given.
    """
    named = {each.name: each for each in flows}
    where = f" {from_message}" if from_message else ""
    if not named:
        msg = f"No flows found{where}."
        raise MissingFlowError(msg)
    if flow_name and flow_name not in named:
        msg = f"Flow {flow_name!r} not found{where}. Found: {', '.join(named)}."
        raise MissingFlowError(f"{msg}{close_match(flow_name, named)}")
    if not flow_name and len(named) > 1:
        msg = f"Found {len(named)} flows{where}: {', '.join(named)}. Say which one by its name."
        raise UnspecifiedFlowError(msg)
    return named[flow_name] if flow_name else next(iter(named.values()))


def parts_of(entrypoint: str) -> tuple[str, str]:
    """Return the file or module, and the function, that an entrypoint names.

    Raises:
        MissingFlowError: it names no function.
    """
    place, colon, name = entrypoint.rpartition(":")
    if not colon:
        place, _, name = entrypoint.rpartition(".")
    if place and name and not (not colon and name == "py"):
        return place, name
    msg = f"The entrypoint {entrypoint!r} is neither path/file.py:function nor module.function."
    raise MissingFlowError(msg)


# Modules --------------------------------------------------------------------------------------


def load_module(place: str) -> ModuleType:
    """Import a file, or a module by its dotted name.

    Raises:
        MissingFlowError: there is none.
        ScriptError: it raised an error.
    """
    if place.endswith(".py") or os.sep in place or os.path.exists(place):
        return _load_file(os.path.abspath(os.path.expanduser(place)), place)
    if "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    if _spec_of(place) is None:
        msg = f"There is no file and no module {place!r}."
        raise MissingFlowError(msg)
    return _guarded(place, lambda: importlib.import_module(place))


def _spec_of(module: str) -> object | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _load_file(path: str, as_typed: str) -> ModuleType:
    if not os.path.isfile(path):
        msg = f"There is no file {as_typed!r}.{_nearest_file(path)}"
        raise MissingFlowError(msg)
    if not path.endswith(".py"):
        msg = f"{as_typed!r} is not a Python file; give FILE.py:FLOW."
        raise MissingFlowError(msg)
    folder, name = import_name(path)
    if holder_of(name, path) is not None:
        return _guarded(path, lambda: _run_nameless(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    return _guarded(path, lambda: importlib.import_module(name))


def _guarded(place: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except Exception as error:
        raise ScriptError(place, error) from error


def _run_nameless(path: str) -> ModuleType:
    """Run a file whose name is taken; what it defines is sent to jobs by value."""
    stem = os.path.splitext(os.path.basename(path))[0]
    name = f"{stem}__{len(sys.modules)}"
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there while they are made
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def _nearest_file(path: str) -> str:
    try:
        names = os.listdir(os.path.dirname(path))
    except OSError:
        return f" There is no folder {os.path.dirname(path)!r}."
    return close_match(os.path.basename(path), [n for n in names if n.endswith(".py")])


def import_name(path: str) -> tuple[str, str]:
    """Return the folder to import a file from and its dotted name; files of packages keep it."""
    folder, name = os.path.split(os.path.splitext(path)[0])
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        name = f"{package}.{name}"
    return folder, name


def holder_of(name: str, path: str) -> str | None:
    """Return who else has the name that a file would be imported by, or None for nobody."""
    loaded = sys.modules.get(name)
    other = getattr(loaded, "__file__", None) or ("Python itself" if loaded else None)
    if name.partition(".")[0] in sys.stdlib_module_names:
        other = "Python's standard library"
    if other is None or (os.path.exists(other) and os.path.samefile(other, path)):
        return None
    return other


# Flows of a module ----------------------------------------------------------------------------


def flows_of(module: ModuleType) -> dict[str, Flow[..., Any]]:
    """Return a module's flows by the names they have in it."""
    return {name: value for name, value in vars(module).items() if _is_flow(value)}


def _is_flow(value: object) -> bool:
    return isinstance(value, Definition) and value.kind == "flow"


def find_flow(module: ModuleType, name: str, place: str) -> Flow[..., Any]:
    """Return a module's flow of that name, or its only one when the name is empty.

    Raises:
        MissingFlowError: there is none.
        UnspecifiedFlowError: it is not clear which.
    """
    flows = flows_of(module)
    found: Any = attribute(module, name) if name else None
    if not _is_flow(found):
        found = next((each for each in flows.values() if name and each.name == name), None)
    if found is not None:
        flow: Flow[..., Any] = found
        return flow
    own = {n: each for n, each in flows.items() if each.fn.__module__ == module.__name__}
    if not name and len(own) == 1:
        return next(iter(own.values()))
    raise _which_flow(name, place, list(own or flows))


def attribute(module: ModuleType, name: str) -> Any:
    """Return what a dotted name means in a module, or None."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _which_flow(name: str, place: str, known: list[str]) -> MissingFlowError | UnspecifiedFlowError:
    if not known:
        return MissingFlowError(f"{place} has no flow: no function in it is decorated with @flow.")
    if not name:
        return UnspecifiedFlowError(
            f"{place} has several flows; name one: {place}:{known[0]} ({', '.join(known)})."
        )
    match = close_match(name, known) or f" It has: {', '.join(known)}."
    return MissingFlowError(f"{place} has no flow {name!r}.{match}")
