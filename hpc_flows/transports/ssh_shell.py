"""What both ssh transports share: one small shell script per command, sent over standard input.

The remote command line is always the same loader, so that a login shell of any kind (csh, fish)
has nothing to misread, and no argument, folder or variable of the environment is seen in the
process list of the login node before the command itself starts. The script prints a mark before
and after, by which noise of the site's start files and banners is told from the command's output,
and a command that failed with status 255 from a connection that broke.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import threading
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hpc_flows.exceptions import CommandNotFound, CommandTimedOut, TransportError
from hpc_flows.transports.base import DEFAULT_TIMEOUT, Completed, Transport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Commands at once over one connection; sshd's own limit (MaxSessions) is 10 unless the site says.
MOST_SESSIONS = 8

#: Exit statuses of our scripts' own, unlikely for others and looked at only for these scripts.
_NO_FOLDER, _NO_COMMAND, _NO_FILE, _TROUBLE = 93, 94, 95, 96

#: Seconds that a command that is cut is still given to say its process id, and seconds for ending
#: it from a second session.
_SPEAKS_WITHIN = 2.0
_KILLS_WITHIN = 10.0

_TAIL = 400

#: Forgets every exported variable: a whole environment was given.
_CLEAR = (
    "for _name in $(export -p | sed -n "
    r"'s/^\(export\|declare -x\) \([A-Za-z_][A-Za-z0-9_]*\).*/\2/p'); "
    'do unset "$_name"; done'
)


class RemoteProcess(Protocol):
    """A loader that runs on the machine, as `subprocess.Popen` has it."""

    returncode: int | None

    def communicate(self, input: bytes | None, timeout: float) -> tuple[bytes, bytes]:  # noqa: A002 - Popen's name
        """Send the input and return both outputs; raise `subprocess.TimeoutExpired`."""

    def kill(self) -> None:
        """End this side of it."""


class Answer(NamedTuple):
    """What a script has printed, without the marks, and how it ended."""

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float


class SshTransport(Transport):
    """Runs commands and moves files through a shell at the other end of an ssh connection."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._slots = threading.BoundedSemaphore(MOST_SESSIONS)
        self._environment: dict[str, str] | None = None

    @abstractmethod
    def _start(self, command: str) -> RemoteProcess:
        """Start a command line of the login shell.

        Raises:
            TransportError: there is no connection to be had.
        """

    @abstractmethod
    def _unstarted(self, said: str) -> TransportError | None:
        """Return why nothing was run, from the client's words; None if it may have been."""

    def environment(self) -> dict[str, str]:
        """Return the environment of a command over ssh; see `Transport.environment`."""
        if self._environment is None:
            answer = self._perform("env -0", b"", DEFAULT_TIMEOUT)
            pairs = (line.partition("=") for line in _text(answer.stdout).split("\0"))
            self._environment = {name: value for name, sign, value in pairs if sign}
        return dict(self._environment)

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
        body = _command(argv, cwd, env, has_input=stdin is not None)
        answer = self._perform(body, (stdin or "").encode(), timeout, argv[0])
        said = _text(answer.stderr)
        if answer.status == _NO_FOLDER:
            raise TransportError(
                f"{argv[0]} cannot be run in {cwd} on {self.where}: {_last(said)}."
            )
        if answer.status == _NO_COMMAND:
            raise CommandNotFound(self._no_command(argv[0]))
        return Completed(tuple(argv), answer.status, _text(answer.stdout), said, answer.seconds)

    def read(self, path: str) -> bytes:
        """Return a file's content; see `Transport.read`."""
        name = shlex.quote(path)
        body = f"[ -e {name} ] || exit {_NO_FILE}; cat < {name} || exit {_TROUBLE}"
        answer = self._perform(body, b"", DEFAULT_TIMEOUT)
        if answer.status == _NO_FILE:
            raise FileNotFoundError(2, f"No such file on {self.where}", path)
        if answer.status != 0:
            said = _last(_text(answer.stderr))
            raise TransportError(f"{path} on {self.where} cannot be read: {said}.")
        return answer.stdout

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        """Put a file in place at once; see `Transport.write`."""
        answer = self._perform(_writing(path, len(content), mode), content, DEFAULT_TIMEOUT)
        if answer.status == _NO_FILE:
            raise FileNotFoundError(2, f"No such folder on {self.where}", os.path.dirname(path))
        if answer.status != 0:
            msg = (
                f"{path} on {self.where} cannot be written: {_last(_text(answer.stderr))}. "
                "What stood there before still stands."
            )
            raise TransportError(msg)

    def _perform(self, body: str, stdin: bytes, timeout: float, name: str = "the shell") -> Answer:
        """Run a script and return what it printed between its marks."""
        mark = f"hf-{secrets.token_hex(8)}"
        script = _marked(body, mark)
        deadline = time.monotonic() + timeout
        with self._slots:
            while True:
                process = self._start(_loader(script))
                began = time.monotonic()
                out, err = self._await(process, script + stdin, timeout, mark, name)
                trouble = None
                if mark.encode() not in out:
                    trouble = self._unstarted(_text(err))
                if trouble is None:
                    break
                if time.monotonic() > deadline:
                    raise trouble
                time.sleep(0.2)
        status, stdout = _between(out, mark)
        if status is None:
            raise self._no_end(process, name, out, err, mark)
        _, stderr = _between(err, mark)
        return Answer(status, stdout, stderr, time.monotonic() - began)

    def _await(
        self, process: RemoteProcess, sent: bytes, timeout: float, mark: str, name: str
    ) -> tuple[bytes, bytes]:
        try:
            return process.communicate(sent, timeout)
        except subprocess.TimeoutExpired as error:
            printed = _first_words(process, error.output or b"", mark)
            self._end(process, printed, mark)
            words = _text(_between(printed, mark)[1]).strip()
            said = f"It had printed: {words[-_TAIL:]}" if words else "It had printed nothing."
            msg = (
                f"`{name}` on {self.where} gave no answer within {timeout:g} s and was killed; it "
                f"may have done its work all the same. {said}"
            )
            raise CommandTimedOut(msg) from error
        except BaseException:
            process.kill()
            raise

    def _end(self, process: RemoteProcess, printed: bytes, mark: str) -> None:
        """End a command over there with all its children, then this side of it."""
        leader = _leader(printed, mark)
        if leader is not None:
            try:
                # sshd gives each session a process group, whose leader our loader is.
                killer = self._start(f"kill -KILL -{leader}")
                killer.communicate(b"", _KILLS_WITHIN)
            except (subprocess.TimeoutExpired, TransportError):
                pass  # the connection is gone, and what runs there cannot be reached
        process.kill()

    def _no_end(
        self, process: RemoteProcess, name: str, out: bytes, err: bytes, mark: str
    ) -> TransportError:
        said = _last(_text(err)) or _last(_text(out))
        if mark.encode() not in out and process.returncode not in (255, -1, None):
            return TransportError(f"{self.where} gives no shell to commands: {said}.")
        return CommandTimedOut(
            f"The connection to {self.where} broke while `{name}` ran; it may have done its work "
            f"all the same. ssh said: {said}."
        )

    def _no_command(self, command: str) -> str:
        if "/" in command:
            return f"There is no program {command} on {self.where}, or it may not be run."
        return (
            f"There is no command {command!r} on {self.where}. If a folder there holds it, name "
            "it as `path` in the cluster's profile, or put it on PATH in a start file that "
            "commands over ssh read, too."
        )


def _loader(script: bytes) -> str:
    # `dd` takes exactly these bytes; a shell would read ahead, into the command's own input.
    return f"exec /bin/sh -c 'eval \"$(dd bs=1 count={len(script)} 2>/dev/null)\"'"


def _marked(body: str, mark: str) -> bytes:
    # In braces, so that a script of which only a part has arrived is a syntax error, not a
    # different script.
    lines = [
        "{",
        f"printf '{mark} %s\\n' $$; printf '{mark} 0\\n' >&2",
        "(",
        body,
        "); _status=$?",
        f"printf '{mark} %s' $_status; printf '{mark} 0' >&2",
        "exit 0",
        "}",
    ]
    return "\n".join(lines).encode()


def _command(
    argv: Sequence[str], cwd: str | None, env: Mapping[str, str] | None, *, has_input: bool
) -> str:
    lines = [] if cwd is None else [f"cd -- {shlex.quote(cwd)} || exit {_NO_FOLDER}"]
    if env is not None:
        lines.append(_CLEAR)
        lines += [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    words = " ".join(map(shlex.quote, argv))
    lines.append(f"command -v -- {shlex.quote(argv[0])} >/dev/null 2>&1 || exit {_NO_COMMAND}")
    # Quoted words are never taken for words of the shell's own, and `exec` never for functions.
    lines.append(f"exec {words}{'' if has_input else ' </dev/null'}")
    return "\n".join(lines)


def _writing(path: str, size: int, mode: int) -> str:
    folder, base = os.path.split(path)
    place = shlex.quote(folder or ".")
    return "\n".join(
        [
            "umask 077; export LC_ALL=C",
            f"[ -d {place} ] || exit {_NO_FILE}",
            f"[ ! -d {shlex.quote(path)} ] || {{ echo Is a directory >&2; exit {_TROUBLE}; }}",
            (
                f"_new=$(mktemp {shlex.quote(os.path.join(folder or '.', f'.{base}.XXXXXX'))})"
                f" || exit {_TROUBLE}"
            ),
            "trap 'rm -f -- \"$_new\"' EXIT",
            (
                '_said=$(dd of="$_new" bs=65536 conv=fsync 2>&1)'
                f" || {{ printf '%s\\n' \"$_said\" | sed -n 's/^dd: //p' >&2; exit {_TROUBLE}; }}"
            ),
            (
                f'[ "$(wc -c < "$_new")" -eq {size} ]'
                f" || {{ echo the content did not arrive whole >&2; exit {_TROUBLE}; }}"
            ),
            f'chmod {mode:o} -- "$_new" && mv -f -- "$_new" {shlex.quote(path)} || exit {_TROUBLE}',
            f"sync -- {place} 2>/dev/null || :",
        ]
    )


def _between(printed: bytes, mark: str) -> tuple[int | None, bytes]:
    """Return what stands between the marks, and the number behind the second one."""
    sign = f"{mark} ".encode()
    begin = printed.find(sign)
    if begin < 0:
        return None, b""
    start = printed.find(b"\n", begin) + 1
    end = printed.rfind(sign)
    if end == begin or not start:
        return None, printed[start:] if start else b""
    digits = printed[end + len(sign) :].split(b"\n")[0].strip()
    return (int(digits) if digits.isdigit() else None), printed[start:end]


def _leader(printed: bytes, mark: str) -> int | None:
    words = printed.partition(f"{mark} ".encode())[2].split(b"\n")
    return int(words[0]) if len(words) > 1 and words[0].isdigit() else None


def _first_words(process: RemoteProcess, printed: bytes, mark: str) -> bytes:
    """Wait a little for the mark with the process id, without which nothing can be ended there."""
    deadline = time.monotonic() + _SPEAKS_WITHIN
    while _leader(printed, mark) is None and time.monotonic() < deadline:
        try:
            return process.communicate(None, 0.1)[0]
        except subprocess.TimeoutExpired as error:
            printed = error.output or printed
    return printed


def _text(printed: bytes) -> str:
    return printed.decode("utf-8", errors="replace")


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][-_TAIL:].rstrip(".") if lines else "it said nothing"
