"""Names of classes and functions in files and options, and what they name."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def imported(name: str) -> Any:
    """Return what `package.module:Outer.Inner`, `package.module.thing` or `package` names.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has nothing of that name.
    """
    from importlib import import_module  # noqa: PLC0415 - rarely needed

    module, colon, attribute = name.partition(":")
    if colon:
        found: Any = sys.modules.get(module) or import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found
    parent, dot, last = name.rpartition(".")
    if not dot:
        return sys.modules.get(name) or import_module(name)
    try:
        return getattr(sys.modules.get(parent) or import_module(parent), last)
    except (AttributeError, ModuleNotFoundError):
        if parent and _is_class_path(parent):
            return getattr(imported(parent), last)
        return import_module(name)


def _is_class_path(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last[:1].isupper()


def loaded(name: str) -> Any:
    """Return what `package.module:Outer.Inner` names, without loading a module for it.

    A file must not decide which modules are loaded: that runs their code.

    Raises:
        ImportError: the module is not loaded.
        AttributeError: the module has nothing of that name.
    """
    module, _, attribute = name.partition(":")
    if module not in sys.modules:
        raise ImportError(f"{module} is not loaded: `import {module}` first")
    found: Any = sys.modules[module]
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def qualified(class_: type) -> str:
    """Return `package.module:Outer.Inner` of a class."""
    return f"{class_.__module__}:{class_.__qualname__}"


def is_importable(class_: type) -> bool:
    """Tell whether the name of a class leads back to it."""
    try:
        return imported(qualified(class_)) is class_
    except (ImportError, AttributeError):
        return False


def library(name: object, option: str, kind: str, methods: tuple[str, ...]) -> Any:
    """Return the module that an option names, if it has what is needed.

    Raises:
        ValueError: it is no name, cannot be imported or lacks one of `methods`.
    """
    if not isinstance(name, str):
        raise ValueError(_no_name(option, name))  # noqa: TRY004 - pydantic's in Prefect
    try:
        found = imported(name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"Failed to import requested {kind} library: {name!r}: {error}."
        ) from error
    for method in methods:
        if not callable(getattr(found, method, None)):
            raise ValueError(_lacks(kind, name, method))  # noqa: TRY004 - as above
    return found


def _no_name(option: str, found: object) -> str:
    return f"{option} is the name of a module, such as 'zlib', not {found!r}."


def _lacks(kind: str, name: str, method: str) -> str:
    return f"{kind.capitalize()} library at {name!r} does not have a {method!r} method."
