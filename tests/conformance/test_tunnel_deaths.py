"""What is left of a tunnel when something is killed: nothing, or what the docs say."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from services.far_server import FarServer, ask, until
from services.sshd import Sshd
from slurm_site.processes import descendants

from hpc_flows.exceptions import CommandTimedOut, TransportError
from hpc_flows.transports.openssh import OpenSshTransport
from hpc_flows.transports.openssh_connection import master_pid
from hpc_flows.transports.openssh_login import find_login, log_in, standing_logins
from hpc_flows.transports.openssh_tunnel import sweep
from hpc_flows.transports.ssh_destination import Destination, SshOptions
from hpc_flows.transports.ssh_door import Door
from hpc_flows.transports.tunnel import Pace, Tunnel, open_tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.transports.ssh_shell import SshTransport

pytestmark = pytest.mark.services

PATIENCE = 150.0
QUICK = Pace(first=0.1, longest=1.0, first_for_people=0.3, glance=0.05, probe=0.5)

#: A driver with a tunnel, that says when it is up and then only waits.
DRIVER = """
import sys, time
from hpc_flows.transports.ssh_destination import Destination, SshOptions, Target
from hpc_flows.transports.tunnel import open_tunnel
client, config, port = sys.argv[1:]
tunnel = open_tunnel(
    Destination("login.test"), Target("127.0.0.1", int(port)), probe=lambda path: None,
    client=client, options=SshOptions(config=config),
)
assert tunnel.wait_until_up(60), tunnel.status()
print(tunnel.path(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
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


@pytest.fixture
def tunnel(sshd: Sshd, server: FarServer) -> Iterator[Tunnel]:
    options = SshOptions(config=str(sshd.config))
    destination = Destination(sshd.host)
    with open_tunnel(destination, server.target, probe=ask, options=options, pace=QUICK) as tunnel:
        assert tunnel.wait_until_up(PATIENCE), tunnel.status()
        yield tunnel


def own_masters(runtime: Path) -> list[int]:
    folder = runtime / "hpc-flows"
    found = (master_pid(str(path), "x") for path in folder.glob("m-*") if path.suffix != ".log")
    return [pid for pid in found if pid is not None]


def test_a_killed_master_is_replaced(tunnel: Tunnel, runtime: Path) -> None:
    before = tunnel.path()
    (pid,) = own_masters(runtime)
    os.kill(pid, signal.SIGKILL)
    until(lambda: tunnel.status().drops == 1)
    assert tunnel.wait_until_up(PATIENCE)
    assert ask(tunnel.path()) == b"pong 1\n"
    assert not os.path.exists(before)
    assert len(own_masters(runtime)) == 1


def test_a_lent_login_is_used_left_alone_and_outlived(
    sshd: Sshd, server: FarServer, runtime: Path
) -> None:
    destination, options = Destination(sshd.host), SshOptions(config=str(sshd.config))
    login, is_new = log_in(destination, options, keep=60)
    assert is_new
    way = functools.partial(
        open_tunnel, destination, server.target, probe=ask, options=options, pace=QUICK
    )
    with way() as tunnel:
        assert tunnel.wait_until_up(PATIENCE), tunnel.status()
        assert ask(tunnel.path()) == b"pong 1\n"
    assert sshd.logins() == 1
    assert find_login(destination, options) == login
    assert not list((runtime / "hpc-flows").glob("t-*"))
    with way() as tunnel:
        assert tunnel.wait_until_up(PATIENCE), tunnel.status()
        os.kill(login.pid, signal.SIGKILL)
        until(lambda: tunnel.status().drops == 1)
        assert tunnel.wait_until_up(PATIENCE), tunnel.status()
        assert ask(tunnel.path()) == b"pong 1\n"
        assert find_login(destination, options) is None
        assert standing_logins() == []
    assert sshd.logins() == 2


def test_a_closed_tunnel_leaves_no_process(tunnel: Tunnel) -> None:
    assert descendants(os.getpid())
    tunnel.close()
    names = [Path(f"/proc/{program.pid}/comm") for program in descendants(os.getpid())]
    assert not [name for name in names if name.exists() and name.read_text().strip() == "ssh"]


@pytest.mark.parametrize("client", ["openssh", "paramiko"])
def test_a_killed_driver_leaves_no_process(
    client: str, sshd: Sshd, server: FarServer, runtime: Path
) -> None:
    if client == "paramiko":
        pytest.importorskip("paramiko")
    words = [sys.executable, "-c", DRIVER, client, str(sshd.config), str(server.target.port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        path = driver.stdout.readline().strip()
        assert ask(path) == b"pong 1\n"
        started = descendants(driver.pid)
        assert bool(started) == (client == "openssh")
        driver.kill()
    until(lambda: not any(program.alive() for program in started))
    until(lambda: not sshd.sessions())
    # What remains is the file of a socket at which nobody listens; the next tunnel clears it.
    with pytest.raises(ConnectionRefusedError):
        ask(path)
    old = Path(path).stat().st_mtime - 100
    for file in (runtime / "hpc-flows").iterdir():
        os.utime(file, (old, old))
    sweep(str(runtime / "hpc-flows"))
    assert not list((runtime / "hpc-flows").iterdir())


def test_sweeping_spares_what_is_alive(tunnel: Tunnel, runtime: Path) -> None:
    for file in (runtime / "hpc-flows").iterdir():
        os.utime(file, (1, 1))
    sweep(str(runtime / "hpc-flows"))
    assert ask(tunnel.path()) == b"pong 1\n"
    assert own_masters(runtime)


def test_commands_go_on_after_a_killed_master(sshd: Sshd, runtime: Path) -> None:
    options = SshOptions(config=str(sshd.config))
    with OpenSshTransport(Destination(sshd.host), options) as transport:
        transport.run(["true"])
        (pid,) = own_masters(runtime)
        os.kill(pid, signal.SIGKILL)
        assert transport.run(["echo", "again"]).stdout == "again\n"
    assert sshd.logins() == 2


@pytest.mark.parametrize("client", ["openssh", "paramiko"])
def test_a_command_whose_connection_breaks_is_in_doubt(client: str, sshd: Sshd) -> None:
    with a_transport(client, sshd) as transport, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(transport.run, ["sleep", "60"])
        until(lambda: any(command.startswith("sleep") for command in commands_of(sshd)))
        sshd.drop_connections()
        with pytest.raises(CommandTimedOut, match="may have done its work all the same"):
            slow.result(PATIENCE)
        assert transport.run(["echo", "again"]).stdout == "again\n"


@pytest.mark.parametrize("client", ["openssh", "paramiko"])
def test_commands_wait_for_each_other_where_sessions_are_few(client: str, sshd: Sshd) -> None:
    sshd.restart(MaxSessions="1")
    with a_transport(client, sshd) as transport, ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda n: transport.run(["echo", str(n)]).stdout, range(3)))
        assert done == ["0\n", "1\n", "2\n"]
        slow = pool.submit(transport.run, ["sleep", "3"])
        until(lambda: any(command.startswith("sleep") for command in commands_of(sshd)))
        with pytest.raises(TransportError, match="MaxSessions"):
            transport.run(["echo", "never"], timeout=0.5)
        assert slow.result().returncode == 0
    assert sshd.logins() == 1


def a_transport(client: str, sshd: Sshd) -> SshTransport:
    options = SshOptions(config=str(sshd.config))
    if client == "openssh":
        return OpenSshTransport(Destination(sshd.host), options)
    pytest.importorskip("paramiko")
    from hpc_flows.transports.paramiko.transport import ParamikoTransport

    return ParamikoTransport(Destination(sshd.host), options)


def commands_of(sshd: Sshd) -> list[str]:
    """Return the command lines of what runs in the server's sessions."""
    found = []
    for program in sshd.sessions():
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{program.pid}/cmdline").read_text())
    return found


def test_a_port_that_is_taken_is_told(tunnel: Tunnel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match=f"Port {port} .* another with --port"):
            Door(tunnel, port)


def test_a_door_leads_through(tunnel: Tunnel) -> None:
    with (
        Door(tunnel) as door,
        socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE) as link,
    ):
        link.sendall(b"ping door\n")
        assert link.makefile("rb").readline() == b"pong door\n"
