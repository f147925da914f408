"""What srun and salloc do where they were called: run the tasks that the controller granted."""

from __future__ import annotations

import json
import os
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .command import Link

#: How a task ends whose program cannot be executed: the number of ENOENT.
_CANNOT_EXECUTE = 2
_CHUNK = 1 << 16


def run_tasks(link: Link, data: bytes) -> int:
    """Run tasks side by side, wait for all, and report how each of them ended.

    Returns the exit status to end with where the controller cannot be told any more.

    Args:
        link: the connection that the report goes to.
        data: JSON with `argv`, `cwd`, `label` and `tasks`, each with `env`, `node`, `out`, `err`.
    """
    spec = json.loads(data)
    readers: dict[int, bytes] = {}
    children = [_start(spec, number, readers) for number in range(len(spec["tasks"]))]

    def pass_on(number: int, _frame: object) -> None:
        for child in children:
            os.kill(child, number)

    signal.signal(signal.SIGINT, pass_on)
    signal.signal(signal.SIGTERM, pass_on)
    _copy_labelled(readers)
    report: list[tuple[int, int, float]] = []
    for child in children:
        _, status, usage = os.wait4(child, 0)
        report.append((status, usage.ru_maxrss, usage.ru_utime + usage.ru_stime))
    try:
        link.send(b"d", json.dumps(report).encode())
    except OSError:
        sys.stderr.write("srun: error: the controller is gone; the step is not in accounting\n")
    return max(_exit_status(entry[0]) for entry in report)


def _exit_status(status: int) -> int:
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8


def _start(spec: dict[str, Any], number: int, readers: dict[int, bytes]) -> int:
    """Start one task; with labels its output comes back through a pipe."""
    pipe = os.pipe() if spec["label"] else None
    child = os.fork()
    if child == 0:
        _become(spec, spec["tasks"][number], pipe)
    if pipe is not None:
        os.close(pipe[1])
        readers[pipe[0]] = f"{number}: ".encode()
    return child


def _become(spec: dict[str, Any], task: dict[str, Any], pipe: tuple[int, int] | None) -> None:
    try:
        if pipe is not None:
            os.dup2(pipe[1], 1)
            os.dup2(pipe[1], 2)
        for fd, path in ((1, task["out"]), (2, task["err"] or task["out"])):
            if path:
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), fd)
        os.chdir(spec["cwd"])
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(spec["argv"][0], spec["argv"], task["env"])  # noqa: S606 - no shell is wanted
    except OSError as error:
        text = f"slurmstepd-{task['node']}: error: execve(): {spec['argv'][0]}: {error.strerror}\n"
        sys.stderr.write(text)
        sys.stderr.flush()
    finally:
        os._exit(_CANNOT_EXECUTE)


def _copy_labelled(readers: dict[int, bytes]) -> None:
    """Print the lines of tasks with their numbers in front until all are done."""
    left = dict.fromkeys(readers, b"")
    while left:
        ready, _, _ = select.select(list(left), [], [])
        for fd in ready:
            data = os.read(fd, _CHUNK)
            lines = (left[fd] + data).split(b"\n")
            left[fd] = lines.pop()
            if not data and left[fd]:
                lines.append(left[fd])
            for line in lines:
                os.write(1, readers[fd] + line + b"\n")
            if not data:
                os.close(fd)
                del left[fd]
