"""How an attribute of `runtime` is found: looked up now, or overridden by the environment."""

from __future__ import annotations

import os

from hpc_flows.context import current
from hpc_flows.exceptions import close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Any

#: What a name of an overriding variable begins with; the first that is set wins.
PREFIXES = ("HPC_FLOWS__", "PREFECT__")


def find(
    noun: str,
    fields: Mapping[str, Callable[[], Any]],
    name: str,
    kind: Callable[[str], Any] | None = None,
) -> Any:
    """Return the attribute `name` of `runtime.<noun>`.

    Args:
        noun: `flow_run`, `task_run`, `deployment` or `job`.
        fields: what gives each attribute its value.
        name: the attribute; `get_<name>` returns the function that gives it.
        kind: makes the value of an overriding text, where the real one may be None.

    Raises:
        AttributeError: it has none of that name, and the environment does not set it.
        ValueError: the environment sets one that is a list or a dict.
    """
    if name.startswith("get_") and name[4:] in fields:
        return fields[name[4:]]
    override = overriding(f"RUNTIME__{noun.upper()}__{name.upper()}")
    lookup = fields.get(name)
    if lookup is None:
        if override is not None and not name.startswith("_"):
            return override
        msg = f"runtime.{noun} has no attribute {name!r}.{close_match(name, fields)}"
        raise AttributeError(msg)
    if override is None:
        return lookup()
    return kind(override) if kind else _converted(lookup(), override, f"{noun}.{name}")


def overriding(name: str) -> str | None:
    """Return the environment's value for `HPC_FLOWS__<name>` or `PREFECT__<name>`, or None."""
    found = (os.environ.get(prefix + name) for prefix in PREFIXES)
    return next((text for text in found if text is not None), None)


def _converted(real: Any, text: str, what: str) -> Any:
    """Return a text as the type that the attribute has now; text where it is None."""
    kind = type(real).__name__
    if real is None or kind == "str":
        return text
    convert = _CONVERSIONS.get(kind)
    if convert is None:
        msg = (
            f"runtime.{what} is a {kind}, which cannot be mocked by an environment variable. "
            f"Replace it with pytest's monkeypatch.setitem(FIELDS, ...) instead."
        )
        raise ValueError(msg)
    try:
        return convert(text)
    except ValueError:
        msg = f"The environment sets runtime.{what} to {text!r}, which is no {kind}."
        raise ValueError(msg) from None


def _moment(text: str) -> datetime:
    """Return a time as an aware one; without a zone it is UTC."""
    from datetime import UTC, datetime  # noqa: PLC0415 - only where a test overrides a time

    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


_CONVERSIONS: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": float,
    "datetime": _moment,
}


def id_of_flow_run() -> str | None:
    """Return the id of the innermost flow run, or what `PREFECT__FLOW_RUN_ID` says."""
    context = current()
    if context is not None and context.flow_run is not None:
        return context.flow_run.id
    return overriding("FLOW_RUN_ID")
