"""What describes a flow: the schema of its parameters, its options as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest

from hpc_flows import flow
from hpc_flows.flows import ParameterSchema
from hpc_flows.task_runners import ThreadPoolTaskRunner


class Grid(pydantic.BaseModel):
    nx: int
    ny: int = 2


@dataclass
class Box:
    side: float


class Colour(Enum):
    RED = "red"


class Opaque:
    """Nothing that JSON could hold."""


@flow
def typed(  # type: ignore[no-untyped-def] # noqa: D417 - one of each kind
    grid: Grid,
    box: Box,
    plain,  # noqa: ANN001
    opaque: Opaque,
    n: int = 3,
    colour: Colour = Colour.RED,
    where: Path | None = None,
    *rest: int,
    mode: Literal["a", "b"] = "a",
    **more: Any,
) -> None:
    """Do it.

    Args:
        grid: the grid
            of points.
        n (int): how many.

    Returns:
        nothing: at all
    """


def test_each_parameter_has_a_schema_with_its_place_and_text() -> None:
    schema = typed.parameters
    assert isinstance(schema, ParameterSchema)
    assert (schema.title, schema.type) == ("Parameters", "object")
    assert schema.required == ["grid", "box", "plain", "opaque"]
    assert list(schema.properties) == [
        "grid", "box", "plain", "opaque", "n", "colour", "where", "mode"
    ]  # fmt: skip
    assert schema.properties["n"] == {
        "title": "n", "position": 4, "type": "integer", "default": 3, "description": "how many."
    }  # fmt: skip
    assert schema.properties["grid"] == {
        "title": "grid",
        "position": 0,
        "$ref": "#/definitions/Grid",
        "description": "the grid of points.",
    }
    assert schema.properties["opaque"] == {"title": "opaque", "position": 3}
    assert schema.properties["colour"]["default"] == "red"
    assert schema.properties["mode"]["enum"] == ["a", "b"]
    assert set(schema.definitions) == {"Grid", "Box"}
    json.dumps(schema.model_dump())


def test_annotations_that_cannot_be_found_leave_parameters_without_a_type() -> None:
    def main(x: NoSuchType) -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert flow(main).parameters.properties == {"x": {"title": "x", "position": 0}}


def test_parameters_become_what_json_holds() -> None:
    values = {"grid": Grid(nx=1), "where": Path("/a"), "odd": Opaque(), "not": float("nan")}
    assert typed.serialize_parameters(values) == {
        "grid": {"nx": 1, "ny": 2},
        "where": "/a",
        "odd": "<Opaque>",
        "not": "NaN",
    }


def test_a_flow_is_described_as_data() -> None:
    def hook(*_: Any) -> None: ...

    @flow(
        name="main",
        version="7",
        retries=2,
        retry_delay_seconds=[1, 2],
        flow_run_name=lambda: "x",
        task_runner=ThreadPoolTaskRunner(),
        on_failure=[hook],
        result_serializer="json",
    )
    def main(x: int = 1) -> None:
        """Say."""

    told = main.model_dump()
    assert json.loads(json.dumps(told)) == told == main.to_dict()
    assert (told["name"], told["version"], told["description"]) == ("main", "7", "Say.")
    assert told["retry_delay_seconds"] == [1, 2]
    assert told["on_failure"][0].endswith("hook")
    assert told["persist_result"] is True
    assert told["parameters"]["properties"]["x"]["default"] == 1


def test_a_flow_says_that_it_cannot_be_deployed_and_how_it_is_run() -> None:
    for name in ("serve", "deploy", "to_deployment"):
        with pytest.raises(AttributeError, match=rf"no {name}\(\).*hpc-flows run"):
            getattr(typed, name)
    with pytest.raises(AttributeError, match="Did you mean 'parameters'"):
        _ = typed.paramters
    assert not hasattr(typed, "_nothing")
