"""Option parsing as glibc's getopt_long does it, error texts included."""

from __future__ import annotations

from dataclasses import dataclass, field


class UsageError(Exception):
    """The arguments are wrong; the text is what the command prints."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its long name, its letter, whether it takes a value, and whether it acts."""

    long: str
    short: str = ""
    takes: str = "value"
    played: bool = True


@dataclass(slots=True)
class Parsed:
    """The options that were given, by long name, and what stood beside them."""

    values: dict[str, str] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Return whether an option was given."""
        return name in self.values

    def get(self, name: str) -> str | None:
        """Return an option's last value, an empty text for a bare one, None if not given."""
        return self.values.get(name)

    def listed(self, name: str) -> list[str]:
        """Return the parts of a comma list, empty if not given."""
        return [part for part in (self.get(name) or "").split(",") if part]


def options_of(text: str) -> list[Option]:
    """Read a table of options, one a line: `long short kind`, `-` for no letter.

    Kinds: `value`, `flag`, `maybe` (a value may follow, joined by `=` or to the letter). With
    `refused` behind it the option is one of Slurm's that the mock does not play and says so.
    """
    table = []
    for line in text.split("\n"):
        words = line.split()
        if words:
            played = "refused" not in words
            table.append(Option(words[0], words[1].replace("-", ""), words[2], played))
    return table


class Parser:
    """A command's options."""

    def __init__(self, command: str, options: list[Option], *, status: int = 1) -> None:
        """Make a parser.

        Args:
            command: the name in error texts.
            options: all options that it knows.
            status: the exit status of wrong usage.
        """
        self._command = command
        self._long = {option.long: option for option in options}
        self._short = {option.short: option for option in options if option.short}
        self._status = status

    def parse(self, argv: list[str], *, stop_at_operand: bool = False) -> Parsed:
        """Parse arguments.

        Args:
            argv: the arguments.
            stop_at_operand: whether options end at the first word that is none (sbatch, srun).

        Raises:
            UsageError: an option is unknown, or its value is missing.
        """
        parsed = Parsed()
        words = list(argv)
        while words:
            word = words.pop(0)
            if word == "--":
                parsed.operands += words
                break
            if word.startswith("--"):
                self._take_long(parsed, word[2:], words)
            elif word.startswith("-") and word != "-":
                self._take_short(parsed, word[1:], words)
            else:
                parsed.operands.append(word)
                if stop_at_operand:
                    parsed.operands += words
                    break
        return parsed

    def _take_long(self, parsed: Parsed, text: str, words: list[str]) -> None:
        name, equals, value = text.partition("=")
        option = self._find(name)
        if option.takes == "flag":
            if equals:
                self._fail(f"option '--{option.long}' doesn't allow an argument")
        elif not equals and option.takes == "value":
            if not words:
                self._fail(f"option '--{option.long}' requires an argument")
            value = words.pop(0)
        self._set(parsed, option, value)

    def _set(self, parsed: Parsed, option: Option, value: str) -> None:
        if not option.played:
            text = f"option '--{option.long}' is not played by the mock cluster"
            raise UsageError(f"{self._command}: error: {text}\n", self._status)
        parsed.values[option.long] = value

    def _find(self, name: str) -> Option:
        """Return the option of a name or of an unambiguous beginning of one."""
        if name in self._long:
            return self._long[name]
        near = [long for long in self._long if long.startswith(name)]
        if len(near) == 1:
            return self._long[near[0]]
        if near:
            choices = " ".join(f"'--{long}'" for long in near)
            self._fail(f"option '--{name}' is ambiguous; possibilities: {choices}")
        self._fail(f"unrecognized option '--{name}'")
        raise AssertionError

    def _take_short(self, parsed: Parsed, letters: str, words: list[str]) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self._short.get(letter)
            if option is None:
                self._fail(f"invalid option -- '{letter}'")
                return
            if option.takes == "flag":
                self._set(parsed, option, "")
                continue
            if not letters and option.takes == "value":
                if not words:
                    self._fail(f"option requires an argument -- '{letter}'")
                letters = words.pop(0)
            self._set(parsed, option, letters)
            return

    def _fail(self, text: str) -> None:
        hint = f'Try "{self._command} --help" for more information\n'
        if self._command == "sacct":
            hint = ""  # the only one that does not say it
        raise UsageError(f"{self._command}: {text}\n{hint}", self._status)
