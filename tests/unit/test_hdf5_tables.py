"""Tables of pandas in HDF5: a column is an array, and everything about it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers import HDF5Serializer

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = HDF5Serializer()


def check(value: Any) -> Any:
    """Write and read a value of pandas, and compare everything that pandas can compare."""
    found = PLAIN.loads(PLAIN.dumps(value))
    assert type(found) is type(value)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value)
        assert list(map(str, found.dtypes)) == list(map(str, value.dtypes))
    elif isinstance(value, pd.Series):
        pd.testing.assert_series_equal(found, value)
    else:
        pd.testing.assert_index_equal(found, value, exact=True)
        return found
    pd.testing.assert_index_equal(found.index, value.index, exact=True)
    assert getattr(found.index, "freq", None) == getattr(value.index, "freq", None)
    assert found.attrs == value.attrs
    return found


COLUMNS: dict[str, Any] = {
    "floats": [1.0, 2.0, np.nan],
    "small": np.array([1, 2, 3], "i1"),
    "big-endian": np.array([1, 2, 3], ">i4"),
    "complex": [1j, 2, 3],
    "flags": [True, False, True],
    "texts": ["a", None, "ü"],
    "objects": pd.Series(["x", None, np.nan], dtype=object),
    "strings": pd.array(["a", None, ""], dtype="string"),
    "times": pd.date_range("2020", periods=3, freq="h"),
    "zoned": pd.date_range("2020-10-25", periods=3, freq="h", tz="Europe/Berlin"),
    "offset": pd.to_datetime(["2020-01-01T00:00+02:00"] * 3),
    "spans": pd.to_timedelta([1, 2, 3], unit="s"),
    "category": pd.Categorical(["b", "a", None], categories=["b", "a"], ordered=True),
    "numbers": pd.Categorical([3, 1, 3]),
    "Int64": pd.array([1, None, 3], dtype="Int64"),
    "UInt8": pd.array([1, 2, 3], dtype="UInt8"),
    "Float32": pd.array([1, None, 3], dtype="Float32"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "a/b": [1, 2, 3],
    "": [1, 2, 3],
    "hpc_flows": [1, 2, 3],
    "__index__": [1, 2, 3],
}
TABLE = pd.DataFrame(COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_each_kind_of_column_comes_back(name: str) -> None:
    check(pd.DataFrame({name: COLUMNS[name]}))
    check(TABLE[name])


def test_a_table_of_all_of_them_comes_back_with_its_attributes() -> None:
    table = TABLE.copy()
    table.attrs = {"units": {"floats": "K"}, "made": 3}
    assert check(table).attrs["units"]["floats"] == "K"


@pytest.mark.parametrize(
    "table",
    [
        TABLE.set_index("texts"),
        TABLE.set_index("times"),
        TABLE.set_index("zoned"),
        TABLE.set_index("category"),
        TABLE.set_index(["small", "category", "texts"]),
        pd.DataFrame({"x": range(3)}, index=pd.RangeIndex(5, 11, 2, name="step")),
        pd.DataFrame({"x": range(3)}, index=pd.date_range("2020", periods=3, freq="D", name="d")),
        pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]),
        pd.DataFrame(np.zeros((2, 2)), columns=[3, "a"]),
        pd.DataFrame(np.zeros((2, 2)), columns=[3, 4]),
        pd.DataFrame(np.zeros((2, 2)), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame(index=[1, 2]),
    ],
    ids=lambda table: f"{type(table.index).__name__}-{list(table.columns)!r:.20}",
)
def test_every_index_comes_back(table: pd.DataFrame) -> None:
    check(table)


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([1, 2], name=("a", 1)),
        pd.Series([1.5], name=3, index=["x"]),
        pd.Index([1, 2], name="n"),
        pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["x", None]),
        pd.CategoricalIndex(["a", "b"]),
        pd.timedelta_range("1s", periods=3, freq="1s"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_columns_and_indexes_come_back_alone(value: Any) -> None:
    check(value)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(),
            st.integers(-(2**63), 2**63 - 1),
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.none(),
        )
    )
)
def test_tables_of_any_rows_come_back(rows: list[tuple[float, int, str | None]]) -> None:
    table = pd.DataFrame(rows, columns=["f", "i", "s"]).astype({"f": float, "i": "int64"})
    check(table)
    check(table.astype({"s": object}))


def test_columns_lie_in_the_file_under_their_names(tmp_path: Path) -> None:
    path = str(tmp_path / "table.h5")
    PLAIN.dump({"table": TABLE}, path)
    with h5py.File(path) as file:
        assert list(file["table/small"]) == [1, 2, 3]
        assert list(file["table/strings/values"].asstr()) == ["a", "", ""]
        assert list(file["table/strings/missing"]) == [False, True, False]


@pytest.mark.parametrize(
    ("table", "where"),
    [
        (pd.DataFrame({"p": pd.period_range("2020", periods=2)}), r"the value\['p'\], .*period"),
        (pd.DataFrame({"a": [1, "x"]}), r"the value\['a'\]\.iloc\[0\], of type 'int'"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([1, 0])}), "Sparse"),
    ],
    ids=["period", "mixed", "sparse"],
)
def test_columns_without_a_form_are_refused_by_name_and_can_be_pickled(
    table: pd.DataFrame, where: str
) -> None:
    with pytest.raises(ResultError, match=where):
        PLAIN.dumps(table)
    serializer = HDF5Serializer(pickle_rest=True)
    data = serializer.dumps(table)
    pd.testing.assert_frame_equal(serializer.loads(data), table)
    with pytest.raises(ResultError, match="is a pickle"):
        PLAIN.loads(data)


def test_subclasses_of_tables_are_not_taken_for_tables() -> None:
    class Special(pd.DataFrame):
        pass

    with pytest.raises(ResultError, match=r"of type '.*Special'"):
        PLAIN.dumps(Special({"a": [1]}))


@pytest.mark.parametrize(
    "freq",
    [
        pd.DateOffset(months=1, days=1),
        pd.offsets.BusinessHour(start="10:00"),
        pd.offsets.CustomBusinessDay(holidays=["2020-01-02"]),
        pd.offsets.MonthEnd(normalize=True),
    ],
    ids=repr,
)
def test_a_frequency_without_a_name_is_refused_or_pickled_beside_the_times(freq: Any) -> None:
    table = pd.DataFrame({"x": range(3)}, index=pd.date_range("2020", periods=3, freq=freq))
    with pytest.raises(ResultError, match=r"index, .* has no name; `index\.freq = None` forgets"):
        PLAIN.dumps(table)
    serializer = HDF5Serializer(pickle_rest=True)
    found = serializer.loads(serializer.dumps(table))
    pd.testing.assert_frame_equal(found, table)
    assert found.index.freq == freq
    table.index.freq = None
    check(table)
