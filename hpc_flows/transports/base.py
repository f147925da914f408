"""The interface of transports: run commands on a machine, and move small files to and from it.

Rules that every transport keeps, and that tests/conformance/test_transports.py holds:

* a command is a list of arguments; no shell sees it, and quoting, where a transport needs it,
  happens in one place of that transport;
* a command that ran returns, whatever its exit status; only a command that could not be run, or
  gave no answer in time, raises;
* every command has a time limit. One that is cut may have done its work all the same;
* `write` is atomic: a reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

#: Seconds that a command may take when the caller does not say; `squeue` waits 9 s for a dead
#: controller by itself (MessageTimeout) and `scontrol show job` 18 s.
DEFAULT_TIMEOUT = 60.0


class Completed(NamedTuple):
    """A command that ran to its end."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


class Transport(ABC):
    """A way to one machine, used as a context manager or closed with `close`."""

    #: What people call this machine in messages, for example `this machine` or `login.hpc.edu`.
    where: str = "this machine"

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the environment that commands get when `run` is given none.

        Raises:
            TransportError: the machine cannot be reached.
        """

    @abstractmethod
    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Completed:
        """Run a command and return what it printed.

        Args:
            argv: the command and its arguments.
            stdin: text for its standard input; nothing when None.
            cwd: working directory.
            env: the whole environment of the command; the transport's own when None.
            timeout: seconds until the command and its children are killed.

        Raises:
            CommandNotFound: the machine has no such command.
            CommandTimedOut: no end within `timeout`; its message ends with what was printed.
            TransportError: the machine cannot be reached, or `cwd` is not there.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: there is no such file.
            TransportError: it cannot be read, or the machine cannot be reached.
        """

    @abstractmethod
    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        """Put a file in place at once: written beside `path`, synced, then renamed.

        Raises:
            FileNotFoundError: its folder is not there.
            TransportError: it cannot be written (no room, not allowed); the old file stands.
        """

    def close(self) -> None:  # noqa: B027 - most transports hold nothing
        """Give back what the transport holds; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
