"""Variables: small named values that flows share, kept in the home folder.

Each is one file, `$HPC_FLOWS_HOME/variables/<name>.json`, replaced as a whole, so that processes
and jobs which read and write at once see one value or the other.
"""

from __future__ import annotations

import errno
import json
import os
import time
from typing import TYPE_CHECKING, Any

from hpc_flows.awaiting import awaited
from hpc_flows.context import current
from hpc_flows.events import record
from hpc_flows.exceptions import VariableError
from hpc_flows.serializers.base import draft_name, remove_quietly, write_file
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Variable"]

#: Characters of a name, and bytes of a value as JSON. File names may have 255, with the suffix.
LONGEST_NAME, LARGEST_VALUE = 240, 1 << 20

_FIELDS = ("name", "value", "tags", "created", "updated")
_SUFFIX = ".json"

#: What file systems say that know no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS})

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class Variable:
    """A named value of JSON: text, number, truth value, None, list or dict.

    Attributes:
        name: letters, digits, `_` and `-`.
        value: the value.
        tags: words to sort variables by.
        created, updated: seconds since 1970.
    """

    __slots__ = ("created", "name", "tags", "updated", "value")

    def __init__(
        self,
        name: str,
        value: Any,
        tags: Iterable[str] | None = None,
        *,
        created: float = 0.0,
        updated: float = 0.0,
    ) -> None:
        self.name = checked_name(name)
        self.value = value
        self.tags = _checked_tags(tags)
        self.created = created or time.time()
        self.updated = updated or self.created

    def __class_getitem__(cls, _: object) -> type[Variable]:
        """Return the class: `Variable[str].get("x")` says what it expects, for type checkers."""
        return cls

    def __repr__(self) -> str:
        return f"Variable(name={self.name!r}, value={self.value!r}, tags={self.tags!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Variable):
            return NotImplemented
        return (self.name, self.value, self.tags) == (other.name, other.value, other.tags)

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-safe."""
        return {
            slot: getattr(self, slot) for slot in ("name", "value", "tags", "created", "updated")
        }

    @classmethod
    def get(cls, name: str, default: Any = None) -> Any:
        """Return a variable's value; `await` works as well.

        Args:
            name: of the variable.
            default: what to return when there is none of that name.

        Raises:
            VariableError: it cannot be read.
        """
        return awaited(_value(name, default))

    @classmethod
    async def aget(cls, name: str, default: Any = None) -> Any:
        """Return what `get` returns."""
        return _value(name, default)

    @classmethod
    def set(
        cls,
        name: str,
        value: Any,
        tags: Iterable[str] | None = None,
        overwrite: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    ) -> Any:
        """Keep a value under a name and return the `Variable`; `await` works as well.

        Args:
            name: letters, digits, `_` and `-`.
            value: JSON; of at most 1 MiB.
            tags: words to sort variables by.
            overwrite: whether it may exist already. Of several processes that make one without
                this, one succeeds.

        Raises:
            VariableError: the name or the value cannot be used, it exists, or cannot be written.
        """
        return awaited(_store(name, value, tags, overwrite=overwrite))

    @classmethod
    async def aset(
        cls,
        name: str,
        value: Any,
        tags: Iterable[str] | None = None,
        overwrite: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    ) -> Variable:
        """Do what `set` does."""
        return _store(name, value, tags, overwrite=overwrite)

    @classmethod
    def unset(cls, name: str) -> Any:
        """Remove a variable and tell whether there was one; `await` works as well."""
        return awaited(_remove(name))

    @classmethod
    async def aunset(cls, name: str) -> bool:
        """Do what `unset` does."""
        return _remove(name)


def read_variable(name: str) -> Variable | None:
    """Return the variable of that name, or None.

    Raises:
        VariableError: it cannot be read.
    """
    path = _path(checked_name(name))
    try:
        with open(path, encoding="utf-8", errors="surrogatepass") as file:
            facts = json.load(file)
        return Variable(
            name,
            facts["value"],
            facts["tags"],
            created=float(facts["created"]),
            updated=float(facts["updated"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VariableError(
            f"Variable {name!r} cannot be read: {path}: {error.strerror}."
        ) from None
    except (ValueError, KeyError, TypeError):
        msg = f"Variable {name!r} is damaged: {path}. Set it again with overwrite=True."
        raise VariableError(msg) from None


def variable_names() -> list[str]:
    """Return the names of all variables, sorted."""
    try:
        files = os.listdir(_folder())
    except FileNotFoundError:
        return []
    names = [name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)]
    return sorted(name for name in names if name and _LETTERS.issuperset(name))


def checked_name(name: str) -> str:
    """Return a name that may be a variable's.

    Raises:
        VariableError: it may not.
    """
    if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and _LETTERS.issuperset(name):
        return name
    msg = (
        f"{name!r} cannot name a variable: use 1 to {LONGEST_NAME} letters, digits, '_' and '-', "
        f"such as 'input_folder'."
    )
    raise VariableError(msg)


def _checked_tags(tags: Iterable[str] | None) -> list[str]:
    found = [tags] if isinstance(tags, str) else list(tags or ())
    if not all(isinstance(tag, str) for tag in found):
        raise VariableError(f"The tags of a variable are texts, not {found!r}.")
    return found


def _folder() -> str:
    context = current()
    # In jobs the home is the driver's, whatever the node's environment says.
    settings = get_settings() if context is None or context.root is None else context.root.settings
    return os.path.join(settings.home, "variables")


def _path(name: str) -> str:
    return os.path.join(_folder(), name + _SUFFIX)


def _value(name: str, default: Any) -> Any:
    found = read_variable(name)
    return default if found is None else found.value


def _store(name: str, value: Any, tags: Iterable[str] | None, *, overwrite: bool) -> Variable:
    made = Variable(name, value, tags)
    content = _encoded(made)
    path = _path(name)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if overwrite:
            made.created = _created(name, made.created)
            write_file(path, [_encoded(made)])
        else:
            _create(path, content)
    except OSError as error:
        if error.errno == errno.EEXIST and os.path.lexists(path):
            msg = f"Variable {name!r} already exists. Use `overwrite=True` to update it."
            raise VariableError(msg) from None
        msg = (
            f"Variable {name!r} cannot be kept: {path}: {error.strerror}. Make room there, or set "
            f"HPC_FLOWS_HOME to a folder that you may write."
        )
        raise VariableError(msg) from error
    _journal("set", made)
    return made


def _created(name: str, now: float) -> float:
    """Return when a variable was made that is about to be overwritten."""
    try:
        before = read_variable(name)
    except VariableError:
        before = None  # it is damaged, and will be whole again
    return now if before is None else before.created


def _create(path: str, content: bytes) -> None:
    """Write a file that must not exist; of several processes one succeeds, also on NFS."""
    draft = draft_name(path)
    write_file(draft, [content])
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # For a moment others may see an empty file there, and call it damaged.
        with open(path, "xb", opener=_private) as file:
            file.write(content)
    finally:
        remove_quietly(draft)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _encoded(variable: Variable) -> bytes:
    try:
        text = json.dumps({"v": 1, **variable.to_dict()}, allow_nan=False, ensure_ascii=False)
        same = json.loads(text)["value"] == variable.value
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"The value of variable {variable.name!r} is not JSON: {error}. {_KINDS}"
        raise VariableError(msg) from None
    if not same:
        msg = f"The value of variable {variable.name!r} would come back changed. {_KINDS}"
        raise VariableError(msg)
    content = text.encode("utf-8", "surrogatepass")
    if len(content) > LARGEST_VALUE:
        msg = (
            f"The value of variable {variable.name!r} has {len(content)} bytes, more than "
            f"{LARGEST_VALUE}. Keep large data in a file, and its path in the variable."
        )
        raise VariableError(msg)
    return content


_KINDS = "Use texts, finite numbers, True, False, None, lists, and dicts whose keys are texts."


def _remove(name: str) -> bool:
    path = _path(checked_name(name))
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise VariableError(f"Variable {name!r} cannot be removed: {error}.") from error
    _journal("unset", Variable(name, None))
    return True


def _journal(action: str, variable: Variable) -> None:
    """Note in the journal of the run that it changed a variable; not the value, often a secret."""
    context = current()
    if context is not None and context.root is not None:
        record("variable", {"action": action, "name": variable.name})
