"""Concurrency limits: a name, a number of slots, and whether slots come back with time.

They are folders under `$HPC_FLOWS_HOME/concurrency`, which login and compute nodes share: a file
`limit` that says how many slots there are, and the leases of the slots beside it.
"""

from __future__ import annotations

import os

from hpc_flows.exceptions import LimitError, UnknownLimit, close_match
from hpc_flows.leases import Holder, is_stale, revoke

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What the name of a limit that belongs to a tag begins with.
TAG = "tag:"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_LONGEST_NAME = 80
_LIMIT = "limit"


class Limit:
    """A concurrency limit as it was when it was read.

    Attributes:
        name: its name; of tags `tag:` and the tag.
        limit: how many slots there are.
        active: whether it is enforced.
        slot_decay_per_second: how many slots that `rate_limit` took come back in a second; 0 for
            limits that are no rates.
        folder: where its files lie.
    """

    __slots__ = ("active", "folder", "limit", "name", "slot_decay_per_second")

    def __init__(
        self,
        name: str,
        limit: int,
        folder: str,
        *,
        active: bool = True,
        slot_decay_per_second: float = 0.0,
    ) -> None:
        self.name = name
        self.limit = limit
        self.folder = folder
        self.active = active
        self.slot_decay_per_second = slot_decay_per_second

    def slot(self, index: int) -> str:
        """Return the path of the lease of a slot."""
        return os.path.join(self.folder, str(index))

    @property
    def gate(self) -> str:
        """Path of the lease that whoever is first in line holds."""
        return os.path.join(self.folder, "gate")

    @property
    def rate_file(self) -> str:
        """Path of the file that says how many slots `rate_limit` has taken, and when."""
        return os.path.join(self.folder, "rate")

    def held_slots(self) -> list[int]:
        """Return the slots that have a holder, gone or not."""
        return self.look()[0]

    def look(self) -> tuple[list[int], bool]:
        """Return the slots that have a holder, and whether the gate has one, gone or not."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return [], False
        parts = (name.split(".") for name in names)
        held = {part[0] for part in parts if len(part) == 2}  # noqa: PLR2004 - SLOT.NUMBER
        slots = sorted(int(number) for number in held if number.isdecimal())
        return slots, "gate" in held

    def holders(self) -> list[Holder]:
        """Return who holds slots and lives, one for each slot."""
        from hpc_flows.leases import holder_of  # noqa: PLC0415 - only to show them

        paths = [self.slot(index) for index in self.held_slots()]
        found = [holder_of(path) for path in paths if not is_stale(path)]
        return [holder for holder in found if holder is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON would have it."""
        return {
            "name": self.name,
            "limit": self.limit,
            "active": self.active,
            "slot_decay_per_second": self.slot_decay_per_second,
        }

    def __repr__(self) -> str:
        return f"<Limit {self.name!r} of {self.limit}>"


def limits_folder(home: str | None = None) -> str:
    """Return the folder of all limits: of the run that surrounds the caller, or of the settings."""
    if home is None:
        from hpc_flows.context import current  # noqa: PLC0415 - not for those who give it

        context = current()
        if context is not None and context.root is not None:
            home = context.root.settings.home
        else:
            from hpc_flows.settings import get_settings  # noqa: PLC0415 - as above

            home = get_settings().home
    return os.path.join(str(home), "concurrency")


def find_limit(name: str, home: str | None = None) -> Limit | None:
    """Return the limit of that name, or None.

    Raises:
        LimitError: its file cannot be read.
    """
    return _read(os.path.join(limits_folder(home), _quoted(name)))


def get_limit(name: str, home: str | None = None) -> Limit:
    """Return the limit of that name.

    Raises:
        UnknownLimit: there is none.
        LimitError: its file cannot be read.
    """
    limit = find_limit(name, home)
    if limit is None:
        raise UnknownLimit(unknown([name], home))
    return limit


def unknown(names: list[str], home: str | None = None) -> str:
    """Return what is said of limits that do not exist, with the names that are near."""
    known = [limit.name for limit in list_limits(home) if not limit.name.startswith(TAG)]
    matches = "".join(dict.fromkeys(close_match(name, known) for name in names))
    command = f"hpc-flows gcl create {names[0]} --limit N"
    return (
        f"Concurrency limits {names!r} must be created before acquiring slots.{matches} "
        f"`{command}` creates one."
    )


def list_limits(home: str | None = None) -> list[Limit]:
    """Return all limits by name; those of tags have names that begin with `tag:`.

    Raises:
        LimitError: one cannot be read.
    """
    folder = limits_folder(home)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [_read(os.path.join(folder, name)) for name in names]
    return sorted((each for each in found if each is not None), key=lambda each: each.name)


def create_limit(
    name: str,
    limit: int,
    *,
    active: bool = True,
    slot_decay_per_second: float = 0.0,
    home: str | None = None,
) -> Limit:
    """Create a limit and return it.

    Args:
        name: what `concurrency` and `rate_limit` are given.
        limit: how many slots there are.
        active: whether it is enforced.
        slot_decay_per_second: for rates: how many slots come back in a second.
        home: the folder of hpc_flows; the one in force unless given.

    Raises:
        LimitError: there is one of that name, or the values make no sense.
    """
    if find_limit(name, home) is not None:
        raise LimitError(
            f"There is a concurrency limit {name!r} already. `hpc-flows gcl update {name} "
            f"--limit {limit}` changes it."
        )
    folder = os.path.join(limits_folder(home), _quoted(name))
    made = Limit(name, limit, folder, active=active, slot_decay_per_second=slot_decay_per_second)
    _write(made)
    return made


def update_limit(
    name: str,
    *,
    limit: int | None = None,
    active: bool | None = None,
    slot_decay_per_second: float | None = None,
    home: str | None = None,
) -> Limit:
    """Change a limit and return it; whoever waits for it goes by the new values.

    Holders of slots beyond a smaller limit keep them until they are done.

    Raises:
        UnknownLimit: there is none of that name.
        LimitError: the values make no sense.
    """
    old = get_limit(name, home)
    decay = slot_decay_per_second
    new = Limit(
        name,
        old.limit if limit is None else limit,
        old.folder,
        active=old.active if active is None else active,
        slot_decay_per_second=old.slot_decay_per_second if decay is None else decay,
    )
    _write(new)
    return new


def delete_limit(name: str, home: str | None = None) -> None:
    """Delete a limit; whoever holds slots of it is done with it without noticing.

    Raises:
        UnknownLimit: there is none of that name.
        LimitError: its files cannot be removed.
    """
    limit = get_limit(name, home)
    import shutil  # noqa: PLC0415 - limits are seldom deleted

    try:
        # Its own file first: from now on it is not there for anybody.
        os.unlink(os.path.join(limit.folder, _LIMIT))
        shutil.rmtree(limit.folder, ignore_errors=True)
    except OSError as error:
        raise LimitError(f"The concurrency limit {name!r} cannot be deleted: {error}.") from error


def reset_limit(name: str, home: str | None = None) -> int:
    """Free all slots of a limit and return how many; their holders notice that they lost them.

    Raises:
        UnknownLimit: there is none of that name.
    """
    limit = get_limit(name, home)
    if os.path.exists(limit.rate_file):
        os.unlink(limit.rate_file)
    return sum(revoke(limit.slot(index)) for index in limit.held_slots())


def create_tag_limit(tag: str, limit: int, home: str | None = None) -> Limit:
    """Let at most `limit` task runs with a tag run at once; replaces the limit that there is."""
    name = TAG + tag
    if find_limit(name, home) is not None:
        return update_limit(name, limit=limit, home=home)
    return create_limit(name, limit, home=home)


def _quoted(name: str) -> str:
    """Return the name of a limit's folder.

    Raises:
        LimitError: the name is empty, or too long for a folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise LimitError(f"A concurrency limit's name is text and not empty, not {name!r}.")
    quoted = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02X}" for byte in name.encode())
    if len(name) > _LONGEST_NAME or len(quoted) > 3 * _LONGEST_NAME:
        msg = f"A concurrency limit's name has at most {_LONGEST_NAME} characters, not {name!r}."
        raise LimitError(msg)
    return quoted


def _read(folder: str) -> Limit | None:
    path = os.path.join(folder, _LIMIT)
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.partition("=") for line in file.read().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LimitError(f"The concurrency limit in {path} cannot be read: {error}.") from error
    found = {key: value for key, _, value in lines}
    try:
        return Limit(
            found["name"],
            int(found["limit"]),
            folder,
            active=found["active"] == "True",
            slot_decay_per_second=float(found["slot_decay_per_second"]),
        )
    except (KeyError, ValueError) as error:
        msg = f"{path} does not say what a concurrency limit needs: {error!r}. Delete its folder."
        raise LimitError(msg) from None


def _write(limit: Limit) -> None:
    """Write a limit's file; it appears whole or not at all."""
    if limit.limit < 0 or not 0 <= limit.slot_decay_per_second < float("inf"):
        raise LimitError(
            f"The concurrency limit {limit.name!r} cannot have {limit.limit} slots and a decay of "
            f"{limit.slot_decay_per_second} per second: neither may be negative."
        )
    if "\n" in limit.name:
        raise LimitError(f"A concurrency limit's name is one line, not {limit.name!r}.")
    draft = os.path.join(limit.folder, f".{_LIMIT}.{os.urandom(4).hex()}")
    try:
        os.makedirs(limit.folder, mode=0o700, exist_ok=True)
        with open(draft, "w", encoding="utf-8") as file:
            file.write("".join(f"{key}={value}\n" for key, value in limit.to_dict().items()))
        os.replace(draft, os.path.join(limit.folder, _LIMIT))
    except OSError as error:
        msg = f"The concurrency limit {limit.name!r} cannot be written: {error}."
        raise LimitError(msg) from error
