"""How values become bytes and files, and values again.

Each is loaded when it is first used: the job side needs pickle only.
"""

from __future__ import annotations

from hpc_flows.exceptions import SettingsError
from hpc_flows.serializers.base import Serializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.serializers.compressed import (
        CompressedJSONSerializer,
        CompressedPickleSerializer,
        CompressedSerializer,
    )
    from hpc_flows.serializers.described import Described
    from hpc_flows.serializers.hdf5 import HDF5Serializer
    from hpc_flows.serializers.json import (
        JSONSerializer,
        prefect_json_object_decoder,
        prefect_json_object_encoder,
    )
    from hpc_flows.serializers.pickle import PickleSerializer

__all__ = [
    "CompressedJSONSerializer",
    "CompressedPickleSerializer",
    "CompressedSerializer",
    "Described",
    "HDF5Serializer",
    "JSONSerializer",
    "PickleSerializer",
    "Serializer",
    "named",
    "prefect_json_object_decoder",
    "prefect_json_object_encoder",
    "resolved",
    "restored",
]

_HOMES = {
    "CompressedJSONSerializer": "compressed",
    "CompressedPickleSerializer": "compressed",
    "CompressedSerializer": "compressed",
    "Described": "described",
    "HDF5Serializer": "hdf5",
    "JSONSerializer": "json",
    "PickleSerializer": "pickle",
    "prefect_json_object_decoder": "json",
    "prefect_json_object_encoder": "json",
}


def named(name: str) -> Serializer:
    """Return the serializer called `name`, with its options as they are by default.

    Args:
        name: `pickle`, `json`, `compressed/pickle`, `compressed/json` or `hdf5`; the `type` of a
            class of your own that was imported; or `package.module:Class`.

    Raises:
        SettingsError: there is none of that name.
    """
    return restored({"type": name})


def resolved(serializer: str | Serializer | None) -> Serializer:
    """Return the serializer that an option names, is, or leaves out (pickle).

    Raises:
        SettingsError: there is none of that name, or it is no serializer.
    """
    if serializer is None:
        return named("pickle")
    if isinstance(serializer, str):
        return named(serializer)
    if isinstance(serializer, Serializer):
        return serializer
    raise SettingsError(
        f"A serializer is a name such as 'hdf5' or an object such as HDF5Serializer(), "
        f"not {serializer!r}."
    )


def restored(description: dict[str, Any]) -> Serializer:
    """Return the serializer whose `model_dump` this is.

    Raises:
        SettingsError: there is no such type, or it has no such options.
    """
    from hpc_flows.serializers.naming import class_of  # noqa: PLC0415 - jobs need no names

    options = dict(description)
    class_ = class_of(options.pop("type", None))
    try:
        made: Serializer = class_(**options)
    except TypeError as error:
        raise SettingsError(f"{class_.__name__} cannot be made: {error}.") from error
    return made


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the job side needs pickle only.
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
