"""Keys of caches: what tells inputs apart, so that nobody is given another input's result."""

from __future__ import annotations

import cmath
import collections
import dataclasses
import functools
import math
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

from hpc_flows import flow, task
from hpc_flows.cache_policies import (
    FILES,
    INPUTS,
    TASK_SOURCE,
    files,
    hash_objects,
    task_input_hash,
)
from hpc_flows.exceptions import HashError

if TYPE_CHECKING:
    from pathlib import Path


class Quantity(np.ndarray[Any, Any]):
    """An array with a unit, as astropy, unyt and many a group's own code have it."""

    unit: str | None

    def __new__(cls, values: Any, unit: str) -> Self:
        made = np.asarray(values).view(cls)
        made.unit = unit
        return made

    def __array_finalize__(self, source: Any) -> None:
        self.unit = getattr(source, "unit", None)


class Wrapped:
    """A value with a unit that passes everything else on, as those of pint do."""

    def __init__(self, values: Any, unit: str) -> None:
        self.values, self.unit = values, unit

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.values, name)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.values[place] = value


@dataclasses.dataclass
class Mesh:
    name: str
    cells: dataclasses.InitVar[int] = 0

    def __post_init__(self, cells: int) -> None:
        self._cells = cells

    @functools.cached_property
    def volume(self) -> float:
        return self._cells * 0.5


def both(first: Any, second: Any) -> set[str | None]:
    return {hash_objects(first, raise_on_failure=True), hash_objects(second, raise_on_failure=True)}


def adder(amount: int) -> Any:
    @functools.lru_cache
    def add(value: int) -> int:
        return value + amount

    return add


PAIRS: dict[str, tuple[Any, Any]] = {
    "units of an array": (Quantity([1.0], "m"), Quantity([1.0], "km")),
    "units around an array": (Wrapped(np.ones(2), "m"), Wrapped(np.ones(2), "km")),
    "records and a structured array": (np.rec.array([(1, 2)]), np.array([(1, 2)], "i8,i8")),
    "functions of C of one name": (math.sqrt, cmath.sqrt),
    "functions behind a cache": (adder(1), adder(2)),
    "the order of an ordered dict": (
        collections.OrderedDict([("a", 1), ("b", 2)]),
        collections.OrderedDict([("b", 2), ("a", 1)]),
    ),
    "what a dataclass keeps beside its fields": (Mesh("a", 1), Mesh("a", 2)),
    "numbers of more digits than Python writes": (10**5000, 10**5000 + 1),
}


@pytest.mark.parametrize("name", PAIRS)
def test_inputs_that_differ_have_different_keys(name: str) -> None:
    first, second = PAIRS[name]
    assert len(both(first, second)) == 2
    assert len(both(first, first)) == 1


def test_tables_that_differ_beside_their_values_have_different_keys() -> None:
    pandas = pytest.importorskip("pandas")
    series, kinds = pandas.Series, pandas.CategoricalDtype
    index = pandas.MultiIndex.from_tuples([(1, 2)], names=["x", "y"])
    table = pandas.DataFrame({"a": [1]}, index=index)
    plain = pandas.DataFrame({"a": [1]})
    said, named = plain.copy(), plain.copy()
    said.attrs["units"] = "K"
    named.columns.name = "month"
    twice = pandas.DataFrame([[1, 2]], columns=["a", "a"])
    some, more = kinds(["a"]), kinds(["a", "b"])
    assert len(both(series(["a"], dtype=some), series(["a"], dtype=more))) == 2
    ordered = kinds(["a", "b"], ordered=True)
    assert len(both(series(["a"], dtype=ordered), series(["a"], dtype=more))) == 2
    assert len(both(table, table.rename_axis(["u", "v"]))) == 2
    assert len(both(plain, said)) == 2
    assert len(both(plain, named)) == 2
    assert len(both(twice, twice + 1)) == 2
    assert len(both(twice, twice.copy())) == 1


def test_a_value_that_was_computed_on_demand_does_not_change_the_key() -> None:
    one, two = Mesh("a", 3), Mesh("a", 3)
    assert one.volume == 1.5
    assert len(both(one, two)) == 1


def test_what_lies_between_the_fields_of_a_structure_does_not_count() -> None:
    aligned = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    clean, dirty = np.zeros(3, aligned), np.zeros(3, aligned)
    dirty.view("u1")[:] = 255
    dirty["a"], dirty["b"] = 0, 0
    assert clean.tobytes() != dirty.tobytes()
    assert len(both(clean, dirty)) == 1
    dirty["b"][1] = 2
    assert len(both(clean, dirty)) == 2


def test_an_array_in_a_file_has_the_key_of_an_array_in_memory(tmp_path: Path) -> None:
    in_file = np.memmap(tmp_path / "data", dtype="f8", mode="w+", shape=(3,))
    in_file[:] = 5
    assert len(both(in_file, np.full(3, 5.0))) == 1


# Code ---------------------------------------------------------------------------------------------


def source_key(fn: Any) -> str | None:
    context = SimpleNamespace(task=task(fn))
    return TASK_SOURCE.compute_key(task_ctx=context, inputs={}, flow_parameters={})


def power(exponent: Any, seen: list[Any], function: Any = abs) -> Any:
    calls = 0

    def compute(x: Any) -> Any:
        nonlocal calls
        calls += 1
        seen.append(x)
        return function(x) ** exponent

    return compute


def test_functions_that_one_source_makes_have_keys_of_their_own() -> None:
    seen: list[Any] = []
    square, cube = power(2, seen), power(3, seen)
    before = source_key(square)
    assert before != source_key(cube)
    assert before == source_key(power(2, []))
    assert square(3) == 9  # it counts, and fills a list
    assert source_key(square) == before
    shifted = power(2, seen, lambda x: x + 1), power(2, seen, lambda x: x + 2)
    assert source_key(shifted[0]) != source_key(shifted[1])
    lambdas = [lambda x: x + 1, lambda x: x * 10]
    assert source_key(lambdas[0]) != source_key(lambdas[1])
    context = [SimpleNamespace(task=task(fn)) for fn in (square, cube)]
    assert task_input_hash(context[0], {"x": 1}) != task_input_hash(context[1], {"x": 1})


def test_tasks_that_one_source_makes_are_not_given_each_others_results() -> None:
    tasks = [task(persist_result=True)(power(exponent, [])) for exponent in (2, 3)]

    @flow
    def run() -> list[int]:
        return [each(3) for each in tasks]

    assert run() == [9, 27]


# FILES --------------------------------------------------------------------------------------------


def key_of(**inputs: Any) -> str | None:
    return FILES.compute_key(task_ctx=None, inputs=inputs, flow_parameters=None)


def test_a_change_behind_a_link_to_a_folder_is_seen(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "set", tmp_path / "scratch"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "forcing").write_text("one")
    (folder / "data").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)  # ends all the same
    before = key_of(path=folder)
    assert key_of(path=folder) == before
    (elsewhere / "forcing").write_text("two")
    assert key_of(path=folder) != before


def test_texts_in_lists_that_name_files_are_refused_like_single_ones(tmp_path: Path) -> None:
    data = tmp_path / "data.nc"
    data.write_text("one")
    with pytest.raises(HashError, match=r"'many' holds a text that names a file.*FILES\('many'\)"):
        key_of(many=["no file", str(data)], factor=2)
    assert key_of(many=["no file", "none\0such"]) is None
    with pytest.raises(HashError, match="many"):
        (INPUTS + FILES).compute_key(
            task_ctx=None, inputs={"many": {"a": [str(data)]}}, flow_parameters=None
        )


def test_a_file_that_took_long_to_read_is_believed_by_its_age_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.txt"
    data.write_text("one")
    now = data.stat().st_mtime + 0.001
    monkeypatch.setattr("hpc_flows.cache_policies.files.time.time", lambda: now)
    real, reads = files._read, []

    def slow(path: str) -> Any:
        nonlocal now
        reads.append(path)
        found = real(path)
        now += 1000
        return found

    monkeypatch.setattr(files, "_read", slow)
    first = key_of(path=data)
    assert key_of(path=data) == first
    assert len(reads) == 2
    assert key_of(path=data) == first
    assert len(reads) == 2


def test_a_pipe_is_refused_where_opening_it_would_wait_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HashError, match="it is a pipe"):
        key_of(path=tmp_path)
