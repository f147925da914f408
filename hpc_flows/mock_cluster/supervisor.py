"""The small process beside each batch job: it starts the script, waits, and reports the end.

It is a fork of the controller in a session of its own and outlives it. What it has to say it
writes into a file of the job's spool folder, so that a controller that was away can read it. It
makes itself the reaper of the job's orphans and kills what the script leaves behind, as Slurm does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.processes import descendants

if TYPE_CHECKING:
    from pathlib import Path

#: Slurm's signal number for "the output file or the folder cannot be opened".
LAUNCH_FAILED = 53
EXIT_FILE = "exit.json"
TASK_FILE = "task.pid"
_PR_SET_CHILD_SUBREAPER = 36
_FIRST_OWN_FD = 3
#: How a script ends whose interpreter is missing.
_NOT_STARTED = 2
#: Signals that a script answers as it likes, and that its supervisor ignores.
_SCRIPTS_OWN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Plan:
    """All that a supervisor needs to know to run one batch script."""

    folder: Path
    argv: list[str]
    workdir: str
    stdin: str
    stdout: str
    stderr: str | None
    append: bool = False
    umask: int = 0o022
    late: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)


def start(plan: Plan) -> int:
    """Fork a supervisor and return its pid; the child never returns from here."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _detach()
        _run(plan)
    finally:
        os._exit(0)


def _detach() -> None:
    """Leave everything of the controller behind: session, signals, descriptors."""
    gc.disable()
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for text in os.listdir("/proc/self/fd"):
        if int(text) >= _FIRST_OWN_FD:
            _close(int(text))
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


def _run(plan: Plan) -> None:
    status, max_rss, cpu = LAUNCH_FAILED, 0, 0.0
    hidden = _hidden(plan.stdout) if plan.late else ""
    child = _spawn(plan, hidden or plan.stdout)
    if child:
        (plan.folder / TASK_FILE).write_text(str(child))
        status, max_rss, cpu = _wait(child)
        _kill_leftovers()
    _report(plan.folder, {"status": status, "max_rss": max_rss, "cpu": cpu, "at": time.time()})
    if hidden and os.fork() == 0:  # the job has ended; only its file is late
        time.sleep(plan.late)
        os.rename(hidden, plan.stdout)


def _hidden(path: str) -> str:
    """Return where an output file stays until it may appear under its name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.not-yet")


def _spawn(plan: Plan, stdout: str) -> int | None:
    """Start the script and return its pid, or None where its files cannot be opened."""
    os.umask(plan.umask)
    mode = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if plan.append else os.O_TRUNC | os.O_APPEND)
    try:
        os.chdir(plan.workdir)
        out = os.open(stdout, mode, 0o666)
        err = out if plan.stderr is None else os.open(plan.stderr, mode, 0o666)
        stdin = os.open(plan.stdin, os.O_RDONLY)
    except OSError:
        return None
    # Held until the script has its own answers to them: here they are ignored.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SCRIPTS_OWN)
    child = os.fork()
    if child == 0:
        try:
            _become(plan, (stdin, out, err))
        finally:
            os._exit(_NOT_STARTED)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SCRIPTS_OWN)
    return child


def _become(plan: Plan, files: tuple[int, int, int]) -> None:
    """Turn into the batch script, in a session of its own."""
    os.setsid()
    for number in _SCRIPTS_OWN:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SCRIPTS_OWN)
    for to, fd in enumerate(files):
        os.dup2(fd, to)
    plan.environment["SLURM_TASK_PID"] = str(os.getpid())
    try:
        os.execve(plan.argv[0], plan.argv, plan.environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        text = f"slurmstepd: error: execve(): {plan.argv[0]}: {error.strerror}\n"
        os.write(2, text.encode())


def _wait(child: int) -> tuple[int, int, float]:
    """Return (raw status, most KiB of one process, CPU seconds) once the script has ended."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == child:
            return status, usage.ru_maxrss, usage.ru_utime + usage.ru_stime


def _kill_leftovers() -> None:
    """Kill and reap what the script left running."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for left in descendants(os.getpid()):
                _kill(left)
            time.sleep(0.01)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _report(folder: Path, report: dict[str, float]) -> None:
    """Write the report so that a reader sees all of it or none."""
    fresh = folder / (EXIT_FILE + ".new")
    fresh.write_text(json.dumps(report))
    fresh.rename(folder / EXIT_FILE)
