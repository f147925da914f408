"""The script file that a shell is given.

Commands stand in a file and not among the shell's arguments, because everybody on a login node may
read the arguments of everybody's processes.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from typing import TYPE_CHECKING

from hpc_flows.exceptions import ShellError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Shells that stop at the first failing command when they are given `-e`.
_STOPPING = frozenset("sh bash dash ash ksh mksh zsh csh tcsh".split())

#: bash notes which commands fail; `$BASH_COMMAND` is their text before anything is put into it.
_NOTE = 'trap \'printf "%s\\t%s\\0" "$?" "$BASH_COMMAND" >>{file}\' ERR; '

#: Characters of a command that messages repeat.
_LONGEST = 200


class Script:
    """A script on disk.

    Attributes:
        argv: what to run.
        commands: what it was made of.
        noted: exit codes and texts of the commands that have failed, once it is closed.
    """

    def __init__(
        self, commands: Sequence[str], shell: str, extension: str, *, stop_on_error: bool
    ) -> None:
        """Write the script.

        Args:
            commands: its lines.
            shell: path of the program that reads it.
            extension: how the file's name ends.
            stop_on_error: end at the first command that fails.

        Raises:
            ShellError: the file cannot be written.
        """
        self.commands = tuple(commands)
        self.noted: list[tuple[str, str]] = []
        kind = os.path.basename(shell)
        text = "\n".join(commands) + "\n"
        self._folder = _new_folder()
        self._notes = os.path.join(self._folder, "failed")
        if kind == "bash":
            text = _NOTE.format(file=shlex.quote(self._notes)) + text
        path = os.path.join(self._folder, f"script{extension}")
        self._write(path, text)
        flags = ["-e"] if stop_on_error and kind in _STOPPING else []
        self.argv = [shell, *flags, path]

    def _write(self, path: str, text: str) -> None:
        try:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        except OSError as error:
            self.remove()
            raise ShellError(_no_room(self._folder, error)) from error

    def _failures(self) -> list[tuple[str, str]]:
        try:
            with open(self._notes, encoding="utf-8", errors="replace") as file:
                lines = file.read().split("\0")[:-1]
        except OSError:
            return []
        found = [line.partition("\t") for line in lines]
        return [(code, shortened(text)) for code, _, text in found]

    def name(self) -> str:
        """Return the script in a few words, for messages."""
        first = shortened(self.commands[0]) if self.commands else ""
        more = len(self.commands) - 1
        return first if more < 1 else f"{first} … (and {more} more)"

    def close(self) -> None:
        """Read what bash has noted, and delete the file."""
        self.noted = self._failures()
        self.remove()

    def remove(self) -> None:
        """Delete the file."""
        shutil.rmtree(self._folder, ignore_errors=True)


def shortened(text: str) -> str:
    """Return a command as one line that fits a message."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def find_shell(name: str, environment: Mapping[str, str]) -> str:
    """Return the path of a shell, looked for on the PATH that its commands will have.

    Raises:
        ShellError: there is none of that name.
    """
    path = environment.get("PATH", os.defpath)
    # Prefect users write BASH as well as bash.
    found = shutil.which(name, path=path) or shutil.which(name.lower(), path=path)
    if found is None:
        msg = (
            f"There is no shell {name!r} on this machine; PATH is {path!r}. Give the path of the "
            "program as `shell`, or leave it away for bash."
        )
        raise ShellError(msg)
    return found


def _new_folder() -> str:
    try:
        return tempfile.mkdtemp(prefix="hpc_flows-shell-")
    except OSError as error:
        raise ShellError(_no_room(None, error)) from error


def _no_room(folder: str | None, error: OSError) -> str:
    where = folder or "a folder for temporary files"
    return (
        f"The script of the shell commands cannot be written in {where}: "
        f"{error.strerror or error}. Free some space there, or set TMPDIR to a folder that has it."
    )
