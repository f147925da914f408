"""Names: of the files that belong to a key, and of those who hold a lock."""

from __future__ import annotations

import os
from _thread import get_ident

#: Characters of names of files that no file system and no shell takes for something else.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+=@,")
#: Characters of one part of a name; file systems allow 255, and suffixes and drafts need some.
_LONGEST = 180


def safe_name(key: str) -> str:
    """Return the name of a key's file: the key itself where it can be one.

    A slash makes folders, as people who use it expect; whatever else could be taken for something
    by a file system or a shell, or lead out of the folder, is written as `%XX`.
    """
    return "/".join(_safe_part(part) for part in key.split("/"))


def _safe_part(part: str) -> str:
    if part in ("", ".", ".."):
        return "%2E" * len(part) or "%"
    text = "".join(
        letter if letter in _PLAIN else "".join(f"%{byte:02X}" for byte in letter.encode())
        for letter in part
    )
    if text[0] == ".":
        text = "%2E" + text[1:]
    if len(text) <= _LONGEST:
        return text
    from _blake2 import blake2b  # noqa: PLC0415 - few keys are that long

    return f"{text[:100]}%{blake2b(part.encode(), digest_size=16).hexdigest()}"


def here() -> str:
    """Return who calls this: host, process, thread, and asyncio's task where there is one."""
    import sys  # noqa: PLC0415 - only here

    who = f"{os.uname().nodename}:{os.getpid()}:{get_ident()}"
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return who
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return who
    return who if task is None else f"{who}:{id(task)}"
