"""The thread that keeps a tunnel up, without any ssh: whatever is raised in it, it goes on."""

from __future__ import annotations

import errno
import socket
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest

from hpc_flows.exceptions import SettingsError
from hpc_flows.reporting.login import SinkThread
from hpc_flows.reporting.opening import Configured
from hpc_flows.transports.openssh_client import OpenSshClient
from hpc_flows.transports.openssh_connection import LentConnection
from hpc_flows.transports.paramiko.tunnel import ParamikoLink, _Pulse
from hpc_flows.transports.ssh_destination import Destination, unix_target
from hpc_flows.transports.ssh_door import Door
from hpc_flows.transports.ssh_trouble import SshError
from hpc_flows.transports.tunnel import DIALLING, Pace, Tunnel, TunnelStatus, open_tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.reporting.sink import Sink


class Link:
    """A connection that meets trouble of this machine when it is told to."""

    path = "/somewhere"

    def __init__(self, place: str) -> None:
        self._place = place

    def _reach(self, place: str) -> None:
        if place == self._place:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    def ended(self) -> SshError | None:
        self._reach("ended")
        return SshError("It was cut.") if self._place == "close" else None

    def mark(self) -> None:
        self._reach("mark")

    def explain(self) -> SshError | None:
        return None

    def ready(self) -> None:
        self._reach("ready")

    def close(self) -> None:
        self._reach("close")


class Dialler:
    """Has trouble at one place for the first time, and none later."""

    def __init__(self, place: str) -> None:
        self._place, self._dialled = place, 0

    def dial(self) -> Link:
        self._dialled += 1
        if self._dialled > 1:
            return Link("")
        if self._place == "dial":
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return Link(self._place)

    def has_news(self) -> bool:
        return False

    def has_dialled_twice(self) -> bool:
        return self._dialled > 1


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Give a folder for sockets: pytest's own paths may be too long for them."""
    with tempfile.TemporaryDirectory(prefix="hf-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("place", ["dial", "mark", "ready", "ended", "close"])
def test_a_tunnel_that_finds_no_process_or_no_room_dials_again_later(place: str) -> None:
    first = TunnelStatus("there", "server", "openssh", DIALLING, 0.0, 0, None, None, None)
    dialler = Dialler(place)
    with Tunnel(dialler, lambda _: None, first, Pace(first=0.05, glance=0.01, probe=0.02)) as made:
        end = time.monotonic() + 150
        while not dialler.has_dialled_twice() or made.status().state != "up":
            assert time.monotonic() < end, made.status()
            time.sleep(0.01)


def test_a_tunnel_tells_what_this_machine_lacks() -> None:
    class Never(Dialler):
        def dial(self) -> Link:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    first = TunnelStatus("there", "server", "openssh", DIALLING, 0.0, 0, None, None, None)
    with Tunnel(Never(""), lambda _: None, first, Pace(first=60.0)) as made:
        end = time.monotonic() + 150
        while made.status().state != "down":
            assert time.monotonic() < end, made.status()
            time.sleep(0.01)
        with pytest.raises(SshError, match="cannot be kept up from this machine: BlockingIOError"):
            made.path()


def test_a_login_whose_process_number_is_now_somebody_elses_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_pid: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", refused)
    assert not LentConnection(OpenSshClient(Destination("there")), "/c", 7).alive()


def test_a_door_stays_open_when_no_more_files_could_be_opened_for_a_while(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, refused = socket.socket.accept, list[int]()

    def short(listener: socket.socket) -> tuple[socket.socket, object]:
        if listener.family == socket.AF_INET and not refused:
            refused.append(1)
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    class Inside:
        def path(self) -> str:
            return str(short_folder / "s")

    monkeypatch.setattr(socket.socket, "accept", short)
    with socket.socket(socket.AF_UNIX) as server, Door(Inside()) as door:  # type: ignore[arg-type] # all that a door asks of a tunnel
        server.bind(str(short_folder / "s"))
        server.listen()
        with socket.create_connection(("127.0.0.1", door.port), timeout=150) as visitor:
            visitor.sendall(b"ping")
            server.settimeout(150)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(4) == b"ping"
    assert refused


def test_paramiko_that_is_not_installed_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("hpc_flows.transports.paramiko")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(SettingsError, match=r"pip install 'hpc-flows\[ssh\]'"):
        open_tunnel(
            Destination("there"), unix_target("/s"), probe=lambda _: None, client="paramiko"
        )


def test_a_sink_that_cannot_be_made_at_all_is_a_problem_that_is_told() -> None:
    def make() -> Sink:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    thread = SinkThread(Configured("there", make), "/nowhere")
    thread.start()
    end = time.monotonic() + 150
    while not thread.problem:
        assert time.monotonic() < end
        time.sleep(0.01)
    thread.end()
    thread.join(150)
    assert "Resource temporarily unavailable" in thread.problem


class GoneChannel:
    """A channel of paramiko's whose connection goes before it is closed."""

    transport = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        raise EOFError  # as `paramiko.Channel.close` does when its message cannot be sent

    def recv(self, _: int) -> bytes:
        return b""

    def shutdown_write(self) -> None:
        raise EOFError


def test_a_request_ends_in_peace_with_the_connection_that_carried_it() -> None:
    link: Any = SimpleNamespace(_target=None, _options=SimpleNamespace(connect_timeout=1.0))
    transport = SimpleNamespace(open_target=lambda *_: GoneChannel())
    link._connection = SimpleNamespace(transport=transport, host="login")
    here, there = socket.socketpair()
    with here:
        there.close()
        ParamikoLink._serve(link, here)
        assert here.fileno() == -1


def test_the_pulse_ends_in_peace_with_the_connection_that_it_felt() -> None:
    asked = []

    def gone(*_: object, **__: object) -> None:
        asked.append(1)
        raise EOFError

    transport = SimpleNamespace(is_active=lambda: True, global_request=gone)
    pulse: Any = SimpleNamespace(_connection=SimpleNamespace(transport=transport))
    _Pulse._beat(pulse)
    assert asked == [1]
