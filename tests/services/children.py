"""Programs that tests start: as a plain user, and never longer than the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Account(NamedTuple):
    """Who a service runs as."""

    name: str
    uid: int
    gid: int


def plain_account() -> Account:
    """Return the account of this process; for root, one that is not root's: many refuse root."""
    entry = pwd.getpwuid(os.geteuid())
    if entry.pw_uid == 0:
        known = {account.pw_name: account for account in pwd.getpwall()}
        entry = known.get("alice") or known["nobody"]
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def give(folder: Path, account: Account) -> None:
    """Make a folder the account's own, which nobody else may look into."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, account.uid, account.gid)


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    account: Account | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in the background; it gets a signal when this process dies.

    Args:
        argv: the command.
        cwd: its folder.
        log: where its output goes.
        account: who runs it, if not the user of this process.
        env: the whole of its environment; None gives a small one.
    """
    leash = shutil.which("setpriv", path=_PATH)
    words = [leash, "--pdeathsig", "TERM", "--", *argv] if leash else list(argv)
    other = account if os.geteuid() == 0 else None
    with log.open("ab") as out:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=dict(env) if env is not None else small_environment(cwd),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            user=other.uid if other else None,
            group=other.gid if other else None,
            extra_groups=[] if other else None,
        )


def run_as(argv: Sequence[str], *, account: Account, cwd: Path) -> None:
    """Run a program to its end.

    Raises:
        RuntimeError: it failed; its output is in the message.
    """
    log = cwd / f"{Path(argv[0]).name}.log"
    if spawn(argv, account=account, cwd=cwd, log=log).wait() != 0:
        raise RuntimeError(f"{argv[0]} failed: {tail(log)}")


def small_environment(home: Path) -> dict[str, str]:
    """Return an environment without anything of the caller's."""
    return {"PATH": _PATH, "HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(home)}


def await_answer(
    child: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path, seconds: float
) -> None:
    """Wait until a service answers.

    Raises:
        RuntimeError: it ended, or did not answer in time; the end of its log is in the message.
    """
    end = time.monotonic() + seconds
    while not ready():
        if child.poll() is not None or time.monotonic() > end:
            finish(child)
            raise RuntimeError(f"{child.args!r} did not come up: {tail(log)}")
        time.sleep(0.05)


def finish(child: subprocess.Popen[bytes], patience: float = 15.0) -> None:
    """End a program, politely first."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_text(errors="replace")[-1500:] if log.exists() else "(it wrote nothing)"
