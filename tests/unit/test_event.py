"""Events and their spelling."""

from __future__ import annotations

import json
import math
import pathlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_flows import Resources
from hpc_flows.journal import event as event_module
from hpc_flows.journal.event import (
    LONGEST_MESSAGE,
    Event,
    Lines,
    encode,
    hide,
    run_text,
    seal,
    shortened,
    state_text,
    told_request,
)
from hpc_flows.journal.reader import NewerVersionError, decode
from hpc_flows.logging.lines import Lines as OutputLines
from hpc_flows.runs import TaskRun
from hpc_flows.states import State, StateType

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def line(**changed: object) -> bytes:
    facts = {
        "v": 1,
        "run": "r",
        "writer": "driver",
        "seq": 1,
        "wall": 2.0,
        "mono": 3.0,
        "kind": "state",
        "data": {},
    } | changed
    return seal(json.dumps(facts).encode())[:-1]


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_what_json_can_say_comes_back_equal(data: dict[str, object]) -> None:
    assert json.loads(encode(data)) == data


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_a_line_has_no_newline_and_no_tab_inside(data: dict[str, object]) -> None:
    text = encode(data)
    assert text.isascii()
    assert "\n" not in text
    assert "\t" not in text


def test_a_line_ends_in_the_checksum_of_its_object() -> None:
    body, tab, checksum = seal(b'{"v":1}').rstrip(b"\n").rpartition(b"\t")
    assert (body, tab) == (b'{"v":1}', b"\t")
    assert int(checksum, 16) == zlib.crc32(body)
    assert len(checksum) == 8


def test_numbers_that_json_lacks_become_words_and_not_an_error() -> None:
    said = json.loads(encode({"a": math.nan, "b": [math.inf], "c": 10**5000}))
    assert said["a"] == "nan"
    assert said["b"] == ["inf"]
    assert isinstance(said["c"], str)


def test_foreign_objects_become_words_and_not_an_error() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    said = json.loads(
        encode({"path": pathlib.Path("/a/b"), "set": {1}, "rude": Rude(), "bytes": b"x" * 5000})
    )
    assert said["path"] == "/a/b"
    assert said["set"] == [1]
    assert "Rude" in said["rude"]
    assert len(said["bytes"]) < 2000


def test_keys_that_are_no_texts_become_texts() -> None:
    assert json.loads(encode({"a": {(1, 2): 3}})) == {"a": {"(1, 2)": 3}}


def test_a_circle_does_not_stop_the_journal() -> None:
    circle: dict[str, object] = {}
    circle["me"] = circle
    assert "me" in json.loads(encode(circle))


def test_an_event_is_known_by_writer_and_number() -> None:
    event = Event("r", "driver", 7, 1.5, 2.5, "log", {"message": "hi"})
    assert event.id == "driver:7"
    assert event.order == (1.5, "driver", 7)
    assert event == Event("r", "driver", 7, 1.5, 2.5, "log", {"message": "hi"})
    assert event != Event("r", "driver", 7, 1.5, 2.5, "log", {"message": "ho"})


def test_a_line_reads_as_the_event_that_it_says() -> None:
    event = decode(line(seq=4, data={"a": "é"}))
    assert (event.seq, event.wall, event.kind, event.data) == (4, 2.0, "state", {"a": "é"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"v": 0},
        {"v": "1"},
        {"seq": 0},
        {"seq": -1},
        {"seq": 1.5},
        {"seq": True},
        {"seq": 2**70},
        {"wall": "now"},
        {"wall": None},
        {"wall": 10**400},
        {"mono": True},
        {"kind": 3},
        {"data": []},
        {"run": None},
        {"writer": 1},
    ],
)
def test_a_right_checksum_does_not_save_a_wrong_field(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"wrong|not a|fields|Exceeds"):
        decode(line(**wrong))


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"{}", b"", b"\xff", b"[" * 100_000])
def test_a_right_checksum_does_not_make_an_event(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is counted as a bad line
        decode(seal(body)[:-1])


def test_undefined_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        decode(line(wall=math.nan))


def test_a_newer_version_is_told_from_damage() -> None:
    with pytest.raises(NewerVersionError):
        decode(line(v=2))


@given(st.integers(0, 200), st.integers(1, 255))
def test_one_changed_byte_is_noticed(at: int, change: int) -> None:
    good = bytearray(line(data={"id": "abc"}))
    good[at % len(good)] ^= change
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is counted as a bad line
        decode(bytes(good))


@given(
    name=st.text(), message=st.none() | st.text(), details=st.dictionaries(st.text(), json_values)
)
def test_what_is_said_of_a_state_is_json_whatever_its_texts(
    name: str, message: str | None, details: dict[str, object]
) -> None:
    run = TaskRun("add", "m:add")
    state = State(StateType.FAILED, name, message, details=details)
    told = {
        "subject": "task",
        "id": run.id,
        "type": "FAILED",
        "name": state.name,
        "attempt": 0,
    }
    told |= ({"message": message} if message else {}) | ({"details": details} if details else {})
    assert json.loads(state_text("task", run, state)) == told


@given(name=st.text(min_size=1), tags=st.sets(st.text()), index=st.none() | st.integers(0))
def test_what_is_said_of_a_task_run_is_json_whatever_its_texts(
    name: str, tags: set[str], index: int | None
) -> None:
    run = TaskRun(
        "ädd", 'm:"add"', name, tags=tuple(sorted(tags)), upstream=("a", "b"), map_index=index
    )
    assert json.loads(run_text(run, {})) == {
        "id": run.id,
        "name": name,
        "task": "ädd",
        "key": 'm:"add"',
        "flow_run": None,
        "upstream": ["a", "b"],
        "resources": None,
        "tags": sorted(tags),
        "map_index": index,
    }


def test_what_runs_have_in_common_is_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_module, "_MOST_ALIKE", 3)
    made = [
        TaskRun("f", "m:f", flow_run_id=flow, tags=tags, resources=resources)
        for flow in ("one", "two")
        for tags in ((), ("gpu",))
        for resources in (None, Resources(cpus=2), Resources(cpus=4))
    ]
    alike: dict[tuple[object, ...], str] = {}
    for run in [*made, *made]:
        told = json.loads(run_text(run, alike))
        resources = None if run.resources is None else run.resources.to_dict()
        assert (told["id"], told["flow_run"]) == (run.id, run.flow_run_id)
        assert (told["tags"], told["resources"]) == (list(run.tags), resources)
    assert len(alike) <= 3


def test_a_line_is_whole_also_when_the_machine_has_just_been_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_module, "monotonic_ns", lambda: 12_345_678)
    number, made = Lines("r", "w").make("state", "{}")
    event = decode(made[:-1])
    assert (number, event.seq, event.mono, event.kind) == (1, 1, 0.012345, "state")


def test_t5_a_journal_tells_the_names_of_a_tasks_variables_and_not_what_is_in_them() -> None:
    asked = Resources(cpus=2, environment={"API_TOKEN": "canary-91c7", "OMP_NUM_THREADS": 4})
    told = told_request(asked)
    assert told == {
        "cpus": 2,
        "environment": {"API_TOKEN": "********", "OMP_NUM_THREADS": "********"},
    }
    assert Resources.from_dict(told).describe() == asked.describe()
    assert told_request(Resources(cpus=2)) == {"cpus": 2}
    assert "canary-91c7" in asked.environment.values()


def test_t5_a_key_of_the_settings_is_in_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_module, "_secrets", ())
    keys = ["pnu_0123456789abcdef", 'ada:"quoted" \u00e9 word']
    hide([*keys, "short"])
    facts = {"message": f"{keys} and short", "nested": [{keys[0]: keys[1]}]}
    made = decode(Lines("r", "w").make("log", encode(facts))[1][:-1])
    assert made is not None
    assert made.data["nested"] == [{"********": "********"}]
    assert made.data["message"].endswith("and short")
    assert not any(key in made.data["message"] for key in keys)


@pytest.mark.parametrize("kept", range(5, 22, 4))
def test_t5_what_is_left_of_a_key_where_a_long_text_is_cut_is_in_no_event(
    monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    key = "pnu_0123456789abcdefgh"
    monkeypatch.setattr(event_module, "_secrets", ())
    hide([key])
    environment = f"{'x' * (LONGEST_MESSAGE - kept)}{key} and more"
    assert key[:5] not in shortened(environment)
    assert shortened(environment).startswith("x" * (LONGEST_MESSAGE - kept) + "********… (cut")

    class Environment:
        def __repr__(self) -> str:
            return "x" * (1000 - kept) + key + " and more"

    assert encode(Environment()) == '"' + "x" * (1000 - kept) + '********\\u2026"'
    lines = OutputLines(longest=100)
    (line,) = lines.feed(b"x" * (100 - kept) + key.encode() + b" and more\n")
    assert line.startswith("x" * (100 - kept) + "********… (cut")
