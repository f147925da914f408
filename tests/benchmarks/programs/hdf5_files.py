"""Write a value to an HDF5 file and read it again.

Usage: python hdf5_files.py hpc_flows|h5py array|dict|table MEGABYTES FOLDER

Prints the best of three, in seconds: `write` until the file has its name, `stored` until it is on
the disk, `read` until the value is back in memory. The numbers are random, so that nothing can be
compressed away.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import h5py
import numpy as np

SIDE, KIND, MEGABYTES, FOLDER = sys.argv[1:5]
COLUMNS = 8


def value() -> Any:
    """Return the value to write."""
    random = np.random.default_rng(1)
    count = int(MEGABYTES) * 1_000_000 // 8
    if KIND == "array":
        return random.random((count // 1000, 1000))
    parts = {f"part {at}": random.random(count // COLUMNS) for at in range(COLUMNS)}
    if KIND == "dict":
        return parts
    import pandas as pd

    return pd.DataFrame(parts)


def write_by_hand(path: str, content: Any, *, fsync: bool) -> None:
    """Write as one does who knows h5py and what is in the value."""
    with h5py.File(path, "w") as file:
        if KIND == "array":
            file["value"] = content
        else:
            for name in content:
                file[name] = content[name] if KIND == "dict" else content[name].to_numpy()
    if fsync:
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def read_by_hand(path: str) -> Any:
    """Read as one does who knows h5py and what is in the file."""
    with h5py.File(path) as file:
        if KIND == "array":
            return file["value"][()]
        parts = {name: file[name][()] for name in file}
    if KIND == "dict":
        return parts
    import pandas as pd

    return pd.DataFrame(parts, copy=False)


def write(path: str, content: Any, *, fsync: bool) -> None:
    """Write as results are written."""
    from hpc_flows.serializers import HDF5Serializer

    HDF5Serializer(fsync=fsync).dump(content, path)


def read(path: str) -> Any:
    """Read as results are read."""
    from hpc_flows.serializers import HDF5Serializer

    return HDF5Serializer().load(path)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and what it returns."""
    begin = time.perf_counter()
    found = function()
    return time.perf_counter() - begin, found


def main() -> None:
    """Write and read, and check what came back."""
    content = value()
    writer, reader = (write, read) if SIDE == "hpc_flows" else (write_by_hand, read_by_hand)
    path = os.path.join(FOLDER, f"bench-{os.getpid()}.h5")
    try:
        writer(path, content[:1] if KIND != "dict" else {}, fsync=False)
        reader(path)  # so that everything is loaded
        taken = {"write": [], "stored": [], "read": []}
        for figure, fsync in [("write", False), ("stored", True)] * 3:
            os.unlink(path)
            os.sync()
            taken[figure].append(timed(partial(writer, path, content, fsync=fsync))[0])
            seconds, again = timed(partial(reader, path))
            taken["read"].append(seconds)
    finally:
        if os.path.exists(path):
            os.unlink(path)
    same = (
        np.array_equal(again, content)
        if KIND == "array"
        else all(np.array_equal(again[name], content[name]) for name in content)
    )
    if not same:
        sys.exit("something else came back")
    print(json.dumps({figure: min(seconds) for figure, seconds in taken.items()}))


main()
