"""JSON: for values that people and other programs want to read."""

from __future__ import annotations

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.base import Serializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class JSONSerializer(Serializer):
    """JSON in UTF-8; refuses what would not come back equal (tuples, sets, keys of numbers)."""

    name = "json"
    suffix = ".json"

    def dumps(self, value: Any) -> bytes:
        """Return `value` as JSON."""
        # Here, and not above, because `import hpc_flows` must not pay for it.
        from json import dumps  # noqa: PLC0415

        _check(value, "the value")
        try:
            return dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ResultError(f"The value cannot be written as JSON: {error}.") from error

    def loads(self, data: bytes) -> Any:
        """Return what the JSON text says."""
        from json import loads  # noqa: PLC0415 - as above

        try:
            return loads(data)
        except (ValueError, RecursionError) as error:
            raise ResultError(f"This is not JSON: {error}.") from error


def _check(value: object, where: str) -> None:
    if type(value) is dict:
        for key, item in value.items():
            if not isinstance(key, str):
                raise ResultError(_refusal(f"the key {key!r} of {where}", key))
            _check(item, f"{where}[{key!r}]")
    elif type(value) is list:
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif value is not None and type(value) not in (str, int, float, bool):
        raise ResultError(_refusal(where, value))


def _refusal(where: str, value: object) -> str:
    return (
        f"JSON has no word for {where}, of type {type(value).__qualname__!r}, that would come "
        f"back equal. Use lists, dicts with text keys, numbers and texts, or PickleSerializer."
    )
