"""What a server leaves in the home for others to find it: where it is, and a token.

`server/endpoint.json` says where, `server/token` opens it; both have mode 0600 and appear whole.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, NamedTuple

from hpc_flows.exceptions import ServerError
from hpc_flows.leases.holder import machine, start_of

_ENDPOINT, _TOKEN, _LOG = "endpoint.json", "token", "server.log"


class Announcement(NamedTuple):
    """A server as it announced itself.

    Attributes:
        url: `http(s)://host:port[/prefix]` or `unix:///path`.
        instance: its database's name for itself.
        pid: its process.
        host: the machine.
        started: when, in seconds since 1970.
        machine: the boot and namespace of processes that `pid` counts in.
        process_started: when the process started, in the kernel's words.
        public_url: how browsers reach it, where that is another address.
        database: where its data are, without a password.
    """

    url: str
    instance: str
    pid: int
    host: str
    started: float
    machine: str = ""
    process_started: str = ""
    public_url: str | None = None
    database: str = ""

    @property
    def is_here(self) -> bool:
        """Whether the process is one of this machine."""
        return self.machine == machine() if self.machine else self.host == os.uname().nodename

    @property
    def is_alive(self) -> bool:
        """Whether its process is known to live; the number alone could be another process's."""
        if not self.is_here:
            return False
        found = start_of(self.pid)
        return found is not None and (not self.process_started or found == self.process_started)


def folder_of(home: str) -> str:
    """Return the folder of the server's files, made with mode 0700 where it is missing.

    Raises:
        ServerError: it cannot be made.
    """
    folder = os.path.join(home, "server")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        msg = f"The folder {folder} cannot be made: {error.strerror}. Is HPC_FLOWS_HOME right?"
        raise ServerError(msg) from error
    return folder


def log_file(home: str) -> str:
    """Return the log of a server in the background."""
    return os.path.join(folder_of(home), _LOG)


def announce(home: str, url: str, instance: str, **more: Any) -> Announcement:
    """Say where this process serves, and return what was said."""
    pid = os.getpid()
    made = Announcement(
        url=url,
        instance=instance,
        pid=pid,
        host=os.uname().nodename,
        started=time.time(),
        machine=machine(),
        process_started=start_of(pid) or "",
        **more,
    )
    write_private(os.path.join(folder_of(home), _ENDPOINT), json.dumps(made._asdict()) + "\n")
    return made


def read(home: str) -> Announcement | None:
    """Return the server that announced itself last, alive or not; None if there is none."""
    path = os.path.join(home, "server", _ENDPOINT)
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid not in {os.geteuid(), 0}:
                raise ServerError(f"{path} belongs to another user, so it is not believed.")
            found = json.load(file)
        return Announcement(**{key: found[key] for key in Announcement._fields if key in found})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        msg = f"{path} cannot be read: {error}. Remove it; a server that starts writes it anew."
        raise ServerError(msg) from error


def withdraw(home: str, announcement: Announcement) -> None:
    """Take an announcement back, unless another server has announced itself since."""
    if read(home) == announcement:
        os.unlink(os.path.join(home, "server", _ENDPOINT))


def read_token(home: str) -> str | None:
    """Return the token of the first start, or None."""
    try:
        with open(os.path.join(home, "server", _TOKEN), encoding="ascii") as file:
            return file.read().strip() or None
    except FileNotFoundError:
        return None


def write_token(home: str, text: str) -> str:
    """Keep the token of the first start, and return the path of its file."""
    path = os.path.join(folder_of(home), _TOKEN)
    write_private(path, text + "\n")
    return path


def write_private(path: str, text: str) -> None:
    """Write a file that only its owner may read, and that appears whole.

    Raises:
        ServerError: the disk is full, or the folder cannot be written.
    """
    draft = f"{path}.{os.getpid()}"
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise ServerError(f"{path} cannot be written: {error.strerror}.") from error
