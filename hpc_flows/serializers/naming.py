"""Which serializer a name means."""

from __future__ import annotations

from hpc_flows.exceptions import SettingsError, close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Serializers of this package: their types, and the module and name of their class.
TYPES = {
    "pickle": ("pickle", "PickleSerializer"),
    "json": ("json", "JSONSerializer"),
    "compressed": ("compressed", "CompressedSerializer"),
    "compressed/pickle": ("compressed", "CompressedPickleSerializer"),
    "compressed/json": ("compressed", "CompressedJSONSerializer"),
    "hdf5": ("hdf5", "HDF5Serializer"),
}

#: Serializers of other people, by their types: a class is listed when it is defined.
REGISTERED: dict[str, type[Any]] = {}


def class_of(name: object) -> type[Any]:
    """Return the class of the serializer called `name`; see `hpc_flows.serializers.named`.

    Raises:
        SettingsError: there is none of that name.
    """
    if isinstance(name, str):
        if name in TYPES:
            home, class_name = TYPES[name]
            module = __import__(f"hpc_flows.serializers.{home}", fromlist=[class_name])
            found: type[Any] = getattr(module, class_name)
            return found
        if name in REGISTERED:
            return REGISTERED[name]
        if ":" in name:
            return _imported(name)
    words = [*TYPES, *REGISTERED]
    msg = f"There is no serializer {name!r}, only {', '.join(words)}, and `package.module:Class`."
    raise SettingsError(msg + close_match(str(name), words))


def _imported(name: str) -> type[Any]:
    from hpc_flows.serializers.importing import imported  # noqa: PLC0415 - rarely needed

    try:
        found = imported(name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"The serializer {name!r} cannot be imported: {error}.") from error
    if not (isinstance(found, type) and hasattr(found, "dumps") and hasattr(found, "loads")):
        raise SettingsError(f"{name} is no subclass of hpc_flows.serializers.Serializer.")
    return found
