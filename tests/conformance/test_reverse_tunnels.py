"""Tunnels that end on a login node, against a real sshd."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from services.far_server import FarServer, ask, until
from services.sshd import Sshd

from hpc_flows.transports.ssh_destination import Destination, SshOptions
from hpc_flows.transports.tunnel import Pace, Tunnel, open_reverse_tunnel
from hpc_flows.transports.tunnel_published import published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.services

PATIENCE = 150.0
QUICK = Pace(first=0.1, longest=1.0, first_for_people=0.3, glance=0.05, probe=0.5)


def probe(path: str) -> None:
    assert ask(path).startswith(b"pong")


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
def tunnel(sshd: Sshd, server: FarServer, home: Path) -> Iterator[Tunnel]:
    with open_reverse_tunnel(
        Destination(sshd.host),
        server.target,
        probe=probe,
        home=str(home),
        options=SshOptions(config=str(sshd.config), alive_interval=1, alive_count=2),
        pace=QUICK,
    ) as tunnel:
        yield tunnel


def up(tunnel: Tunnel) -> None:
    assert tunnel.wait_until_up(PATIENCE), tunnel.status()


def test_a_relay_there_finds_it_and_reaches_the_server(tunnel: Tunnel, home: Path) -> None:
    up(tunnel)
    (end,) = published(str(home))
    assert end.url == f"unix://{end.path}"
    assert (end.host, end.origin) == (platform.node(), platform.node())
    assert ask(end.path, "ping from there") == b"pong from there\n"


def test_nobody_else_there_may_use_it(tunnel: Tunnel, home: Path) -> None:
    up(tunnel)
    path = Path(published(str(home))[0].path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    file = home / "tunnels" / f"{platform.node()}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_another_user_there_is_kept_out(
    tunnel: Tunnel, home: Path, as_another_user: Callable[[str], str]
) -> None:
    up(tunnel)
    assert as_another_user(published(str(home))[0].path) == "refused"


def test_after_a_drop_there_is_a_new_end(tunnel: Tunnel, home: Path, sshd: Sshd) -> None:
    up(tunnel)
    before = published(str(home))[0].path
    sshd.restart()
    until(lambda: tunnel.status().drops == 1)
    up(tunnel)
    (end,) = published(str(home))
    assert end.path != before
    assert not os.path.exists(before)
    assert ask(end.path) == b"pong 1\n"


def test_closing_withdraws_it(tunnel: Tunnel, home: Path) -> None:
    up(tunnel)
    path = published(str(home))[0].path
    tunnel.close()
    assert published(str(home)) == []
    assert not os.path.exists(path)
    assert not list((home / "tunnels").iterdir())


def test_nothing_is_published_before_the_server_answers(
    tunnel: Tunnel, server: FarServer, home: Path
) -> None:
    server.close()
    until(lambda: tunnel.status().trouble == "no server there")
    said = str(tunnel.status().error)
    assert f"{server.target} as seen from here" in said
    assert tunnel.status().state != "up"


def test_a_site_that_forbids_it_is_told(sshd: Sshd, server: FarServer, home: Path) -> None:
    sshd.restart(AllowStreamLocalForwarding="no")
    with open_reverse_tunnel(
        Destination(sshd.host),
        server.target,
        probe=probe,
        home=str(home),
        options=SshOptions(config=str(sshd.config)),
        pace=QUICK,
    ) as tunnel:
        until(lambda: tunnel.status().trouble == "forwarding not allowed")
        assert "hpc-flows relay pull ssh://login.test" in str(tunnel.status().error)


def test_ends_that_are_dead_or_of_others_are_passed_over(home: Path, runtime: Path) -> None:
    folder = home / "tunnels"
    folder.mkdir(parents=True)
    path = runtime / "x.sock"
    about = f'"host": "{platform.node()}", "opened": 1, "origin": "laptop", "url": "unix://{path}"'
    file = folder / "one.json"
    file.write_text(f'{{"path": "{path}", {about}}}')
    (folder / "torn.json").write_text('{"path": ')
    assert published(str(home)) == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert [end.path for end in published(str(home))] == [str(path)]
        file.chmod(0o666)
        assert published(str(home)) == []
        file.chmod(0o600)
        file.write_text(file.read_text().replace(platform.node(), "another-node"))
        assert published(str(home)) == []
