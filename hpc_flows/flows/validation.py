"""Checks parameters against annotations with pydantic, where a quick look does not decide."""

from __future__ import annotations

from contextlib import suppress
from types import GenericAlias, SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import pydantic

from hpc_flows.engine.parameters import defaults_of, variadic_names
from hpc_flows.exceptions import ParameterTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hpc_flows.flows import Flow


def coerced(
    flow: Flow[..., Any], parameters: Mapping[str, Any], names: list[str]
) -> dict[str, Any]:
    """Let pydantic check and convert the parameters of these names.

    A text that is a default becomes what its annotation says, as in `folder: Path = "data"`, but
    stays a text where it cannot: `cells: int = "auto"` is no mistake of who calls the flow.
    """
    defaults = defaults_of(flow.fn)
    texts = {name for name in names if type(parameters[name]) is str}
    usual = [name for name in names if name in texts and parameters[name] is defaults.get(name)]
    for name in usual:
        with suppress(ParameterTypeError):
            parameters = _checked(flow, parameters, [name])
    rest = [name for name in names if name not in usual]
    return _checked(flow, parameters, rest) if rest else dict(parameters)


def _checked(
    flow: Flow[..., Any], parameters: Mapping[str, Any], names: list[str]
) -> dict[str, Any]:
    model = flow._models.get(tuple(names))  # noqa: SLF001 - this function is the flow's own
    if model is None:
        model = _parameter_model(flow, names)
        flow._models[tuple(names)] = model  # noqa: SLF001 - as above
    fields = {f"p{place}": parameters[name] for place, name in enumerate(names)}
    try:
        checked = model(**fields)
    except pydantic.ValidationError as error:
        raise ParameterTypeError(_complaint(flow, names, error)) from None
    good = {name: getattr(checked, f"p{place}") for place, name in enumerate(names)}
    return {**parameters, **good}


def hints_of(fn: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the annotations of these parameters, with texts replaced by what they mean.

    Raises:
        NameError: one names what is not there at run time.
    """
    found = getattr(fn, "__annotations__", {})
    wanted = {name: found[name] for name in names if name in found}
    fn = getattr(fn, "__func__", fn)
    holder: Any = SimpleNamespace(__annotations__=wanted)
    return get_type_hints(holder, getattr(fn, "__globals__", {}), include_extras=True)


def _parameter_model(flow: Flow[..., Any], names: list[str]) -> Any:
    """Return a pydantic model whose field p0, p1, ... are the parameters of these names."""
    try:
        hints = hints_of(flow.fn, names)
    except NameError as error:
        msg = (
            f"An annotation of flow {flow.name!r} cannot be found: {error}. Import it at run time, "
            f"or decorate with @flow(validate_parameters=False)."
        )
        raise ParameterTypeError(msg) from error
    rest, more = variadic_names(flow.fn)
    if rest in hints:
        hints[rest] = GenericAlias(tuple, (hints[rest], ...))
    if more in hints:
        hints[more] = GenericAlias(dict, (str, hints[more]))
    fields: Any = {f"p{place}": (hints[name], ...) for place, name in enumerate(names)}
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    return pydantic.create_model("Parameters", __config__=config, **fields)


def _complaint(flow: Flow[..., Any], names: list[str], error: Any) -> str:
    lines = [f"Flow {flow.name!r} was called with parameters that do not fit its annotations:"]
    for problem in error.errors(include_url=False):
        place, *inner = problem["loc"]
        name = ".".join([names[int(str(place)[1:])], *map(str, inner)])
        value = problem["input"]
        given = f"{value!r}, of type {type(value).__name__}"
        lines.append(f"  {name}: {problem['msg']} (given: {given})")
    return "\n".join(lines)
