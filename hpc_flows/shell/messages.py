"""What is told of commands that failed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_flows.shell.script import Script

#: Characters of one line that a log record, or a message, repeats.
_LONGEST = 10_000


def as_logged(line: str) -> str:
    """Return a line for the log: its last form, where it was written over again and again."""
    shown = line.rpartition("\r")[2] if "\r" in line else line
    if len(shown) <= _LONGEST:
        return shown
    return f"{shown[:_LONGEST]}… (cut here; {len(shown)} characters in all)"


def ending(
    script: Script, code: int, failures: Sequence[tuple[str, str]], output: Sequence[str]
) -> tuple[str, str]:
    """Return the command that failed, and the message that tells so."""
    noted = [text for number, text in failures if number == str(code)]
    command = noted[-1] if noted else script.name()
    return command, f"Shell command {_how(code)}: {command}{_last(output)}"


def _how(code: int) -> str:
    if code >= 0:
        hint = " (there is no such command)" if code == 127 else ""  # noqa: PLR2004 - POSIX says so
        return f"failed with return code {code}{hint}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps for its memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint} (return code {code})"


def too_late(script: Script, seconds: float, output: Sequence[str]) -> str:
    """Return the message for commands that took too long."""
    return (
        f"Shell commands took longer than {seconds:g} s and were ended with all that they had "
        f"started: {script.name()}{_last(output)}"
    )


def _last(output: Sequence[str]) -> str:
    if not output:
        return "\nIt printed nothing."
    return "\nIts last lines were:\n" + "\n".join(output)


def leftovers(name: str, left: Sequence[str]) -> str:
    """Return the warning about processes that a script has left in the background."""
    return (
        f"The script has ended and these processes of it are ended, too: {', '.join(left)}. To "
        f"wait for what is in the background, put `wait` at its end. Script: {name}"
    )
