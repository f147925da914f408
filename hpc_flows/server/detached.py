"""A server in a process of its own: starting it and waiting until it is up, and stopping it.

Nothing of the server itself is loaded here, so that `server stop` takes no second.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

from hpc_flows.exceptions import ServerError
from hpc_flows.server import announcing
from hpc_flows.server.plan import Plan, Started

#: Seconds until a server in the background must be up (login nodes can be slow), and until one
#: that was told to end has.
START_SECONDS, STOP_SECONDS = 90.0, 60.0
_LARGEST_LOG = 10 * 2**20


def start_in_background(plan: Plan) -> Started:
    """Start a server in a process of its own that outlives this one, and wait until it is up.

    Raises:
        ServerError: it did not come up; the message has its reason.
    """
    log_path = announcing.log_file(plan.home)
    _roll(log_path)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    heard, say = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "hpc_flows.server.background", str(say)],
            # The plan may hold a database's password, and all users can see arguments.
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[say],
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(say)
        os.close(log)
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(asdict(plan)).encode())
    answer = _answer(heard, process)
    if "error" in answer:
        raise ServerError(f"{answer['error']} Its log: {log_path}")
    return Started(**answer)


def _answer(heard: int, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return what the new process says: that it is up, or why not."""
    text = b""
    deadline = time.monotonic() + START_SECONDS
    with os.fdopen(heard, "rb", buffering=0) as pipe:
        while (left := deadline - time.monotonic()) > 0 and not text.endswith(b"\n"):
            if select.select([pipe], [], [], left)[0]:
                piece = pipe.read(65536)
                if not piece:
                    break
                text += piece
    if text.endswith(b"\n"):
        found: dict[str, Any] = json.loads(text)
        return found
    if process.poll() is None and time.monotonic() >= deadline:
        process.kill()
        why = f"it was not up after {START_SECONDS:.0f} s"
    else:
        why = f"its process ended with status {process.wait()}"
    return {"error": f"The server did not start: {why}."}


def _roll(path: str) -> None:
    """Put a long log aside; the one before it goes."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.getsize(path) > _LARGEST_LOG:
            os.replace(path, f"{path}.1")


def stop(home: str, *, force: bool = False) -> announcing.Announcement | None:
    """Stop the server that announced itself in a home; return it, or None if none runs.

    Raises:
        ServerError: it is on another machine, or does not end.
    """
    said = announcing.read(home)
    if said is None:
        return None
    if not said.is_here:
        raise ServerError(
            f"The server runs on {said.host}, process {said.pid}; stop it there: "
            f"ssh {said.host} hpc-flows server stop"
        )
    if not said.is_alive:
        announcing.withdraw(home, said)
        return None
    os.kill(said.pid, signal.SIGKILL if force else signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _lives(said):
        if time.monotonic() > deadline:
            msg = f"Process {said.pid} has not ended. `hpc-flows server stop --force` kills it."
            raise ServerError(msg)
        time.sleep(0.02)
    if force:
        announcing.withdraw(home, said)
    return said


def _lives(said: announcing.Announcement) -> bool:
    return said.is_alive
