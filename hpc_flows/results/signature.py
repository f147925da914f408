"""The user's key, and what it signs: records and data that outlive the run that made them.

`$HPC_FLOWS_HOME/key` holds 32 secret bytes, made when they are first needed. A run has a key of its
own (`journal.folder.read_key`); this one signs what other runs of the same user may load.
"""

from __future__ import annotations

import os
from _blake2 import blake2b
from _operator import _compare_digest
from time import monotonic, sleep

from hpc_flows.exceptions import ForeignRecord, ResultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BYTES = 32
#: Seconds for which a key is waited for that another process writes just now.
_PATIENCE = 5.0
_known: dict[str, bytes] = {}


def user_key(home: str) -> bytes:
    """Return the user's secret bytes, which are made if there are none.

    Args:
        home: the setting `home`.

    Raises:
        ResultError: the key cannot be made or read, or somebody else could have changed it.
    """
    path = os.path.join(os.fspath(home), "key")
    if path not in _known:
        try:
            if not os.path.exists(path):
                _make(path)
            _known[path] = _read(path)
        except OSError as error:
            msg = (
                f"The key that signs kept results cannot be read or made: {path}: "
                f"{error.strerror}. Set HPC_FLOWS_HOME to a folder that you may write."
            )
            raise ResultError(msg) from error
    return _known[path]


def _make(path: str) -> None:
    """Make the key; of several processes that try at once, one does."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    draft = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, os.urandom(_BYTES))
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # no hard links there; the last of several that try at once wins, and all
        os.rename(draft, path)  # read it after a moment
        sleep(0.1)
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def _read(path: str) -> bytes:
    give_up = monotonic() + _PATIENCE
    while True:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            facts = os.fstat(fd)
            key = os.read(fd, 2 * _BYTES)
        finally:
            os.close(fd)
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            msg = (
                f"The key that signs kept results could have been read or changed by someone else: "
                f"{path} has mode {facts.st_mode & 0o777:04o} and owner {facts.st_uid}. If you "
                f"trust it: chmod 600 {path}. Otherwise remove it; results kept so far are then "
                f"made anew."
            )
            raise ResultError(msg)
        if len(key) == _BYTES:
            return key
        if monotonic() > give_up:
            msg = (
                f"The key that signs kept results is damaged: {path} has {len(key)} bytes, not "
                f"{_BYTES}. Remove it; results kept so far are then made anew."
            )
            raise ResultError(msg)
        sleep(0.05)


def data_hash(key: bytes) -> blake2b:
    """Return an empty hash for the data of a result."""
    return blake2b(key=key, digest_size=32, person=b"hpc_flows data")


def signed_text(fields: dict[str, Any], key: bytes) -> str:
    """Return a record as JSON that people can read, with its signature as the last field."""
    from json import dumps  # noqa: PLC0415 - for those who keep results

    return dumps({**fields, "mac": _mac(fields, key)}, indent=1, ensure_ascii=False)


def verified(text: bytes | str, key: bytes, where: str) -> dict[str, Any]:
    """Return the fields of a record whose signature is right.

    Args:
        text: what `signed_text` returned.
        key: the user's key.
        where: what it was read from, for messages.

    Raises:
        ForeignRecord: it was changed or cut, or signed with another key.
    """
    from json import loads  # noqa: PLC0415 - for those who keep results

    try:
        fields = loads(text)
        given = str(fields.pop("mac"))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        msg = f"{where} is not a record of a result: it was cut, or is something else."
        raise ForeignRecord(msg) from None
    if not _compare_digest(given, _mac(fields, key)):
        msg = (
            f"{where} was changed, or written by someone without this user's key, so nothing of "
            f"it is loaded."
        )
        raise ForeignRecord(msg)
    return dict(fields)


def _mac(fields: dict[str, Any], key: bytes) -> str:
    from json import dumps  # noqa: PLC0415 - for those who keep results

    text = dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    return blake2b(text, key=key, digest_size=32, person=b"hpc_flows record").hexdigest()
