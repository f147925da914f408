"""What describes a flow to others: the JSON schema of its parameters, its options as data."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema

from hpc_flows.flows.validation import hints_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hpc_flows.flows import Flow


class ParameterSchema(pydantic.BaseModel):
    """The JSON schema of a function's parameters.

    Attributes:
        title: `Parameters`.
        type: `object`.
        properties: the schema of each parameter, with its `position` and `title`.
        required: names of the parameters that have no default.
        definitions: schemas that the properties refer to.
    """

    title: str = "Parameters"
    type: str = "object"
    properties: dict[str, Any] = pydantic.Field(default_factory=dict)
    required: list[str] = pydantic.Field(default_factory=list)
    definitions: dict[str, Any] = pydantic.Field(default_factory=dict)


class _Lenient(GenerateJsonSchema):
    """Says nothing of types that JSON does not have, instead of raising."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's

    def handle_invalid_for_json_schema(self, *_: Any) -> dict[str, Any]:
        return {}


def parameter_schema(fn: Callable[..., Any]) -> ParameterSchema:
    """Return the JSON schema of a function's parameters."""
    told = _told_parameters(fn)
    schema = ParameterSchema()
    for position, parameter in enumerate(inspect.signature(fn).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        found, definitions = _schema_of(_hint(fn, parameter.name))
        schema.definitions.update(definitions)
        property_ = {"position": position, "title": parameter.name, **found}
        property_["title"] = parameter.name
        if parameter.name in told:
            property_["description"] = told[parameter.name]
        if parameter.default is parameter.empty:
            schema.required.append(parameter.name)
        else:
            property_["default"] = _safe(parameter.default)
        schema.properties[parameter.name] = property_
    return schema


def _hint(fn: Callable[..., Any], name: str) -> Any:
    """Return a parameter's type, which is anything where its annotation is for type checkers."""
    try:
        return hints_of(fn, [name]).get(name, Any)
    except (NameError, TypeError):
        return Any


def _schema_of(hint: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a type, and the definitions that it refers to."""
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    try:
        try:
            adapter: Any = pydantic.TypeAdapter(hint, config=config)
        except pydantic.PydanticUserError:  # a model, which has its own configuration
            adapter = pydantic.TypeAdapter(hint)
        found = adapter.json_schema(ref_template="#/definitions/{model}", schema_generator=_Lenient)
    except (pydantic.PydanticUserError, TypeError, ValueError):
        return {}, {}
    definitions = found.pop("$defs", {})
    if found.get("type") == "object" and "properties" in found:  # a model is referred to by name
        name = found["title"]
        return {"$ref": f"#/definitions/{name}"}, {**definitions, name: found}
    return found, definitions


def _told_parameters(fn: Callable[..., Any]) -> dict[str, str]:
    """Return what a docstring of Google's style says of each parameter."""
    lines = (inspect.getdoc(fn) or "").splitlines()
    told: dict[str, str] = {}
    name = None
    inside = False
    for line in lines:
        if not line.startswith(" "):
            inside = line.strip() in {"Args:", "Arguments:", "Parameters:"} or (
                inside and not line.strip()
            )
            continue
        if not inside:
            continue
        indent = len(line) - len(line.lstrip())
        head, colon, text = line.strip().partition(":")
        if indent <= 4 and colon:  # noqa: PLR2004 - one step of indentation
            name = head.split("(")[0].strip().lstrip("*")
            told[name] = text.strip()
        elif name:
            told[name] = f"{told[name]} {line.strip()}".strip()
    return told


def json_safe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON can hold them; what cannot be told is its type's name."""
    return {name: _safe(value) for name, value in values.items()}


#: JSON has no infinity; a text says it.
_ANYTHING: Any = pydantic.TypeAdapter(Any, config=pydantic.ConfigDict(ser_json_inf_nan="strings"))


def _safe(value: Any) -> Any:
    try:
        return json.loads(_ANYTHING.dump_json(value))
    except Exception:  # noqa: BLE001 - what the user's class does to be told may raise anything
        return f"<{type(value).__name__}>"


def described(flow: Flow[..., Any]) -> dict[str, Any]:
    """Return a flow's options and parameters as JSON can hold them."""
    hooks = {
        name: [_name(hook) for hook in getattr(flow, f"{name}_hooks")] for name in flow.hook_names
    }
    return {
        "name": flow.name,
        "description": flow.description,
        "version": flow.version,
        "entrypoint": flow.entrypoint,
        "flow_run_name": _said(flow.flow_run_name),
        "retries": flow.retries,
        "retry_delay_seconds": _said(flow.retry_delay_seconds),
        "timeout_seconds": flow.timeout_seconds,
        "validate_parameters": flow.should_validate_parameters,
        "log_prints": flow.log_prints,
        "persist_result": flow.persist_result,
        "result_storage": _said(flow.result_storage),
        "result_serializer": _said(flow.result_serializer),
        "cache_result_in_memory": flow.cache_result_in_memory,
        "task_runner": None if flow.task_runner is None else repr(flow.task_runner),
        **hooks,
        "parameters": flow.parameters.model_dump(),
    }


def _said(value: Any) -> Any:
    """Return an option as JSON can hold it: a function is its name, an object its repr."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_said(each) for each in value]
    return _name(value) if callable(value) else str(value)


def _name(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", None) or repr(fn))
