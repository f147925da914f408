"""The rules of `hpc_flows.transports.tunnel`, held by both clients against a real sshd."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from services.far_server import FarServer, ask, received_until_it_broke, until
from services.sshd import Sshd

from hpc_flows.exceptions import TransportError
from hpc_flows.transports.ssh_destination import Destination, SshOptions, Target, unix_target
from hpc_flows.transports.tunnel import Pace, Tunnel, open_tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.services

CLIENTS = ["openssh", "paramiko"]

#: Seconds that anything here may take on a busy machine.
PATIENCE = 150.0

QUICK = Pace(first=0.1, longest=1.0, first_for_people=0.3, glance=0.05, probe=0.5)


def probe(path: str) -> None:
    assert ask(path, seconds=3.0).startswith(b"pong")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a short folder for sockets: pytest's own paths are too long for them."""
    folder = Path(tempfile.mkdtemp(prefix="hf-ssh-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def sshd(runtime: Path) -> Iterator[Sshd]:
    with Sshd(runtime / "sshd") as server:
        yield server


@pytest.fixture
def server() -> Iterator[FarServer]:
    server = FarServer.on_tcp()
    yield server
    server.close()


class Laying:
    """Opens tunnels of one client to one sshd, and closes them after the test."""

    def __init__(self, client: str, sshd: Sshd, stack: ExitStack) -> None:
        self.client = client
        self.sshd = sshd
        self._stack = stack

    def __call__(
        self, target: Target, *, host: str | None = None, pace: Pace = QUICK, **options: int
    ) -> Tunnel:
        settings = {"connect_timeout": 5, "alive_interval": 1, "alive_count": 6, **options}
        tunnel = open_tunnel(
            Destination(host or self.sshd.host),
            target,
            probe=probe,
            client=self.client,
            options=SshOptions(config=str(self.sshd.config), **settings),
            pace=pace,
        )
        return self._stack.enter_context(tunnel)


@pytest.fixture(params=CLIENTS)
def lay(request: pytest.FixtureRequest, sshd: Sshd) -> Iterator[Laying]:
    if request.param == "paramiko":
        pytest.importorskip("paramiko")
    with ExitStack() as stack:
        yield Laying(request.param, sshd, stack)


def up(tunnel: Tunnel) -> Tunnel:
    assert tunnel.wait_until_up(PATIENCE), tunnel.status()
    return tunnel


def troubled(tunnel: Tunnel, kind: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while (status := tunnel.status()).trouble != kind or status.state != "down":
        assert time.monotonic() < deadline, status
        time.sleep(0.01)
    with pytest.raises(TransportError) as raised:
        tunnel.path()
    assert str(raised.value) == status.error
    assert kind in status.line()
    return str(status.error)


def test_a_server_is_reached_through_it(lay: Laying, server: FarServer) -> None:
    tunnel = up(lay(server.target))
    assert ask(tunnel.path(), "ping through") == b"pong through\n"
    assert tunnel.status().drops == 0
    assert "up for" in tunnel.status().line()


def test_a_unix_socket_is_reached_through_it(lay: Laying, runtime: Path) -> None:
    server = FarServer.on_unix(runtime / "server.sock")
    assert ask(up(lay(server.target)).path(), "ping unix") == b"pong unix\n"
    server.close()


def test_only_its_user_may_connect(lay: Laying, server: FarServer) -> None:
    path = Path(up(lay(server.target)).path())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_user_cannot_use_it(
    lay: Laying, server: FarServer, runtime: Path, as_another_user: Callable[[str], str]
) -> None:
    path = up(lay(server.target)).path()
    runtime.chmod(0o755)  # the worst case: even with the folder above open
    assert as_another_user(path) == "refused"


def test_much_comes_through_whole(lay: Laying, server: FarServer) -> None:
    size = 20_000_000
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        link.connect(up(lay(server.target)).path())
        link.sendall(f"big {size}\n".encode())
        got = 0
        while chunk := link.recv(1 << 20):
            got += len(chunk)
    assert got == size


def test_twenty_requests_at_once_are_answered(lay: Laying, server: FarServer) -> None:
    path = up(lay(server.target)).path()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: ask(path, f"ping {n}", PATIENCE), range(20)))
    assert answers == [f"pong {n}\n".encode() for n in range(20)]


def test_it_comes_back_after_a_restart_in_mid_transfer(lay: Laying, server: FarServer) -> None:
    tunnel = up(lay(server.target))
    before = tunnel.path()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        link.connect(before)
        link.sendall(b"big 500000000\n")
        assert link.recv(1000)
        lay.sshd.restart()
        assert received_until_it_broke(link) < 500_000_000
    until(lambda: tunnel.status().drops == 1)
    assert ask(up(tunnel).path(), "ping again") == b"pong again\n"
    assert tunnel.path() != before
    assert not os.path.exists(before)


def test_it_says_so_while_sshd_is_away_and_comes_back(lay: Laying, server: FarServer) -> None:
    tunnel = up(lay(server.target))
    lay.sshd.stop()
    said = troubled(tunnel, "unreachable")
    assert lay.sshd.host in said
    time.sleep(1.0)
    lay.sshd.start()
    assert ask(up(tunnel).path()) == b"pong 1\n"


def test_a_frozen_connection_is_noticed(lay: Laying, server: FarServer) -> None:
    tunnel = up(lay(server.target))
    before = tunnel.path()
    lay.sshd.freeze()
    tunnel.suspect()
    until(lambda: tunnel.status().drops == 1)
    assert ask(up(tunnel).path()) == b"pong 1\n"
    assert tunnel.path() != before


def test_a_server_that_is_away_costs_no_new_login(lay: Laying, server: FarServer) -> None:
    tunnel = up(lay(server.target))
    logins = lay.sshd.logins()
    server.close()
    said = troubled(tunnel, "no server there")
    assert str(server.target) in said
    again = socket.create_server(("127.0.0.1", server.target.port))
    second = FarServer(again, server.target)
    assert ask(up(tunnel).path()) == b"pong 1\n"
    assert lay.sshd.logins() == logins
    second.close()


def test_a_server_that_is_not_the_right_one_is_no_tunnel(lay: Laying) -> None:
    stranger = socket.create_server(("127.0.0.1", 0))
    tunnel = lay(Target("127.0.0.1", stranger.getsockname()[1]))
    troubled(tunnel, "no server there")
    stranger.close()


def test_forwarding_that_is_not_allowed_is_told(lay: Laying, server: FarServer) -> None:
    lay.sshd.restart(AllowTcpForwarding="no", AllowStreamLocalForwarding="no")
    said = troubled(lay(server.target), "forwarding not allowed")
    assert "hpc-flows relay pull ssh://login.test" in said


def test_a_socket_that_may_not_be_allowed_is_told(lay: Laying, runtime: Path) -> None:
    server = FarServer.on_unix(runtime / "far.sock")
    lay.sshd.restart(AllowStreamLocalForwarding="no")
    # sshd says the same of a socket that is not there.
    said = troubled(lay(server.target), "no server there")
    assert "allows no forwarding to sockets: name a TCP port" in said
    server.close()


def test_a_socket_that_is_not_there_is_told(lay: Laying, runtime: Path) -> None:
    said = troubled(lay(unix_target(f"{runtime}/nothing.sock")), "no server there")
    assert f"nothing answers at {runtime}/nothing.sock" in said


def test_a_changed_host_key_is_never_accepted(lay: Laying, server: FarServer) -> None:
    tunnel = up(lay(server.target))
    known = lay.sshd.known_hosts.read_bytes()
    lay.sshd.change_host_key()
    lay.sshd.restart()
    said = troubled(tunnel, "host key changed")
    assert "fingerprint" in said
    assert "ssh-keygen " in said
    assert lay.sshd.known_hosts.read_bytes() == known
    lay.sshd.trust()
    up(tunnel)


def test_a_configuration_without_key_checks_is_not_followed(lay: Laying, server: FarServer) -> None:
    lay.sshd.write_client_config(StrictHostKeyChecking="no")
    lay.sshd.change_host_key()
    lay.sshd.restart()
    troubled(lay(server.target), "host key changed")


def test_an_unknown_host_is_not_trusted(lay: Laying, server: FarServer) -> None:
    lay.sshd.forget()
    said = troubled(lay(server.target), "host unknown")
    assert f"hpc-flows connect {lay.sshd.host}" in said
    assert not lay.sshd.known_hosts.read_bytes()


def test_a_key_that_is_not_let_in_asks_for_a_login(lay: Laying, server: FarServer) -> None:
    other = Sshd(lay.sshd.folder / "other")
    lay.sshd.write_client_config(IdentityFile=str(other.key))
    said = troubled(lay(server.target), "needs login")
    assert f"hpc-flows connect {lay.sshd.host}" in said


def test_a_host_without_a_name_is_unreachable(lay: Laying, server: FarServer) -> None:
    lay.sshd.write_client_config(HostName="no-such-host.invalid")
    assert "VPN" in troubled(lay(server.target), "unreachable")


def test_a_jump_host_is_gone_through(lay: Laying, server: FarServer) -> None:
    with Sshd(lay.sshd.folder / "behind", host="behind.test") as behind:
        lay.sshd.write_client_config(extra=behind.client_lines(ProxyJump=lay.sshd.host))
        tunnel = up(lay(server.target, host="behind.test"))
        assert ask(tunnel.path()) == b"pong 1\n"
        assert (lay.sshd.logins(), behind.logins()) == (1, 1)


def test_banners_do_no_harm(lay: Laying, server: FarServer, runtime: Path) -> None:
    (runtime / "banner").write_text("Connection refused, Permission denied\n" * 40)
    lay.sshd.restart(Banner=str(runtime / "banner"))
    assert ask(up(lay(server.target)).path()) == b"pong 1\n"


def test_a_site_with_few_sessions_is_enough(lay: Laying, server: FarServer) -> None:
    lay.sshd.restart(MaxSessions="1")
    path = up(lay(server.target)).path()
    with ThreadPoolExecutor(10) as pool:
        assert len(list(pool.map(lambda n: ask(path, f"ping {n}", PATIENCE), range(10)))) == 10


def test_a_person_with_odd_things_in_their_configuration_is_served(
    lay: Laying, server: FarServer
) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    lay.sshd.write_client_config(LocalForward=f"{port} 127.0.0.1:1", RemoteCommand="false")
    # As people have it who share a configuration with a Mac.
    words = f"IgnoreUnknown UseKeychain\nUseKeychain yes\n{lay.sshd.config.read_text()}"
    lay.sshd.config.write_text(words)
    assert ask(up(lay(server.target)).path()) == b"pong 1\n"
    taken.close()


def test_a_long_home_and_runtime_folder_do_no_harm(
    lay: Laying, server: FarServer, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = runtime / ("a" * 90)
    long.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setenv("HOME", str(long))
    tunnel = up(lay(server.target))
    assert len(tunnel.path()) < 90
    assert ask(tunnel.path()) == b"pong 1\n"


def test_closing_leaves_nothing(lay: Laying, server: FarServer, runtime: Path) -> None:
    tunnel = up(lay(server.target))
    tunnel.close()
    tunnel.close()
    assert tunnel.status().state == "closed"
    assert not list((runtime / "hpc-flows").iterdir())
    until(lambda: not lay.sshd.sessions())
    with pytest.raises(TransportError):
        tunnel.path()
