"""`capture_output`: what child processes write becomes log records of the run that starts them.

Threads share the descriptors of their process, so what compiled code writes in one of them cannot
be told from the others' output. Children can: each is given a file of its own to write to.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from hpc_flows.context import current
from hpc_flows.exceptions import MissingContextError
from hpc_flows.logging import INFO, WARNING, run_log
from hpc_flows.logging.follower import Follower

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

    from hpc_flows.context import RunContext

_LOGGER = "hpc_flows.task_runs.output"

#: Places of `stdout` and `stderr` among the positional arguments of Popen.
_STREAMS = {"stdout": 4, "stderr": 5}


class capture_output:  # noqa: N801 - reads as a statement: `with capture_output():`
    """Log what child processes write that are started in a `with` block.

    It is exact in threads, too: children of the block, and theirs, write to a file of the block.
    It concerns what `subprocess` (and asyncio's subprocesses) starts without a `stdout` or
    `stderr` of its own. For other ways to start a process, the object has a `fileno()` to hand
    over. What Python itself and compiled code in this process write, and what threads that the
    block starts start, stays as it is.

    Args:
        level: of the records.
        path: a file that keeps all of it; without one a temporary file is used.

    Raises:
        MissingContextError: the block is outside of flows and tasks.
    """

    def __init__(self, level: int = INFO, path: str | os.PathLike[str] | None = None) -> None:
        self.level = level
        self._path = path
        self._written = -1

    def __enter__(self) -> Self:
        context = current()
        if context is None or context.root is None:
            msg = (
                "capture_output() was used outside of any flow or task, where there is no log to "
                "write to; use subprocess.run(..., capture_output=True) there."
            )
            raise MissingContextError(msg)
        _watch_subprocesses()
        self._context: RunContext = context
        reading = self._open()
        self._follower = Follower(reading, self._line, self._warn)
        self._follower.start()
        self._token: Token[int | None] = _target.set(self._written)
        return self

    def _open(self) -> int:
        """Open the file for children, and return a descriptor for reading it."""
        if self._path is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._written = os.open(self._path, flags, 0o600)
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        unread, path = tempfile.mkstemp(prefix="hpc-flows-output-")
        try:
            os.close(unread)
            self._written = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.unlink(path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _target.reset(self._token)
        written, self._written = self._written, -1
        os.close(written)
        self._follower.end()

    def fileno(self) -> int:
        """Return the descriptor to which children shall write."""
        if self._written < 0:
            raise ValueError("capture_output() has a file only inside of its `with` block.")
        return self._written

    def _line(self, text: str) -> None:
        run_log(self._context, self.level, text, _LOGGER)

    def _warn(self, text: str) -> None:
        where = "" if self._path is None else f"; all of it is in {os.fspath(self._path)}"
        run_log(self._context, WARNING, text + where + ".", _LOGGER)


_target: ContextVar[int | None] = ContextVar("hpc_flows_output", default=None)


def _watch_subprocesses() -> None:
    """Have subprocess ask, from now on, whether a block wants the child's output.

    It is never undone, because another thread may be in a block; outside of blocks it changes
    nothing.
    """
    if subprocess.Popen.__init__ is _begin:
        return
    original: Any = subprocess.Popen.__init__
    _originals.append(original)
    functools.update_wrapper(_begin, original)  # its signature, for those who look
    subprocess.Popen.__init__ = _begin  # type: ignore[method-assign]


_originals: list[Any] = []


def _begin(self: Any, *args: Any, **kwargs: Any) -> None:
    target = _target.get()
    if target is not None:
        for name, place in _STREAMS.items():
            if len(args) <= place and kwargs.get(name) is None:
                kwargs[name] = target
    _originals[-1](self, *args, **kwargs)
