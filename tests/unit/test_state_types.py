"""StateType is an enumeration in all that users see, though none of the enum module's."""

from __future__ import annotations

import copy
import json
import pickle
from enum import Enum

import pytest

from hpc_flows.states import StateType


class Model(str, Enum):  # noqa: UP042 - what StateType stands for
    RUNNING = "RUNNING"


def test_there_are_nine_in_prefects_order() -> None:
    assert [type_.name for type_ in StateType] == [
        "SCHEDULED",
        "PENDING",
        "RUNNING",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "CRASHED",
        "PAUSED",
        "CANCELLING",
    ]
    assert len(StateType) == 9
    assert list(StateType.__members__) == [type_.value for type_ in StateType]


def test_it_prints_as_an_enumeration_of_texts_does() -> None:
    for show in (str, repr, format, "{}".format, "%s".__mod__):
        assert show(StateType.RUNNING).replace("StateType", "Model") == show(Model.RUNNING)


def test_it_is_a_text_and_compares_as_one() -> None:
    assert StateType.RUNNING == "RUNNING"
    assert {"RUNNING": 1}[StateType.RUNNING] == 1
    assert json.dumps(StateType.RUNNING) == '"RUNNING"'
    assert type(StateType.RUNNING.value) is str


def test_each_type_is_one_object_however_it_is_had() -> None:
    running = StateType.RUNNING
    assert StateType("RUNNING") is running
    assert StateType(running) is running
    assert StateType["RUNNING"] is running
    assert pickle.loads(pickle.dumps(running)) is running  # noqa: S301 - our own
    assert copy.deepcopy(running) is running
    assert copy.copy(running) is running
    assert "RUNNING" in StateType


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'Runing' is not a valid StateType"):
        StateType("Runing")
    with pytest.raises(ValueError, match="is not a valid StateType"):
        StateType(["RUNNING"])  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        StateType["RUNING"]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        StateType.RUNNING.value = "x"  # type: ignore[misc]


def test_a_state_shows_the_first_line_of_a_long_message() -> None:
    from hpc_flows.states import Crashed

    assert repr(Crashed("It died.\nThe end of its output:\n  bang")) == "Crashed('It died. …')"
    assert repr(Crashed("It died.")) == "Crashed('It died.')"
    assert repr(Crashed()) == "Crashed()"
