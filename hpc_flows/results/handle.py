"""A result that stays in its file: read by slice, without loading what is not asked for."""

from __future__ import annotations

import os

from hpc_flows.exceptions import MissingResult, ResultError
from hpc_flows.serializers import resolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Self

    from hpc_flows.serializers import Serializer
    from hpc_flows.serializers.hdf5.lazy import Part

_SERIALIZERS = {".h5": "hdf5", ".hdf5": "hdf5", ".json": "json", ".pkl": "pickle"}


class ResultHandle:
    """A result file, opened when something is read from it, and closed by `close` or `with`.

    ```python
    with future.result_handle() as handle:
        first = handle["fields/temperature"][:10]
    ```

    Args:
        path: the file.
        serializer: what wrote it, by name or as an object; by the ending of `path` when None.
        load: what loads the whole result instead of the serializer, for files that are checked
            before they are unpickled.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        serializer: str | Serializer | None = None,
        load: Callable[[], Any] | None = None,
    ) -> None:
        self.path = os.fspath(path)
        ending = os.path.splitext(self.path)[1]
        self.serializer = resolved(serializer or _SERIALIZERS.get(ending))
        self._load = load
        self._file: Any = None
        self._part: Part | None = None

    def load(self) -> Any:
        """Read the whole result and return it.

        Raises:
            MissingResult: the file is not there.
            ResultError: it is damaged, or cannot be read here.
        """
        if self._load is not None:
            return self._load()
        try:
            return self.serializer.load(self.path)
        except FileNotFoundError as error:
            raise MissingResult(_gone(self.path)) from error

    def __getitem__(self, key: Any) -> Any:
        """Return the part called `key` (`"a/b"` leads down), or a slice of a single array."""
        return self._opened()[key]

    def keys(self) -> list[Any]:
        """Return the names of the parts, as the task gave them; none for a single array."""
        return self._opened().keys()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._opened())

    def __contains__(self, key: object) -> bool:
        return key in self._opened()

    def __len__(self) -> int:
        return len(self._opened())

    @property
    def attrs(self) -> dict[str, Any]:
        """What was said about the result: units and the like."""
        return self._opened().attrs

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a single array."""
        return self._opened().shape

    @property
    def dtype(self) -> Any:
        """Type of the elements of a single array."""
        return self._opened().dtype

    def close(self) -> None:
        """Close the file. Whatever is read next opens it again; parts taken before are dead."""
        file, self._file, self._part = self._file, None, None
        if file is not None:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._file is not None else "not open"
        return f"<ResultHandle {self.path}, {self.serializer.type}, {state}>"

    def _opened(self) -> Part:
        if self._part is None:
            if self.serializer.type != "hdf5":
                raise ResultError(_not_by_part(self.path, self.serializer.type))
            # They load h5py, which only those need who read by part.
            from hpc_flows.serializers.hdf5 import open_file  # noqa: PLC0415
            from hpc_flows.serializers.hdf5.lazy import root_part  # noqa: PLC0415

            try:
                self._file = open_file(self.path)
            except FileNotFoundError as error:
                raise MissingResult(_gone(self.path)) from error
            pickles = getattr(self.serializer, "pickle_rest", False)
            self._part = root_part(self._file, pickles=pickles)
        return self._part


def _not_by_part(path: str, type_: str) -> str:
    return (
        f"{path} was written as {type_!r}, which can only be read as a whole: use `load()`. Give "
        f"the task result_serializer='hdf5' to read its results by part."
    )


def _gone(path: str) -> str:
    return (
        f"The result {path} is not there. It was removed (by hand, `hpc-flows gc` or the site's "
        f"purge of old files), or this machine does not see it yet. Run the task again to have it."
    )
