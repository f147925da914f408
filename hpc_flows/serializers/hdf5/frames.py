"""Tables of pandas: a group whose members are the columns, each as an array."""

from __future__ import annotations

from json import dumps, loads
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.hdf5 import scalars
from hpc_flows.serializers.hdf5.arrays import is_text, read_array
from hpc_flows.serializers.hdf5.form import describe, description_of, name_in_file, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py

    from hpc_flows.serializers.hdf5.reader import Reader
    from hpc_flows.serializers.hdf5.writer import Writer

_INDEX = "__index__"
_COLUMNS = "__columns__"
_ATTRS = "__attrs__"
_FREQ = "__freq__"

#: What the codes of a column of objects say: a text, or which of pandas' words for "missing".
_ABSENT = (None, float("nan"), pd.NA)


def filler(writer: Writer, value: Any) -> Callable[[h5py.Group, Any, str], None] | None:
    """Return what writes a table, column or index into a group; None for other things."""
    kind = type(value)
    if kind is pd.DataFrame:
        return lambda group, table, where: _write_table(writer, group, table, where)
    if kind is pd.Series:
        return lambda group, column, where: _write_series(writer, group, column, where)
    if isinstance(value, pd.Index) and kind.__module__.partition(".")[0] == "pandas":
        return lambda group, index, where: _write_index(writer, group, index, where)
    return None


def read(reader: Reader, group: h5py.Group, description: dict[str, Any]) -> Any:
    """Return the table, column or index that a group holds.

    Raises:
        ResultError: it is of a kind that this version does not know.
    """
    kind = description["kind"]
    if kind == "pandas.DataFrame":
        return _read_table(reader, group, description)
    if kind == "pandas.Series":
        return _read_series(reader, group, description)
    if kind in ("pandas.Index", "pandas.RangeIndex", "pandas.MultiIndex"):
        return _read_index(reader, group, description)
    return _read_vector(reader, group)


def _write_table(writer: Writer, group: h5py.Group, table: pd.DataFrame, where: str) -> None:
    taken = {_INDEX, _COLUMNS, _ATTRS}
    names = []
    for at, label in enumerate(table.columns):
        text = "_".join(map(str, label)) if isinstance(label, tuple) else str(label)
        names.append(name_in_file(text, taken))
        column = table.iloc[:, at].array
        _write_vector(writer, group, names[-1], column, f"{where}[{label!r:.80}]")
    _write_index(writer, group.create_group(_INDEX), table.index, f"{where}.index")
    _write_index(writer, group.create_group(_COLUMNS), table.columns, f"{where}.columns")
    if table.attrs:
        writer.write(group, _ATTRS, dict(table.attrs), f"{where}.attrs")
    describe(group, {"kind": "pandas.DataFrame", "columns": names})


def _read_table(reader: Reader, group: h5py.Group, description: dict[str, Any]) -> pd.DataFrame:
    index = reader.read(group[_INDEX])
    arrays = [_read_vector(reader, group[name]) for name in description["columns"]]
    columns = {at: _column(array, index) for at, array in enumerate(arrays)}
    table = pd.DataFrame(columns, index=index, copy=False)
    table.columns = reader.read(group[_COLUMNS])
    if _ATTRS in group:
        table.attrs = reader.read(group[_ATTRS])
    return table


def _column(array: Any, index: pd.Index) -> Any:
    # pandas would take bare objects that are all texts for a column of texts.
    objects = isinstance(array, np.ndarray) and array.dtype.kind == "O"
    return pd.Series(array, index=index, dtype=object, copy=False) if objects else array


def _write_series(writer: Writer, group: h5py.Group, column: pd.Series, where: str) -> None:
    _write_vector(writer, group, "values", column.array, where)
    _write_index(writer, group.create_group(_INDEX), column.index, f"{where}.index")
    if column.attrs:
        writer.write(group, _ATTRS, dict(column.attrs), f"{where}.attrs")
    name = scalars.encode_key(column.name, f"{where}.name")
    describe(group, {"kind": "pandas.Series", "name": name})


def _read_series(reader: Reader, group: h5py.Group, description: dict[str, Any]) -> pd.Series:
    index = reader.read(group[_INDEX])
    name = scalars.decode_key(description["name"])
    array = _column(_read_vector(reader, group["values"]), index)
    column = pd.Series(array, index=index, name=name, copy=False)
    if _ATTRS in group:
        column.attrs = reader.read(group[_ATTRS])
    return column


def _write_index(writer: Writer, group: h5py.Group, index: pd.Index, where: str) -> None:
    names = [scalars.encode_key(name, f"{where}.name") for name in index.names]
    if type(index) is pd.RangeIndex:
        limits = [index.start, index.stop, index.step]
        describe(group, {"kind": "pandas.RangeIndex", "names": names, "range": limits})
        return
    if isinstance(index, pd.MultiIndex):
        for at, (level, codes) in enumerate(zip(index.levels, index.codes, strict=True)):
            _write_index(writer, group.create_group(f"level{at}"), level, f"{where}.levels[{at}]")
            writer.write(group, f"codes{at}", np.asarray(codes), where)
        describe(group, {"kind": "pandas.MultiIndex", "names": names})
        return
    objects = isinstance(index.dtype, np.dtype) and index.dtype.kind == "O"
    if objects and any(type(label) is not str for label in index):
        labels = [dumps(scalars.encode_key(label, where)) for label in index]
        writer.write(group, "values", np.array(labels, dtype=object), where)
        describe(group, {"kind": "pandas.Index", "names": names, "labels": "JSON"})
        return
    freq = None
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and index.freq is not None:
        freq = _frequency(writer, group, index, where)
    _write_vector(writer, group, "values", index.array, where)
    describe(group, {"kind": "pandas.Index", "names": names, "freq": freq})


def _says(name: str, freq: Any) -> bool:
    """Tell whether a frequency can be made again from its name."""
    try:
        return bool(to_offset(name) == freq)
    except ValueError:
        return False


def _frequency(writer: Writer, group: h5py.Group, index: Any, where: str) -> str | None:
    """Return the name of an index's frequency; without one, pickle it and return None."""
    if _says(index.freqstr, index.freq):
        return str(index.freqstr)
    if not writer.pickle_rest:
        why = f", whose frequency {index.freq!r} has no name; `index.freq = None` forgets it"
        refuse(where, index, why)
    writer.pickle(group, _FREQ, index.freq, f"{where}.freq")
    return None


def _read_index(reader: Reader, group: h5py.Group, description: dict[str, Any]) -> pd.Index:
    names = [scalars.decode_key(name) for name in description["names"]]
    if description["kind"] == "pandas.RangeIndex":
        return pd.RangeIndex(*description["range"], name=names[0])
    if description["kind"] == "pandas.MultiIndex":
        count = range(len(names))
        levels = [reader.read(group[f"level{at}"]) for at in count]
        codes = [reader.read(group[f"codes{at}"]) for at in count]
        return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)
    values = _read_vector(reader, group["values"])
    if "labels" in description:
        labels = [scalars.decode_key(loads(label)) for label in values]
        return pd.Index(labels, dtype=object, name=names[0], tupleize_cols=False)
    dtype = object if isinstance(values, np.ndarray) and values.dtype.kind == "O" else None
    index = pd.Index(values, dtype=dtype, name=names[0], copy=False)
    if description.get("freq") and isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
        index.freq = description["freq"]
    if _FREQ in group:
        index.freq = reader.read(group[_FREQ])
    return index


def _write_vector(writer: Writer, group: h5py.Group, name: str, column: Any, where: str) -> None:
    if type(column) is pd.arrays.NumpyExtensionArray:
        column = column.to_numpy()
    dtype = column.dtype
    if isinstance(dtype, pd.StringDtype):
        _write_texts(writer, group.create_group(name), column, where)
    elif isinstance(dtype, pd.CategoricalDtype):
        child = group.create_group(name)
        writer.write(child, "codes", column.codes, where)
        _write_index(writer, child.create_group("categories"), dtype.categories, where)
        describe(child, {"kind": "pandas.Categorical", "ordered": bool(dtype.ordered)})
    elif isinstance(dtype, pd.DatetimeTZDtype):
        _write_moments(writer, group, name, column, where)
    elif isinstance(dtype, np.dtype):
        _write_plain(writer, group, name, column, where)
    elif isinstance(
        column, pd.arrays.IntegerArray | pd.arrays.FloatingArray | pd.arrays.BooleanArray
    ):
        child = group.create_group(name)
        missing = column.isna()
        kind = dtype.numpy_dtype
        writer.write(child, "values", column.to_numpy(kind, na_value=kind.type(0)), where)
        if missing.any():
            writer.write(child, "missing", missing, where)
        describe(child, {"kind": "pandas.nullable", "dtype": str(dtype)})
    elif writer.pickle_rest:
        writer.pickle(group, name, column, where)
    else:
        refuse(where, column, f" with the dtype {dtype}")


def _write_plain(writer: Writer, group: h5py.Group, name: str, column: Any, where: str) -> None:
    array = np.asarray(column)
    if array.dtype.kind != "O":
        writer.write(group, name, array, where)
        return
    absent = [_absent(item) for item in array]
    for at, (item, code) in enumerate(zip(array, absent, strict=True)):
        if code == 0 and (type(item) is not str or not is_text(item)):
            if writer.pickle_rest:
                writer.pickle(group, name, array, where)
                return
            refuse(f"{where}.iloc[{at}]", item, " (an object in a column)")
    child = group.create_group(name)
    _write_words(writer, child, array, np.array(absent, dtype="i1"), where)
    describe(child, {"kind": "pandas.objects"})


def _write_texts(writer: Writer, group: h5py.Group, column: Any, where: str) -> None:
    missing = np.asarray(column.isna())
    array = np.asarray(column, dtype=object)
    for at in np.flatnonzero(~missing):
        if not is_text(array[at]):
            refuse(f"{where}.iloc[{at}]", array[at], ": it holds a NUL or is no Unicode")
    _write_words(writer, group, array, missing, where)
    absent = "NA" if getattr(column.dtype, "na_value", pd.NA) is pd.NA else "nan"
    storage = column.dtype.storage
    describe(group, {"kind": "pandas.string", "storage": storage, "na": absent})


def _write_words(writer: Writer, group: h5py.Group, array: Any, missing: Any, where: str) -> None:
    if missing.any():
        array = np.where(missing.astype(bool), "", array)
        writer.write(group, "missing", missing, where)
    writer.write(group, "values", array, where)


def _write_moments(writer: Writer, group: h5py.Group, name: str, column: Any, where: str) -> None:
    zone = str(column.dtype.tz)
    try:
        known = pd.DatetimeTZDtype(column.dtype.unit, zone) == column.dtype
    except (KeyError, ValueError, TypeError):
        known = False
    if not known:
        refuse(where, column, f" with the dtype {column.dtype}, whose time zone has no name")
    utc = np.asarray(column.tz_convert(None))
    dataset = writer.write(group, name, utc, where)
    describe(dataset, {**description_of(dataset), "kind": "pandas.moments", "zone": zone})


def _absent(item: Any) -> int:
    """Return 0 for what is there, otherwise which word for "missing" it is."""
    if item is None:
        return 1
    if item is pd.NA:
        return 3
    return 2 if type(item) is float and item != item else 0  # noqa: PLR0124 - NaN


def _read_vector(reader: Reader, node: Any) -> Any:
    description = description_of(node)
    kind = description.get("kind")
    if kind is None or not kind.startswith("pandas."):
        return reader.read(node)
    if kind == "pandas.moments":
        return moments(read_array(node, description), description)
    values = reader.read(node["codes" if kind == "pandas.Categorical" else "values"])
    missing = reader.read(node["missing"]) if "missing" in node else None
    if kind == "pandas.Categorical":
        categories = reader.read(node["categories"])
        return pd.Categorical.from_codes(values, categories, ordered=description["ordered"])
    if kind == "pandas.nullable":
        missing = np.zeros(len(values), bool) if missing is None else missing
        return _NULLABLE[values.dtype.kind](values, missing)
    if kind == "pandas.string":
        return _strings(values, missing, description)
    if kind != "pandas.objects":
        raise ResultError(f"{node.name} is of the unknown kind {kind!r}: upgrade hpc_flows.")
    for code, word in enumerate(_ABSENT if missing is not None else (), start=1):
        values[missing == code] = word
    return values


def moments(utc: Any, description: dict[str, Any]) -> Any:
    """Return times with their time zone."""
    return pd.DatetimeIndex(utc).tz_localize("UTC").tz_convert(description["zone"]).array


def _strings(values: Any, missing: Any, description: dict[str, Any]) -> Any:
    absent = pd.NA if description["na"] == "NA" else np.nan
    if missing is not None:
        values[missing] = absent
    for storage in (description["storage"], "python"):
        try:
            return pd.array(values, dtype=_string_dtype(storage, absent))
        except ImportError:  # pyarrow was there when it was written, and is not here
            continue
    raise ResultError("pandas has no texts here: upgrade it.")


def _string_dtype(storage: str, absent: Any) -> Any:
    if absent is pd.NA:
        return pd.StringDtype(storage)
    return pd.StringDtype(storage, na_value=absent)


_NULLABLE: dict[str, Any] = {
    "i": pd.arrays.IntegerArray,
    "u": pd.arrays.IntegerArray,
    "f": pd.arrays.FloatingArray,
    "b": pd.arrays.BooleanArray,
}
