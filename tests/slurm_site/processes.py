"""Programs that run in the background: started, looked after and stopped by recorded pid."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_PR_SET_CHILD_SUBREAPER = 36

#: Fields of /proc/PID/stat after the command's name: the state, and the start in clock ticks.
_STATE, _PARENT, _BEGUN = 0, 1, 19

_STOPS_WITHIN = 20.0


class SiteError(Exception):
    """The site cannot be made or does not do what it is told."""


class Program(NamedTuple):
    """A recorded program: its pid and when it began, since a pid may be given to another one."""

    pid: int
    begun: str

    def alive(self) -> bool:
        """Tell whether it still runs."""
        facts = _stat(self.pid)
        return facts is not None and facts[_STATE] != "Z" and facts[_BEGUN] == self.begun

    def send(self, number: signal.Signals) -> None:
        """Send a signal, to it and to nobody else."""
        if self.alive():
            os.kill(self.pid, number)


class Programs:
    """The background programs of one folder, recorded in `run/NAME.pid`."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.log = folder / "log"

    def spawn(self, name: str, argv: Sequence[str], env: dict[str, str] | None = None) -> None:
        """Start a program in the foreground of a session of its own, and record it."""
        with (self.log / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                start_new_session=True,
            )
        program = program_of(process.pid)
        begun = program.begun if program else "gone"
        (self.run / f"{name}.pid").write_text(f"{process.pid} {begun}\n")

    def find(self, name: str) -> Program | None:
        """Return a recorded program if it lives."""
        try:
            pid, begun = (self.run / f"{name}.pid").read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        program = Program(int(pid), begun)
        return program if program.alive() else None

    def names(self) -> list[str]:
        """Return the names of all that were recorded."""
        return sorted(path.stem for path in self.run.glob("*.pid"))

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a program and wait until it is gone; with SIGKILL where the signal does not do."""
        program = self.find(name)
        if program is not None:
            program.send(signal.SIGCONT)
            program.send(number)
            if not _until(lambda: not program.alive(), _STOPS_WITHIN):
                program.send(signal.SIGKILL)
                _until(lambda: not program.alive(), _STOPS_WITHIN)
            _reap(program.pid)
        (self.run / f"{name}.pid").unlink(missing_ok=True)

    def await_ready(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a program answers.

        Raises:
            SiteError: it did not, or it died; the end of its log is in the message.
        """
        if _until(lambda: ready() or self.find(name) is None, seconds) and ready():
            return
        said = "\n".join(_tail(path) for path in sorted(self.log.glob(f"{name}*")))
        raise SiteError(f"{name} did not come up within {seconds:g} s. Its logs end so:\n{said}")


def as_init(work: Callable[[], int]) -> int:
    """Run something in a child process; return its status once nothing of it is left.

    This process stays behind as what init is to a machine: parent of every orphan among the
    child's descendants. So a daemon that detached is buried when it dies, and is ended, with
    everything else that is left, when the child has ended.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SiteError(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    child = os.fork()
    if child == 0:
        _work_and_exit(work)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(child, number))
    status = _bury_until(child)
    end_all(descendants(os.getpid()))
    return status


def _work_and_exit(work: Callable[[], int]) -> NoReturn:
    # Ended as by sys.exit, so that every `finally` is gone through.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    status = 1
    try:
        status = work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - the last one who can tell it
        sys.stderr.write(f"slurm_site: failed: {error}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _bury_until(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _interrupt(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def program_of(pid: int) -> Program | None:
    """Return the program that has a pid now."""
    facts = _stat(pid)
    return Program(pid, facts[_BEGUN]) if facts else None


def descendants(root: int) -> list[Program]:
    """Return the living descendants of a process, children before their own children."""
    children: dict[int, list[Program]] = {}
    for entry in Path("/proc").iterdir():
        facts = _stat(int(entry.name)) if entry.name.isdecimal() else None
        if facts is not None:
            program = Program(int(entry.name), facts[_BEGUN])
            children.setdefault(int(facts[_PARENT]), []).append(program)
    found: list[Program] = []
    ahead = [root]
    while ahead:
        born = children.get(ahead.pop(), [])
        found += born
        ahead += [program.pid for program in born]
    return found


def end_all(programs: Iterable[Program], *, politely: bool = True) -> None:
    """End programs, first politely unless told otherwise."""
    left = [program for program in programs if program.alive()]
    if politely:
        left = _send_all(left, signal.SIGTERM, 3.0)
    else:
        # None may live long enough to report how another ended.
        for program in left:
            program.send(signal.SIGSTOP)
    _send_all(left, signal.SIGKILL, 5.0)


def _send_all(programs: list[Program], number: signal.Signals, seconds: float) -> list[Program]:
    for program in programs:
        program.send(number)
    _until(lambda: not any(program.alive() for program in programs), seconds)
    for program in programs:
        _reap(program.pid)
    return [program for program in programs if program.alive()]


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold blanks and brackets.
    return text.rpartition(")")[2].split()


def _tail(path: Path, lines: int = 8) -> str:
    text = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"--- {path.name}", *text])
