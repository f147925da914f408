"""Logins that a person gives once and that stay for a while: `hpc-flows connect`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.transports.openssh_client import OpenSshClient, environment, on_master, run_ssh
from hpc_flows.transports.openssh_connection import find_lent, master_pid
from hpc_flows.transports.ssh_folder import has_listener, socket_folder
from hpc_flows.transports.ssh_trouble import FOR_PEOPLE, SshError, login_trouble

if TYPE_CHECKING:
    from hpc_flows.transports.ssh_destination import Destination, SshOptions

_LEAVES_WITHIN = 5.0


class Login(NamedTuple):
    """A login that stays, for all commands and tunnels of this user on this machine.

    Attributes:
        destination: as the person wrote it.
        control: path of its control socket.
        opened: when, in seconds since 1970.
        keep: seconds without any use after which it ends.
        pid: of its ssh.
    """

    destination: str
    control: str
    opened: float
    keep: int
    pid: int


def log_in(destination: Destination, options: SshOptions, keep: int) -> tuple[Login, bool]:
    """Log in, asking the person at the terminal where ssh has questions.

    ssh asks them, on the terminal; hpc-flows sees no answer.

    Args:
        destination: where.
        options: how.
        keep: seconds without any use after which the login ends.

    Returns:
        The login, and whether it is new.

    Raises:
        SshError: it failed; why, and what to do.
    """
    client = OpenSshClient(destination, options)
    lent = find_lent(client)
    if lent is not None:
        return _known(lent.control, str(destination), lent.pid), False
    control = client.resolve().control_path()
    _forget(control)
    _ask_ssh(client, control, keep)
    pid = master_pid(control, destination.host)
    if pid is None:
        raise login_trouble(_said(control), str(destination))
    login = Login(str(destination), control, time.time(), keep, pid)
    _note(login)
    return login, True


def find_login(destination: Destination, options: SshOptions) -> Login | None:
    """Return the login to a machine that stays; None when there is none.

    Raises:
        SshError: ssh's configuration cannot be read.
    """
    lent = find_lent(OpenSshClient(destination, options))
    return None if lent is None else _known(lent.control, str(destination), lent.pid)


def standing_logins() -> list[Login]:
    """Return all logins of this user that stay on this machine."""
    folder = socket_folder()
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("c-") and name.endswith(".json"):
            control = os.path.join(folder, name.removesuffix(".json"))
            known = _known(control, "", 0)
            pid = master_pid(control, known.destination or "login")
            if pid is None and not has_listener(control):
                _forget(control)
            elif pid is not None:
                found.append(known._replace(pid=pid))
    return found


def log_out(login: Login) -> None:
    """End a login, and with it all that uses it.

    Raises:
        SshError: its ssh does not leave.
    """
    run_ssh(on_master(login.control, "-O", "exit", "--", "login"))
    deadline = time.monotonic() + _LEAVES_WITHIN
    while os.path.exists(login.control):
        if time.monotonic() > deadline:
            raise SshError(f"The ssh of {login.destination} (process {login.pid}) does not leave.")
        time.sleep(0.05)
    _forget(login.control)


def _ask_ssh(client: OpenSshClient, control: str, keep: int) -> None:
    # Without a terminal there is nobody to ask, and a key may be enough.
    interactive = sys.stdin.isatty()
    command = client.logging_in("-f", "-N", "-T", interactive=interactive)
    words = [
        *("-o", "ControlMaster=yes", "-o", f"ControlPath={control}"),
        *("-o", f"ControlPersist={keep}", "-o", "LogLevel=INFO", "-E", f"{control}.log"),
    ]
    done = subprocess.run(
        [*command, *words, *client.whereto()],
        stdin=None if interactive else subprocess.DEVNULL,
        # A master that went to the background must not hold a pipe of the caller's open.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        check=False,
    )
    if done.returncode != 0:
        trouble = login_trouble(_said(control), str(client.destination))
        _forget(control)
        if not interactive and trouble.kind in FOR_PEOPLE:
            raise SshError(f"{trouble} Run it in a terminal: ssh has to ask.", trouble.kind)
        raise trouble


def _said(control: str) -> str:
    try:
        with open(f"{control}.log", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _note(login: Login) -> None:
    about = {"destination": login.destination, "opened": login.opened, "keep": login.keep}
    path = f"{login.control}.json"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(about, file)
    os.replace(f"{path}.new", path)


def _known(control: str, destination: str, pid: int) -> Login:
    try:
        with open(f"{control}.json", encoding="utf-8") as file:
            data = json.load(file)
        return Login(
            str(data["destination"]), control, float(data["opened"]), int(data["keep"]), pid
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Login(destination, control, 0.0, 0, pid)


def _forget(control: str) -> None:
    for path in (control, f"{control}.json", f"{control}.log"):
        with contextlib.suppress(OSError):
            os.unlink(path)
