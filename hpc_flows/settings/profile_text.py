"""Changing the text of the profiles file, so that comments and order stay as people wrote them.

The text is cut into statements, each a header, an assignment, or a line without either. Where a
statement ends is asked of `tomllib`: it is the shortest run of lines that is TOML. Who uses this
reads the changed text again before it replaces the file, so that no form of TOML loses anything.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_flows.exceptions import SettingsError
from hpc_flows.settings.known import find_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Path = tuple[str, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_PARTS = re.compile(_PART)
_HEADER = re.compile(rf"(\s*\[+\s*)({_PART}(?:\s*\.\s*{_PART})*)(.*)", re.DOTALL)
_ASSIGNMENT = re.compile(rf"(\s*)({_PART}(?:\s*\.\s*{_PART})*)(\s*=\s*)", re.DOTALL)


class Statement(NamedTuple):
    """A part of the text.

    Attributes:
        text: with its line ends.
        table: the table that it stands in, or opens.
        path: the whole path of what it assigns; that of the table for a header, and empty for
            blank lines and comments.
        is_header: whether it opens a table.
    """

    text: str
    table: Path
    path: Path = ()
    is_header: bool = False

    def renamed(self, place: int, part: str) -> Statement:
        """Return it with one part of its path written as `part`."""
        pattern = _HEADER if self.is_header else _ASSIGNMENT
        found = pattern.match(self.text)
        own = place - (0 if self.is_header else len(self.table))
        if found is None or own < 0:
            return self
        parts = list(_PARTS.finditer(found[2]))
        start, end = (found.start(2) + each for each in parts[own].span())
        return self._replace(text=self.text[:start] + part + self.text[end:])

    def assigned(self, value: str, end: str, *, comment: bool = True) -> Statement:
        """Return it with another value, and with the comment that follows the old one, or not."""
        found = _ASSIGNMENT.match(self.text)
        if found is None:
            return self
        told = _comment(self.text) if comment else ""
        return self._replace(text=f"{found[0]}{value}{told}{end}")


def cut(text: str) -> list[Statement]:
    """Return the statements of a text that is TOML."""
    lines = text.splitlines(keepends=True)
    statements: list[Statement] = []
    table: Path = ()
    while lines:
        size, data = _first(lines)
        part, lines = "".join(lines[:size]), lines[size:]
        if part.lstrip().startswith("["):
            table = _path(data)
            statements.append(Statement(part, table, table, is_header=True))
        else:
            path = (*table, *_path(data, _count(part))) if data else ()
            statements.append(Statement(part, table, path))
    return statements


def _first(lines: list[str]) -> tuple[int, dict[str, Any]]:
    """Return how many lines the first statement has, and what it says."""
    for size in range(1, len(lines) + 1):
        try:
            return size, tomllib.loads("".join(lines[:size]))
        except tomllib.TOMLDecodeError:
            continue
    return len(lines), {}


def _count(text: str) -> int | None:
    found = _ASSIGNMENT.match(text)
    return None if found is None else len(_PARTS.findall(found[2]))


def _path(data: Any, depth: int | None = None) -> Path:
    path: list[str] = []
    while isinstance(data, dict | list) and len(data) == 1 and depth != len(path):
        if isinstance(data, dict):
            name, data = next(iter(data.items()))
            path.append(name)
        else:
            data = data[0]
    return tuple(path)


def _comment(text: str) -> str:
    """Return the comment at the end of an assignment, with the blanks before it."""
    line = text.rstrip("\r\n")
    for found in re.finditer(r"\s*#", line):
        try:
            tomllib.loads(line[: found.start()])
        except tomllib.TOMLDecodeError:
            continue  # this one stands in a text
        return line[found.start() :]
    return ""


class Edit:
    """The text of a profiles file, and changes of it.

    Args:
        text: what the file holds, which is TOML.
        spell: writes a value, or a name, as TOML.
    """

    def __init__(self, text: str, spell: Callable[[Any], str]) -> None:
        self._end = "\r\n" if "\r\n" in text else "\n"
        if text and not text.endswith("\n"):
            text += self._end
        self._statements = cut(text)
        self._spell = spell

    @property
    def text(self) -> str:
        """The text with the changes."""
        return "".join(statement.text for statement in self._statements)

    def apply(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Change what differs between two contents, `{"active": ..., "profiles": ...}`."""
        if before["active"] != after["active"]:
            self._activate(after["active"])
        old, new = dict(before["profiles"]), dict(after["profiles"])
        renamed = _renamed(old, new)
        if renamed is not None:
            self._rename(*renamed)
            old[renamed[1]] = old.pop(renamed[0])
        for name in [each for each in old if each not in new]:
            self._delete(name)
        for name, values in new.items():
            if name in old:
                self._assign(name, old[name], values)
            else:
                self._add(name, values)

    def _activate(self, name: str) -> None:
        for place, each in enumerate(self._statements):
            if each.path == ("active",):
                self._statements[place] = each.assigned(self._spell(name), self._end)
                return
        line = f"active = {self._spell(name)}{self._end}"
        self._statements.insert(self._top(), Statement(line, (), ("active",)))

    def _top(self) -> int:
        """Return where an assignment of the whole file may go: before the first table's lines."""
        for place, each in enumerate(self._statements):
            if each.is_header:
                return self._lead(place)
        return len(self._statements)

    def _lead(self, place: int) -> int:
        """Return where the comment begins that stands right above a header."""
        while place > 0 and self._statements[place - 1].text.lstrip().startswith("#"):
            place -= 1
        return place

    def _rename(self, name: str, new: str) -> None:
        whole = ("profiles", name)
        self._statements = [
            each.renamed(1, self._spell(new)) if each.path[:2] == whole else each
            for each in self._statements
        ]
        self._statements = cut(self.text)

    def _delete(self, name: str) -> None:
        """Take out a profile, its comments, and the comment right above its header."""
        whole = ("profiles", name)
        gone: set[int] = set()
        for place, each in enumerate(self._statements):
            if each.path[:2] == whole:
                gone.add(place)
            if each.is_header and each.path[:2] == whole:
                gone.update(range(self._lead(place), self._after(place)))
        self._statements = [
            each for place, each in enumerate(self._statements) if place not in gone
        ]

    def _after(self, header: int) -> int:
        """Return where the next table's lines begin."""
        for place in range(header + 1, len(self._statements)):
            if self._statements[place].is_header:
                return self._lead(place)
        return len(self._statements)

    def _assign(self, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        places = {
            each.path[2]: place
            for place, each in enumerate(self._statements)
            if each.path[:2] == ("profiles", name) and len(each.path) == _DEPTH
        }
        kept = {each: _known_as(each, places) for each in new}
        for key, value in new.items():
            known = kept[key]
            if known is None:
                continue
            found = self._statements[places[known]]
            if old.get(known) != value:
                found = found.assigned(self._spell(value), self._end)
            self._statements[places[known]] = found if known == key else found.renamed(2, key)
        gone = {places[key] for key in places if key not in kept.values()}
        missing = {key: value for key, value in new.items() if kept[key] is None}
        self._insert(name, missing, max(places.values(), default=None))
        self._statements = [
            each for place, each in enumerate(self._statements) if place not in gone
        ]
        if not any(each.path[:2] == ("profiles", name) for each in self._statements):
            self._add(name, {})  # its assignments were all that said that it is there

    def _insert(self, name: str, values: Mapping[str, Any], last: int | None) -> None:
        """Write new assignments of a profile below its last one, or below its header."""
        if not values:
            return
        if last is not None:
            like = self._statements[last]
            made = [
                like.assigned(self._spell(value), self._end, comment=False).renamed(2, key)
                for key, value in values.items()
            ]
            self._statements[last + 1 : last + 1] = made
            return
        for place, each in enumerate(self._statements):
            if each.is_header and each.path == ("profiles", name):
                lines = [Statement(line, each.table) for line in self._lines(values)]
                self._statements[place + 1 : place + 1] = lines
                return
        self._add(name, values)

    def _add(self, name: str, values: Mapping[str, Any]) -> None:
        blank = self._end if self._statements and self._statements[-1].text.strip() else ""
        header = f"{blank}[profiles.{self._spell(name)}]{self._end}"
        text = header + "".join(self._lines(values))
        whole = ("profiles", name)
        self._statements.append(Statement(text, whole, whole, is_header=True))

    def _lines(self, values: Mapping[str, Any]) -> list[str]:
        return [f"{key} = {self._spell(value)}{self._end}" for key, value in values.items()]


#: Parts of the path of a setting in a profile: `profiles`, the profile, the setting.
_DEPTH = 3


def _renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the old and the new name where one profile got another name, and is as it was."""
    gone, come = (
        [each for each in old if each not in new],
        [each for each in new if each not in old],
    )
    if len(gone) == len(come) == 1 and old[gone[0]] == new[come[0]]:
        return gone[0], come[0]
    return None


def _known_as(name: str, places: Mapping[str, int]) -> str | None:
    """Return the name under which the text has a setting, such as `HPC_FLOWS_CLUSTER`, or None."""
    if name in places:
        return name
    return next((each for each in reversed(list(places)) if _is_setting(each, name)), None)


def _is_setting(word: str, name: str) -> bool:
    try:
        return find_setting(word).name == name
    except SettingsError:  # nothing that we know: it is left alone
        return False
