"""HDF5: every value comes back as it was, and every other program can read the file."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import re
import subprocess
import sys
import threading
import uuid
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers import Described, HDF5Serializer

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = HDF5Serializer()
WITH_PICKLES = HDF5Serializer(pickle_rest=True)

simple = st.one_of(
    npst.scalar_dtypes(), npst.byte_string_dtypes(min_len=1), npst.unicode_string_dtypes(min_len=1)
)
dtypes = st.one_of(
    simple,
    npst.nested_dtypes(subtype_strategy=simple, max_leaves=6).filter(lambda kind: kind.itemsize),
)
arrays = npst.arrays(dtypes, npst.array_shapes(min_dims=0, min_side=0, max_side=5))
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters()),
    st.binary(max_size=20),
    st.datetimes(),
    st.decimals(allow_nan=False),
)
keys = st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none(), st.binary())
nested = st.recursive(
    scalar,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(keys, st.tuples(keys, keys)), inner, max_size=4),
    ),
    max_leaves=15,
)


def again(value: Any, serializer: HDF5Serializer = PLAIN) -> Any:
    return serializer.loads(serializer.dumps(value))


def assert_same_array(found: Any, array: Any) -> None:
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(array).tobytes()


def assert_same(found: Any, value: Any) -> None:
    """Compare values and, other than `==`, all their types."""
    assert type(found) is type(value)
    if isinstance(value, dict):
        assert list(map(repr, found)) == list(map(repr, value))
        for one, other in zip(found.values(), value.values(), strict=True):
            assert_same(one, other)
    elif isinstance(value, list | tuple):
        assert len(found) == len(value)
        for one, other in zip(found, value, strict=True):
            assert_same(one, other)
    else:
        assert repr(found) == repr(value)


@calm
@given(array=arrays)
def test_arrays_of_every_type_and_shape_come_back_as_they_were(array: Any) -> None:
    try:
        found = again({"deep": [array]})["deep"][0]
    except ResultError as error:
        # numpy has names with NULs and empty types inside of structures, HDF5 has not.
        if array.dtype.names is None or not re.search("with the (dtype|field)", str(error)):
            raise
        return
    assert_same_array(found, array)


@calm
@given(value=nested)
def test_containers_of_scalars_come_back_with_their_types_and_order(value: Any) -> None:
    assert_same(again(value), value)


@pytest.mark.parametrize(
    "array",
    [
        np.array(5),
        np.array("zero-dimensional"),
        np.zeros((0, 5)),
        np.zeros((3, 0), "U5"),
        np.array(["a", "ßü€", ""]),
        np.array(["ab"], ">U3"),
        np.array([b"a\0b", b""]),
        np.arange(3, dtype=">i4"),
        np.array([1 + 2j], "c8"),
        np.array([1, 2], "longdouble"),
        np.array([True, False]),
        np.zeros(3, "f2"),
        np.array(["2020", "NaT"], "M8[D]"),
        np.array([1, 2], "m8[25s]"),
        np.array([1], ">M8[ns]"),
        np.array([b"\1\2"], "V2"),
        np.array([(1, "ä", 2.0, [1, 2])], [("a", "i4"), ("b", "U3"), ("c", ">f8"), ("d", "i2", 2)]),
        np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.zeros(2, [("a", [("t", "M8[s]"), ("u", "U2")], (2,)), ("b", "?")]),
        np.arange(10)[::3],
        np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_one_array_of_each_kind(array: Any, tmp_path: Path) -> None:
    assert_same_array(again(array), array)
    path = str(tmp_path / "array.h5")
    PLAIN.dump({"in": (array,)}, path)
    assert_same_array(PLAIN.load(path)["in"][0], array)


def test_texts_of_any_length_come_back_as_the_objects_that_they_were() -> None:
    objects = np.array([["a", "bb"], ["", "ü" * 1000]], dtype=object)
    assert again(objects).tolist() == objects.tolist()
    assert again(objects).dtype == object
    assert again(np.array([], dtype=object)).dtype == object


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy before 2.0")
def test_numpys_own_texts_of_any_length_come_back() -> None:
    modern = np.array(["a", "bb"], dtype=np.dtypes.StringDType())
    assert again(modern).dtype == modern.dtype
    assert again(modern).tolist() == ["a", "bb"]


def test_the_order_in_memory_comes_back() -> None:
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    assert again(array).flags.f_contiguous
    assert not again(array).flags.c_contiguous
    assert again(array[:, :2].copy(order="C")).flags.c_contiguous


def test_large_arrays_in_every_order_are_written_in_pieces() -> None:
    array = np.random.default_rng(1).random((3, 1700, 1300)).transpose(2, 0, 1)
    assert_same_array(again(array), array)
    fortran = np.asfortranarray(array)
    assert_same_array(again(fortran), fortran)


@pytest.mark.parametrize("mask", [np.ma.nomask, [False, True, False], True])
def test_masked_arrays_keep_mask_data_and_filling(mask: Any) -> None:
    array = np.ma.MaskedArray([1.5, 2.5, 3.5], mask=mask, fill_value=9, hard_mask=True)
    found = again({"m": array})["m"]
    assert_same_array(found.data, array.data)
    assert np.array_equal(found.mask, array.mask)
    assert found.fill_value == array.fill_value
    assert found.hardmask
    assert (found.mask is np.ma.nomask) == (array.mask is np.ma.nomask)


@pytest.mark.parametrize(
    "value",
    [
        *(np.float64(1.5), np.float32(1), np.int8(3), np.True_, np.str_("a"), np.bytes_(b"a")),
        *(np.datetime64("2020-01-01"), np.complex64(1), np.array((1, 2.0), "i4,f8")[()]),
    ],
    ids=repr,
)
def test_numpys_scalars_are_not_pythons(value: Any) -> None:
    found = again({"v": value})["v"]
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found == value


class Colour(enum.Enum):
    RED = "red"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass(frozen=True)
class Measurement:
    values: Any
    label: str
    made: list[int] = field(default_factory=list)
    derived: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if not self.label:
            msg = "no label"
            raise ValueError(msg)


@dataclass(slots=True)
class Slotted:
    values: Any


def test_dataclasses_and_named_tuples_are_made_again_without_being_called() -> None:
    value = Measurement(np.arange(3), "x", [1])
    object.__setattr__(value, "derived", 4.0)
    object.__setattr__(value, "label", "")  # so that __init__ would raise
    found = again({"m": value, "p": Pair(np.ones(2), [Slotted(7)])})
    assert type(found["m"]) is Measurement
    assert (found["m"].label, found["m"].made, found["m"].derived) == ("", [1], 4.0)
    assert_same_array(found["m"].values, value.values)
    assert type(found["p"]) is Pair
    assert found["p"].second == [Slotted(7)]


@dataclass
class Model:
    weights: Any

    def __post_init__(self) -> None:
        self.places = {name: at for at, name in enumerate(self.weights)}


class Labelled(Pair):
    """A named tuple that can be given attributes, which one made by NamedTuple cannot."""


def test_what_an_object_keeps_beside_its_fields_comes_back_with_it(tmp_path: Path) -> None:
    pair = Labelled(1, 2)
    pair.label = "x"  # type: ignore[attr-defined]  # as users do
    found = again({"m": Model({"a": 1.5, "b": 2.5}), "p": pair})
    assert found["m"].places == {"a": 0, "b": 1}
    assert (type(found["p"]), found["p"], found["p"].label) == (Labelled, pair, "x")
    bad = Model({"a": 1.5})
    bad.places = {"a": object()}  # type: ignore[dict-item]  # what has no form
    with pytest.raises(ResultError, match=r"no form for the value\.places\['a'\]"):
        PLAIN.dump(bad, str(tmp_path / "bad.h5"))


def test_numbers_of_more_digits_than_python_writes_come_back() -> None:
    assert again([10**5000, {"a": -(10**5000)}]) == [10**5000, {"a": -(10**5000)}]


def test_texts_in_columns_order_come_back_in_it() -> None:
    found = again(np.asfortranarray(np.array([["a", "b"], ["c", "d"]], dtype=object)))
    assert found.flags.f_contiguous
    assert found.tolist() == [["a", "b"], ["c", "d"]]


def test_fields_that_share_their_bytes_are_refused_with_the_reason() -> None:
    kind = np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2]})
    with pytest.raises(ResultError, match="whose fields overlap"):
        again(np.zeros(2, kind))
    assert again(np.ones(2, kind), WITH_PICKLES)["b"].tolist() == np.ones(2, kind)["b"].tolist()


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.date(2026, 1, 1),
        dt.time(1, 2, 3, 4),
        dt.timedelta(-1, 3, 4),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
        Path("/scratch/data"),
        # A moment that the clocks leave out, and the ends of time, which no other zone has.
        dt.datetime(2024, 3, 31, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime.min.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime.max.replace(tzinfo=zoneinfo.ZoneInfo("America/New_York")),
        Colour.RED,
        Access.READ | Access.WRITE,
        Access(0),
        2**70,
        "a\0b",
        "a\0b" * 40_000,
        "\ud800" * 40_000,
        "\ud800",
        "x" * 200_000,
        b"\0" * 100_000,
        bytearray(b""),
        {1, 2},
        frozenset({"a"}),
        collections.OrderedDict(b=1, a=2),
        collections.Counter("aab"),
        {"": 1, ".": 2, "a/b": 3, "hpc_flows": 4, "hpc_flows_hdf5": 5, "1": 6, 1: 7, "a\0": 8},
        {np.int64(3): 1, np.str_("x"): 2, 2.5: 3, float("inf"): 4, dt.date(2026, 1, 1): 5},
        {f"name {number}": number for number in range(600)},
        {f"n{number}": [None, "x", 1.5, b"q", 2**80][number % 5] for number in range(400)},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_that_hdf5_has_no_word_for_come_back(value: Any) -> None:
    found = again([value, {"deep": value}])
    assert found == [value, {"deep": value}]
    assert type(found[0]) is type(value)
    assert again(value) == value
    if isinstance(value, dict):
        assert [type(key) for key in again(value)] == [type(key) for key in value]


def test_a_described_value_keeps_its_units_where_other_programs_look(tmp_path: Path) -> None:
    path = str(tmp_path / "field.h5")
    value = {
        "t2m": Described(np.arange(6.0).reshape(2, 3), units="K", levels=[2.0, 10.0], n=3),
        "mean": Described(281.5, units="K"),
        "run": Described({"x": 1}, author="me", weights=np.arange(3)),
    }
    PLAIN.dump(value, path)
    with h5py.File(path) as file:
        assert file["t2m"].attrs["units"] == "K"
        assert list(file["t2m"].attrs["levels"]) == [2.0, 10.0]
        assert file["mean"][()] == 281.5
        assert file["run"].attrs["author"] == "me"
    found = PLAIN.load(path)
    assert found["t2m"] == value["t2m"]
    assert type(found["t2m"].attributes["n"]) is int
    assert type(found["t2m"].attributes["levels"]) is list
    assert found["mean"] == value["mean"]
    assert found["run"].value == {"x": 1}
    assert found["run"].attributes["weights"].tolist() == [0, 1, 2]
    assert np.mean(found["t2m"]) == 2.5
    with pytest.raises(ResultError, match=r"attributes\['bad'\].*beside the value, in a dict"):
        PLAIN.dumps(Described(np.ones(3), bad=object()))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ([1, {"a": {2: [object()]}}], r"the value\[1\]\['a'\]\[2\]\[0\], of type 'object'"),
        ({"a": np.array(["x", 1], dtype=object)}, r"the value\['a'\]\[1\], of type 'int'"),
        (np.array([(1, None)], "i4,O"), r"the value\['f1'\], of type 'NoneType'"),
        (Measurement([object()], "x"), r"the value\.values\[0\]"),
        (np.ones(2).view(type("Sub", (np.ndarray,), {})), "of type 'Sub'"),
        ({"t": dt.datetime(2026, 1, 1, tzinfo=type("Z", (dt.tzinfo,), {})())}, r"\['t'\]"),
    ],
)
def test_what_has_no_form_is_refused_by_its_place_and_can_be_pickled(
    value: Any, where: str
) -> None:
    with pytest.raises(ResultError, match=rf"(?s){where}.*HDF5Serializer\(pickle_rest=True\)"):
        PLAIN.dumps(value)


def test_keys_that_have_no_form_are_refused_even_beside_pickles() -> None:
    with pytest.raises(ResultError, match=r"the key of the value\['k'\].*Use keys of text"):
        WITH_PICKLES.dumps({"k": {threading.Thread: 1}})


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ResultError, match=r"the value\[0\] contains itself"):
        PLAIN.dumps(loop)


def test_a_value_that_is_nested_too_deeply_is_refused_and_leaves_hdf5_to_other_threads() -> None:
    deep: Any = np.arange(2)
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(ResultError, match="nested too deeply"):
        PLAIN.dumps(deep)
    assert _in_a_thread(lambda: PLAIN.loads(PLAIN.dumps([1, 2.5]))) == [1, 2.5]


def test_a_file_whose_groups_lead_in_a_circle_is_told_and_leaves_hdf5_to_other_threads(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "circle.h5")
    with h5py.File(path, "w") as file:
        file.create_group("a")["up"] = file["/"]
        file.attrs["note"] = "of another program"
    with pytest.raises(ResultError, match="contains itself") as kept:
        PLAIN.load(path)
    assert _in_a_thread(lambda: PLAIN.loads(PLAIN.dumps([1]))) == [1]
    assert "/a/up" in str(kept.value)


def _in_a_thread(call: Callable[[], Any]) -> Any:
    """Return what a call gives in another thread, for which it has two minutes."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(120)
    assert found, "the thread waits for a lock of h5py's that was left taken"
    return found[0]


def test_pickles_inside_are_loaded_only_by_those_who_asked() -> None:
    data = WITH_PICKLES.dumps({"x": np.arange(3), "odd": [slice(1, 2)]})
    assert WITH_PICKLES.loads(data)["odd"] == [slice(1, 2)]
    with pytest.raises(ResultError, match=r"/odd/0 is a pickle of a builtins:slice.*if you trust"):
        PLAIN.loads(data)
    with pytest.raises(ResultError, match="cannot be pickled"):
        WITH_PICKLES.dumps([threading.Lock()])


def test_a_class_that_is_gone_or_has_changed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = PLAIN.dumps(Measurement([1], "x"))
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[__name__], "Measurement")
        with pytest.raises(ResultError, match=r"cannot be had here.*through a result handle"):
            PLAIN.loads(data)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "Measurement", Slotted)
        with pytest.raises(ResultError, match="no longer has: derived, label, made"):
            PLAIN.loads(data)
        patch.setattr(sys.modules[__name__], "Measurement", print)
        with pytest.raises(ResultError, match="is no dataclass"):
            PLAIN.loads(data)


def test_a_file_cannot_have_a_module_loaded(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("import enum\nprint('loaded')\nclass E(enum.Enum): A = 1")
    start = "from hpc_flows.serializers import HDF5Serializer as H; "
    write = "from loud import E; H().dump(E.A, 'e.h5'); print(H().load('e.h5'))"
    first, second = (
        subprocess.run(
            [sys.executable, "-c", start + code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for code in (write, "H().load('e.h5')")
    )
    assert first.stdout.split() == ["loaded", "E.A"]
    assert second.stdout == ""
    assert "loud is not loaded: `import loud` first" in second.stderr


def test_classes_without_a_name_are_refused_when_they_are_written() -> None:
    @dataclass
    class Local:
        x: int

    with pytest.raises(ResultError, match="cannot be imported by its name"):
        PLAIN.dumps([Local(1)])
