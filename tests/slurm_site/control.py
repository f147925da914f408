"""What root does for the tests, who run as a plain user: asked for over a Unix socket.

One line of JSON is asked, `{"do": "stop", "name": "slurmctld"}`, and one is answered, `{"ok": ...}`
or `{"error": "..."}`. Nothing can be asked for but what `_DOES` lists: daemons of the site, small
file systems below the site's folder, sites that differ from it and stand beside it, and whether
another user can reach a socket.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_site import stranger
from slurm_site.configuration import VARIANTS
from slurm_site.processes import SiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurm_site.site import Site

_LARGEST_TMPFS = 64
_CREDENTIALS = struct.Struct("3i")
_ANSWER_SECONDS = 150


class Control:
    """Does what tests ask for, one thing at a time."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.user = pwd.getpwnam(site.layout.user)
        self._lock = threading.Lock()
        self._mounts: list[Path] = []
        self._beside: dict[str, Site] = {}

    def do(self, asked: dict[str, Any]) -> object:
        """Do one thing.

        Raises:
            SiteError: it is not on the list, or did not work.
        """
        what, name = str(asked.get("do")), str(asked.get("name", ""))
        if what not in _DOES:
            raise SiteError(f"{what!r} cannot be asked for; there are {', '.join(_DOES)}")
        with self._lock:
            return _DOES[what](self, name)

    def mount(self, megabytes: str) -> str:
        """Mount a small file system that belongs to the user; return its folder."""
        size = int(megabytes)
        if not 0 < size <= _LARGEST_TMPFS:
            raise SiteError(f"a tmpfs of {size} MB is not small")
        folder = self.site.layout.folder / "tmpfs" / str(len(self._mounts))
        folder.mkdir()
        options = f"size={size}m,uid={self.user.pw_uid},gid={self.user.pw_gid},mode=0700"
        _must("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
        self._mounts.append(folder)
        return str(folder)

    def unmount(self, folder: str) -> None:
        """Take a file system away that `mount` made."""
        if Path(folder) not in self._mounts:
            raise SiteError(f"{folder} was not mounted here")
        if os.path.ismount(folder):
            _must("umount", "--lazy", folder)

    def unmount_all(self) -> None:
        """Take all of them away."""
        for folder in self._mounts:
            self.unmount(str(folder))

    def open(self, variant: str) -> str:
        """Bring up a site beside this one; return its slurm.conf."""
        if variant not in VARIANTS:
            raise SiteError(f"there is no site {variant!r}; there are {', '.join(VARIANTS)}")
        if variant not in self._beside:
            site = type(self.site)(self.site.layout.opened(variant))
            self._beside[variant] = site
            site.up()
        return str(self._beside[variant].layout.conf)

    def close(self, variant: str) -> None:
        """Take a site down that `open` brought up."""
        site = self._beside.pop(variant, None)
        if site is None:
            raise SiteError(f"the site {variant!r} was not opened")
        site.down()
        shutil.rmtree(site.layout.folder, ignore_errors=True)

    def close_all(self) -> None:
        """Take all of them down."""
        for variant in list(self._beside):
            self.close(variant)


_DOES: dict[str, Callable[[Control, str], object]] = {
    "start": lambda control, name: control.site.start(name),
    "stop": lambda control, name: control.site.stop(name),
    "kill": lambda control, name: control.site.kill(name),
    "pause": lambda control, name: control.site.pause(name),
    "resume": lambda control, name: control.site.resume(name),
    "status": lambda control, _: control.site.status(),
    "mend": lambda control, _: control.site.mend(),
    "mount": Control.mount,
    "unmount": Control.unmount,
    "open": Control.open,
    "close": Control.close,
    "reach": lambda _, path: stranger.reach(path),
}


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        control: Control = self.server.control  # type: ignore[attr-defined] # put there below
        size = _CREDENTIALS.size
        peer = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        if _CREDENTIALS.unpack(peer)[1] not in (0, control.user.pw_uid):
            return
        try:
            answer: dict[str, object] = {"ok": control.do(json.loads(self.rfile.readline()))}
        except (SiteError, ValueError, OSError, subprocess.SubprocessError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    control: Control


@contextmanager
def serving(site: Site) -> Iterator[Path]:
    """Answer on a socket in the site's folder while the block runs; yield its path."""
    path = site.layout.folder / "control"
    server = _Server(str(path), _Handler)
    server.control = Control(site)
    # Everyone may connect, and the peer's uid is looked at.
    path.chmod(0o666)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield path
    finally:
        server.shutdown()
        server.server_close()
        server.control.close_all()
        server.control.unmount_all()


def ask(path: str, what: str, name: str = "") -> Any:
    """Ask for one thing, as the plain user.

    Raises:
        SiteError: it was refused or did not work.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(path)
        connection.sendall(json.dumps({"do": what, "name": name}).encode() + b"\n")
        with connection.makefile("r") as file:
            answer = json.loads(file.readline() or '{"error": "no answer"}')
    if "error" in answer:
        raise SiteError(answer["error"])
    return answer["ok"]


def _must(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise SiteError(f"{' '.join(argv)} failed: {done.stderr}")
