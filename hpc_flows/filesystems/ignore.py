"""Files that are left out: patterns as in `.gitignore`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class IgnoreRules:
    """The patterns of an ignore file; the last one that fits decides, `!` takes back.

    Args:
        lines: the lines of the file. Empty ones and those that begin with `#` say nothing.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        stripped = (line.strip() for line in lines)
        self._rules = [_compiled(line) for line in stripped if line and not line.startswith("#")]

    def leave_out(self, path: str) -> bool:
        """Tell whether a file, given by its path below the root, is left out."""
        out = False
        for pattern, takes_back in self._rules:
            if pattern.match(path):
                out = not takes_back
        return out

    def included(self, root: str | os.PathLike[str]) -> Iterator[str]:
        """Return the files below `root` that are not left out, as paths below it, in order."""
        for folder, folders, names in os.walk(root):
            folders.sort()
            inner = os.path.relpath(folder, root)
            for name in sorted(names):
                path = name if inner == "." else f"{inner}/{name}"
                if not self.leave_out(path):
                    yield path


def read_rules(path: str | os.PathLike[str]) -> IgnoreRules:
    """Return the rules of an ignore file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        return IgnoreRules(file)


def _compiled(line: str) -> tuple[re.Pattern[str], bool]:
    takes_back = line.startswith("!")
    line = line.removeprefix("!").removeprefix("\\")
    only_folders = line.endswith("/")
    line = line.rstrip("/")
    anchored = "/" in line
    # A pattern that fits a folder leaves out all that is below it.
    end = "/.+" if only_folders else "(?:/.+)?"
    start = "" if anchored else "(?:.+/)?"
    return re.compile(f"{start}{_translated(line.lstrip('/'))}{end}$", re.DOTALL), takes_back


_PARTS = re.compile(r"/\*\*/|^\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]]*\]|[^*?\[/]+|.", re.DOTALL)


def _translated(pattern: str) -> str:
    return "".join(_WORDS.get(part) or _part(part) for part in _PARTS.findall(pattern))


_WORDS = {"/**/": "/(?:.+/)?", "**/": "(?:.+/)?", "/**": "/.+", "?": "[^/]"}


def _part(part: str) -> str:
    if part.startswith("*"):
        return "[^/]*"
    if part.startswith("[") and part.endswith("]"):
        return f"[^{part[2:]}" if part.startswith("[!") else part
    return re.escape(part)
