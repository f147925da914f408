"""The transport to this machine: subprocesses and files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_flows.exceptions import CommandNotFound, CommandTimedOut, TransportError
from hpc_flows.transports.base import DEFAULT_TIMEOUT, Completed, Transport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seconds that a killed command's output is still waited for: a child that left the process
#: group may hold the pipe open for ever.
_LAST_WORDS = 1.0

#: Characters of a cut command's output that go into the message.
_TAIL = 400


class LocalTransport(Transport):
    """Runs commands on this machine, each in a process group of its own.

    The group of its own means that Ctrl-C in the terminal reaches the driver and not, say, an
    `sbatch` that is about to be answered, and that a command that is cut takes its children along.
    """

    where = "this machine"

    def environment(self) -> dict[str, str]:
        """Return a copy of this process's environment."""
        return dict(os.environ)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Completed:
        """Run a command and return what it printed; see `Transport.run`."""
        environment = dict(env) if env is not None else self.environment()
        program = _find(argv[0], environment)
        started = time.monotonic()
        process = _start([program, *argv[1:]], stdin, cwd, environment)
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            printed = _cut(process)
            raise CommandTimedOut(_timed_out(argv, timeout, printed)) from error
        except BaseException:
            _cut(process)
            raise
        seconds = time.monotonic() - started
        return Completed(tuple(argv), process.returncode, stdout, stderr, seconds)

    def read(self, path: str) -> bytes:
        """Return a file's content; see `Transport.read`."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            msg = f"{path} on {self.where} cannot be read: {error.strerror}."
            raise TransportError(msg) from error

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        """Put a file in place at once; see `Transport.write`."""
        try:
            _replace(Path(path), content, mode)
        except FileNotFoundError:
            raise
        except OSError as error:
            msg = (
                f"{path} on {self.where} cannot be written: {error.strerror}. "
                "What stood there before still stands."
            )
            raise TransportError(msg) from error


def _find(command: str, environment: Mapping[str, str]) -> str:
    """Return the path of a command, looked for on the PATH that it will be given."""
    path = environment.get("PATH", os.defpath)
    found = shutil.which(command, path=path)
    if found is not None:
        return found
    if os.sep in command:
        msg = f"There is no program {command} on this machine, or it may not be run."
        raise CommandNotFound(msg)
    msg = (
        f"There is no command {command!r} on this machine. PATH is {path!r}. If another folder "
        "holds it, put that folder on PATH (on many clusters a `module load` does) or name it as "
        "`path` in the cluster's profile."
    )
    raise CommandNotFound(msg)


def _start(
    argv: list[str], stdin: str | None, cwd: str | None, environment: dict[str, str]
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        where = f" in {cwd}" if cwd else ""
        msg = f"{argv[0]} cannot be run{where} on this machine: {error.strerror}."
        raise TransportError(msg) from error


def _cut(process: subprocess.Popen[str]) -> str:
    """Kill a command and all its children; return what it printed until then."""
    # The leader has not been waited for, so the group's number cannot belong to others by now.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    try:
        stdout, stderr = process.communicate(timeout=_LAST_WORDS)
    except (subprocess.TimeoutExpired, ValueError):
        _let_go(process)
        return ""
    return f"{stdout}\n{stderr}".strip()


def _let_go(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


def _timed_out(argv: Sequence[str], timeout: float, printed: str) -> str:
    said = f" It had printed: {printed[-_TAIL:]}" if printed else " It had printed nothing."
    return (
        f"`{argv[0]}` gave no answer within {timeout:g} s and was killed; "
        f"it may have done its work all the same.{said}"
    )


def _replace(path: Path, content: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last: without it, a crash of the machine may bring the old file back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
