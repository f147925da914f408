"""Another serializer's bytes, made smaller."""

from __future__ import annotations

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers import resolved, restored
from hpc_flows.serializers.base import Serializer
from hpc_flows.serializers.importing import library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NEEDED = ("compress", "decompress")


class CompressedSerializer(Serializer):
    """Compresses what another serializer writes.

    Args:
        serializer: the other, by name or as an object.
        compressionlib: name of a module with `compress` and `decompress`: `lzma` (small and slow,
            Prefect's default), `bz2`, `zlib` (ten times as fast), or one that you installed.

    Raises:
        ValueError: there is no such module, or it lacks one of the two functions.
    """

    type = "compressed"
    options = ("serializer", "compressionlib")

    def __init__(
        self, serializer: str | Serializer | dict[str, Any], compressionlib: str = "lzma"
    ) -> None:
        if isinstance(serializer, dict):
            serializer = restored(serializer)
        self.serializer = resolved(serializer)
        self.compressionlib = compressionlib
        library(compressionlib, "compressionlib", "compression", _NEEDED)
        self.suffix = f"{self.serializer.suffix}.{compressionlib.rpartition('.')[2]}"

    def dumps(self, value: Any) -> bytes:
        """Return `value` as compressed bytes."""
        compressor = library(self.compressionlib, "compressionlib", "compression", _NEEDED)
        data: bytes = compressor.compress(self.serializer.dumps(value))
        return data

    def loads(self, data: bytes) -> Any:
        """Return the value that `dumps` made `data` from."""
        compressor = library(self.compressionlib, "compressionlib", "compression", _NEEDED)
        try:
            plain = compressor.decompress(data)
        except Exception as error:
            raise ResultError(
                f"{self.compressionlib} cannot decompress this ({error}): the bytes were cut, "
                f"damaged, or written with another compressionlib."
            ) from error
        return self.serializer.loads(plain)


class CompressedPickleSerializer(CompressedSerializer):
    """Compressed pickles, `compressed/pickle`."""

    type = "compressed/pickle"

    def __init__(
        self, serializer: str | Serializer | dict[str, Any] = "pickle", compressionlib: str = "lzma"
    ) -> None:
        super().__init__(serializer, compressionlib)


class CompressedJSONSerializer(CompressedSerializer):
    """Compressed JSON, `compressed/json`."""

    type = "compressed/json"

    def __init__(
        self, serializer: str | Serializer | dict[str, Any] = "json", compressionlib: str = "lzma"
    ) -> None:
        super().__init__(serializer, compressionlib)
