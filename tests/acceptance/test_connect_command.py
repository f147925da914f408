"""`hpc-flows connect` as people use it, against a real sshd."""

from __future__ import annotations

import json
import os
import pty
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest
from cli_process import Shell
from services.far_server import FarServer, ask, until
from services.sshd import Sshd

from hpc_flows.transports.openssh import OpenSshTransport, ssh_command
from hpc_flows.transports.ssh_destination import Destination, SshOptions
from hpc_flows.transports.tunnel import Pace, open_tunnel
from hpc_flows.transports.tunnel_published import published

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.services,
    # A terminal takes a fork; the child becomes another program at once.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

SECRET = "open sesame canary"  # noqa: S105 - of a key that lives as long as its test
PATIENCE = 150.0


@pytest.fixture
def shell(home: Path) -> Iterator[Shell]:
    home.mkdir(parents=True, exist_ok=True)
    with Shell(home, {}) as shell:
        yield shell


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hf-ssh-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def sshd(runtime: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with Sshd(runtime / "sshd") as server:
        monkeypatch.setenv("HPC_FLOWS_SSH_CONFIG", str(server.config))
        yield server
        shell.run("connect", "--close")


def with_passphrase(sshd: Sshd) -> None:
    """Lock the key, so that only a person can log in."""
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", SECRET, "-f", str(sshd.key)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def at_a_terminal(answers: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run hpc-flows at a terminal, and type an answer when its question has appeared."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(  # noqa: S606 - the test needs a terminal of its own, which subprocess has not
            sys.executable, [sys.executable, "-m", "hpc_flows", *arguments]
        )
    shown = ""
    left = dict(answers)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            shown += os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            break
        for question in [question for question in left if question in shown]:
            os.write(terminal, left.pop(question).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def server_there(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpc_flows", "server", *words],
        env={**os.environ, "HPC_FLOWS_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def fetched(url: str, content: object = None, **headers: str) -> tuple[object, str]:
    """Ask as a browser does; return the JSON of the answer and the cookie."""
    body = None if content is None else json.dumps(content).encode()
    named = {"Content-Type": "application/json", **headers}
    asked = Request(url, body, named)  # noqa: S310 - the test's own server
    with urlopen(asked, timeout=60) as answer:  # noqa: S310 - the same
        return json.load(answer), answer.headers["Set-Cookie"] or ""


def test_a_login_is_kept_shown_and_closed(shell: Shell, sshd: Sshd) -> None:
    first = shell.run("connect", sshd.host, "--keep", "90s")
    assert first.returncode == 0, first.stderr
    assert "Logged in to login.test" in first.stdout
    assert "There is a login already" in shell.run("connect", sshd.host).stdout
    (login,) = json.loads(shell.run("connect", "--status", "--json").stdout)
    assert (login["destination"], login["keep"]) == (sshd.host, 90)
    options = SshOptions(config=str(sshd.config))
    with OpenSshTransport(Destination(sshd.host), options) as transport:
        assert transport.run(["echo", "hi"]).stdout == "hi\n"
    words = ssh_command(Destination(sshd.host), ["printf", "%s|", "a b", "$HOME", "~/x y"], options)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    far_home = pwd.getpwuid(os.geteuid()).pw_dir  # what sshd calls home, whatever HOME says here
    assert done.stdout == f"a b|$HOME|{far_home}/x y|"
    assert sshd.logins() == 1
    assert "Closed the login" in shell.run("connect", "--close", sshd.host).stdout
    assert "no login" in shell.run("connect", "--status").stdout
    until(lambda: not sshd.sessions())


def test_a_login_that_is_not_used_ends(shell: Shell, sshd: Sshd) -> None:
    shell.run("connect", sshd.host, "--keep", "1s")
    until(lambda: not sshd.sessions())
    assert json.loads(shell.run("connect", "--status", "--json").stdout) == []


def test_a_person_logs_in_once_and_tunnels_come_up(shell: Shell, sshd: Sshd) -> None:
    with_passphrase(sshd)
    server = FarServer.on_tcp()
    with open_tunnel(
        Destination(sshd.host),
        server.target,
        probe=ask,
        options=SshOptions(config=str(sshd.config)),
        pace=Pace(glance=0.1),
    ) as tunnel:
        until(lambda: tunnel.status().trouble == "needs login")
        status, shown = at_a_terminal({"passphrase for key": SECRET}, "connect", sshd.host)
        assert status == 0, shown
        # Long before the next try of its own, which is at least twenty seconds away.
        assert tunnel.wait_until_up(10.0), tunnel.status()
        assert ask(tunnel.path()) == b"pong 1\n"
        tunnel.close()
        assert len(json.loads(shell.run("connect", "--status", "--json").stdout)) == 1
    server.close()


def test_no_secret_stays_anywhere(shell: Shell, sshd: Sshd, runtime: Path, home: Path) -> None:
    with_passphrase(sshd)
    status, shown = at_a_terminal({"passphrase for key": SECRET}, "connect", sshd.host)
    assert status == 0, shown
    assert SECRET not in shown
    for folder in (runtime / "hpc-flows", home):
        for path in folder.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert SECRET.encode() not in line.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_an_unknown_host_is_shown_to_the_person(sshd: Sshd) -> None:
    sshd.forget()
    question = "continue connecting (yes/no"
    status, shown = at_a_terminal({question: "yes"}, "connect", sshd.host)
    assert status == 0, shown
    assert "SHA256:" in shown
    assert sshd.known_hosts.read_text()


def test_a_changed_key_is_refused_at_a_terminal_too(sshd: Sshd) -> None:
    sshd.change_host_key()
    sshd.restart()
    status, shown = at_a_terminal({}, "connect", sshd.host)
    assert status == 1
    assert "shows another host key" in shown
    assert f'ssh-keygen -f "{sshd.known_hosts}" -R' in shown


def test_a_login_that_fails_says_what_to_do(shell: Shell, sshd: Sshd) -> None:
    with_passphrase(sshd)
    done = shell.run("connect", sshd.host)
    assert done.returncode == 1
    assert "hpc-flows connect login.test" in done.stderr
    assert "in a terminal" in done.stderr


def test_what_cannot_be_meant_is_refused(shell: Shell) -> None:
    assert shell.run("connect").returncode == 2
    assert shell.run("connect", "a", "--page", "--offer").returncode == 2
    for host in ("-oProxyCommand=x", "a b", "ssh://u:pw@host", "host/path", "a;b"):
        done = shell.run("connect", "--", host)
        assert done.returncode == 1, host
        assert "pw" not in done.stderr


@pytest.mark.parametrize("client", ["openssh", "paramiko"])
def test_the_page_of_a_server_over_there_is_shown(
    client: str, shell: Shell, sshd: Sshd, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("fastapi", "paramiko"):
        pytest.importorskip(package)
    monkeypatch.setenv("HPC_FLOWS_SSH_CLIENT", client)
    there = runtime / "there"
    started = server_there(there, "start", "--background", "--socket", f"{runtime}/server.sock")
    assert started.returncode == 0, started.stderr
    try:
        page = shell.start("connect", sshd.host, "--page", "--home", str(there))
        assert page.stdout is not None
        link = next(line for line in page.stdout if line.startswith("http"))
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#/login\?code=(\S+)\n", link)
        assert found
        assert fetched(f"{found[1]}/api/v1/health")[0] == {"status": "ok"}
        login = f"{found[1]}/api/v1/login"
        assert "HttpOnly" in fetched(login, {"code": found[2]}, Origin=found[1])[1]
        page.send_signal(signal.SIGINT)
        assert page.wait(PATIENCE) == 0
    finally:
        server_there(there, "stop")


def test_a_server_that_is_not_there_is_told(shell: Shell, sshd: Sshd, runtime: Path) -> None:
    done = shell.run("connect", sshd.host, "--page", "--home", str(runtime / "nowhere"))
    assert done.returncode == 1
    assert "hpc-flows server start" in done.stderr


def test_a_server_here_is_offered_to_relays_there(
    shell: Shell, sshd: Sshd, runtime: Path, home: Path
) -> None:
    pytest.importorskip("fastapi")
    assert shell.run("server", "start", "--background", "--port", "0").returncode == 0
    try:
        offer = shell.start("connect", sshd.host, "--offer", "--home", str(runtime / "there"))
        until(lambda: published(str(runtime / "there")))
        offer.send_signal(signal.SIGINT)
        assert offer.wait(PATIENCE) == 0
        assert published(str(runtime / "there")) == []
    finally:
        shell.run("server", "stop")


def test_paramiko_keeps_no_login_and_says_so(
    shell: Shell, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_SSH_CLIENT", "paramiko")
    done = shell.run("connect", sshd.host)
    assert done.returncode == 1
    assert "ssh_client=openssh" in done.stderr
