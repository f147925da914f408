"""How values become bytes and files, and values again."""

from __future__ import annotations

from hpc_flows.exceptions import SettingsError, close_match
from hpc_flows.serializers.base import Serializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.serializers.json import JSONSerializer
    from hpc_flows.serializers.pickle import PickleSerializer

__all__ = ["JSONSerializer", "PickleSerializer", "Serializer", "named"]

_HOMES = {"PickleSerializer": "pickle", "JSONSerializer": "json"}


def named(name: str) -> Serializer:
    """Return the serializer called `name`: `pickle` or `json`.

    Raises:
        SettingsError: there is none of that name.
    """
    if name == "pickle":
        from hpc_flows.serializers.pickle import PickleSerializer  # noqa: PLC0415 - jobs use one

        return PickleSerializer()
    if name == "json":
        from hpc_flows.serializers.json import JSONSerializer  # noqa: PLC0415 - jobs use one

        return JSONSerializer()
    msg = f"There is no serializer {name!r}, only 'pickle' and 'json'."
    raise SettingsError(msg + close_match(name, _HOMES.values()))


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the job side needs pickle only.
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module  # noqa: PLC0415 - see above

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
