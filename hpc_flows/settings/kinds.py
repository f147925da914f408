"""What one setting is, and how a text becomes its value."""

from __future__ import annotations

import os

from hpc_flows.exceptions import SettingsError, close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "HPC_FLOWS_"

#: What is shown in the place of a secret.
MASK = "********"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Setting:
    """One setting: its name, the kind of its value, its default, and what it does.

    Attributes:
        name: as in `Settings`.
        kind: `text`, `integer`, `number`, `flag`, `path` (one that is always there), `file` (a
            path, or none), `url`, `report` or `database`.
        default: its value when nobody sets it.
        doc: one sentence.
        choices: the values that a text may have; empty when any will do.
        secret: whether its value may be shown to nobody who does not ask for it, and stays in the
            process that read it: neither a journal nor a job's payload has it.
        also: a variable of another program that sets it too, where ours does not.
    """

    __slots__ = ("also", "choices", "default", "doc", "kind", "name", "secret")

    def __init__(
        self,
        name: str,
        kind: str,
        default: Any,
        doc: str,
        choices: tuple[str, ...] = (),
        *,
        secret: bool = False,
        also: str | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.doc = doc
        self.choices = choices
        self.secret = secret
        self.also = also

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    def parse(self, value: Any, source: str) -> Any:
        """Return `value` as the setting's kind.

        Args:
            value: text, or what a TOML file holds.
            source: where it was found, for the error.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            parsed = _PARSERS[self.kind](value)
        except (TypeError, ValueError) as error:
            why = _KINDS.get(self.kind) or str(error)
            msg = f"{source}: {self.name} must be {why}, not {self._told(value)}."
            raise SettingsError(msg) from None
        if self.secret and isinstance(parsed, str):
            return self._secret(parsed, source)
        return self._choice(str(parsed), source) if self.choices else parsed

    def shown(self, value: Any) -> Any:
        """Return `value` as everyone may see it: secrets, and passwords in addresses, masked."""
        if value is None:
            return None
        if self.kind == "database":
            return _addresses().without_password(str(value))
        return MASK if self.secret else value

    def hides(self, value: Any) -> bool:
        """Tell whether `value` is not for everyone's eyes."""
        return value is not None and self.shown(value) != value

    def _told(self, value: Any) -> str:
        """Return a wrong value as an error may repeat it."""
        if self.secret:
            return MASK
        is_address = self.kind in {"url", "report", "database"} and isinstance(value, str)
        return repr(_addresses().without_password(value) if is_address else value)

    def _secret(self, value: str, source: str) -> str:
        if value == MASK:
            msg = f"{source}: {self.name} is {MASK}, which is what is shown in a secret's place."
            raise SettingsError(msg)
        if not value.strip().isprintable():
            msg = (
                f"{source}: {self.name} has signs that cannot be seen, such as a line's end (it is "
                f"not shown here). Copy it again, and nothing else with it."
            )
            raise SettingsError(msg)
        return value.strip()

    def _choice(self, value: str, source: str) -> str:
        for choice in self.choices:
            if choice.lower() == value.lower():
                return choice
        hint = close_match(value.upper(), self.choices) or close_match(value, self.choices)
        known = ", ".join(self.choices)
        msg = f"{source}: {self.name} must be one of {known}, not {value!r}.{hint}"
        raise SettingsError(msg)


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise TypeError
    return value or None


def _integer(value: Any) -> int | None:
    if value == "":
        return None
    if isinstance(value, (bool, float)):
        raise TypeError
    number = int(value)
    if number < 0:
        raise ValueError
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError
    return text in _TRUE


def whole_path(value: Any) -> str:
    """Return a path from the root, with `~` resolved.

    Raises:
        TypeError: it is no text, or empty.
        SettingsError: nothing says what `~` stands for.
    """
    if not isinstance(value, str) or not value:
        raise TypeError
    found = os.path.expanduser(value)
    if found.startswith("~"):  # no such user, or HOME is not set and the system does not know us
        msg = (
            f"The folder {value!r} cannot be found, because nothing says what '~' stands for. Set "
            f"HOME, or set HPC_FLOWS_HOME to a whole path."
        )
        raise SettingsError(msg)
    return os.path.abspath(found)


def _file(value: Any) -> str | None:
    return None if value == "" else whole_path(value)


def _url(value: Any) -> str | None:
    text = _text(value)
    return None if text is None else _addresses().server_url(text)


def _report(value: Any) -> str:
    text = _text(value)
    return "auto" if text is None else _addresses().report(text)


def _database(value: Any) -> str | None:
    text = _text(value)
    return None if text is None else _addresses().database(text)


def _addresses() -> Any:
    from hpc_flows.settings import addresses  # noqa: PLC0415 - for those who set an address

    return addresses


_PARSERS = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "flag": _flag,
    "path": whole_path,
    "file": _file,
    "url": _url,
    "report": _report,
    "database": _database,
}

#: What a value must be; addresses tell it with what is wrong about them.
_KINDS = {
    "text": "text",
    "integer": "a whole number that is not negative",
    "number": "a number that is not negative",
    "flag": "true or false",
    "path": "a path",
    "file": "a path",
}
