"""`hpc-flows server` and `hpc-flows token`, with servers that really run."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from cli_process import Shell

from hpc_flows.cli import server
from hpc_flows.cli.main import invoke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Any user but the one who runs the tests; only root can become another.
NOBODY = 65534


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home), "SSH_CONNECTION": ""}) as shell:
        yield shell
        shell.run("server", "stop", "--force")


@pytest.fixture
def private() -> Iterator[str]:
    """Give a folder of mode 0700 that others could enter once its mode is changed."""
    with tempfile.TemporaryDirectory(prefix="hpc-flows-test-", dir="/tmp") as folder:
        yield folder


def succeeded(shell: Shell, *arguments: str) -> str:
    done = shell.run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(shell: Shell, *options: str) -> str:
    return succeeded(shell, "server", "start", "--background", *options)


def announced(home: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((home / "server" / "endpoint.json").read_text())
    return said


def token_of(home: Path) -> str:
    return (home / "server" / "token").read_text().strip()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, as through `ssh -L`."""

    def __init__(self, path: str) -> None:
        super().__init__("127.0.0.1", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def connection(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix://"):
        return UnixConnection(url.removeprefix("unix://"))
    return http.client.HTTPConnection(url.partition("://")[2], timeout=60)


def get(url: str, path: str, token: str | None = None) -> tuple[int, Any]:
    with contextlib.closing(connection(url)) as link:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        link.request("GET", f"/api/v1{path}", headers=headers)
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def is_gone(pid: int) -> bool:
    for _ in range(3000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def make_certificate(cert: Path, key: Path) -> None:
    """Make a certificate of 127.0.0.1 that lasts a day."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    words = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 1 -subj /CN=here"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([openssl, *words.split(), *names], check=True, capture_output=True)


def test_a_server_starts_says_where_it_is_and_stops(shell: Shell, home: Path) -> None:
    told = start(shell, "--port", "0")
    said = announced(home)
    assert f"The server is up at {said['url']} (process {said['pid']}): you asked for it." in told
    assert get(said["url"], "/health") == (200, {"status": "ok"})
    assert get(said["url"], "/me")[0] == 401
    status, me = get(said["url"], "/me", token_of(home))
    assert (status, me["admin"], me["instance"]) == (200, True, said["instance"])
    assert me["scopes"] == ["admin", "control", "read", "report"]
    shown = shell.json("server", "status")
    assert shown["answers"]["user"] == me["user"]
    assert "has ended" in succeeded(shell, "server", "stop")
    assert is_gone(said["pid"])
    assert not (home / "server" / "endpoint.json").exists()
    assert shell.run("server", "status").returncode == 1


def test_t16_what_a_server_leaves_is_for_its_owner_only(shell: Shell, home: Path) -> None:
    start(shell, "--port", "0")
    folder = home / "server"
    assert mode(folder) == 0o700
    assert {"endpoint.json", "token", "server.db", "server.log"} <= set(os.listdir(folder))
    for path in folder.iterdir():
        assert mode(path) == 0o600, path


def test_t5_no_secret_is_in_arguments_output_or_log(shell: Shell, home: Path) -> None:
    told = start(shell, "--port", "0")
    said, token = announced(home), token_of(home)
    line = Path(f"/proc/{said['pid']}/cmdline").read_bytes()
    get(said["url"], "/me", token)
    get(said["url"], "/me", "hpcf_000000000000_" + "canary" * 7 + "x")
    succeeded(shell, "server", "stop")
    log = (home / "server" / "server.log").read_bytes()
    for secret in (token, token[18:], "canary"):
        assert secret not in told
        assert secret.encode() not in log
        assert secret.encode() not in line
    assert b"server.db" not in line
    assert token[18:].encode() not in (home / "server" / "server.db").read_bytes()


def test_t1_where_others_may_be_logged_in_it_listens_on_a_private_socket(
    shell: Shell, home: Path
) -> None:
    shell.environment["SSH_CONNECTION"] = "192.0.2.1 50000 192.0.2.2 22"
    told = start(shell)
    url = announced(home)["url"]
    path = url.removeprefix("unix://")
    assert url.startswith("unix:///")
    assert "you are logged in over SSH" in told
    assert f"ssh -N -L 4200:{path} " in told
    assert mode(os.path.dirname(path)) == 0o700
    assert mode(path) == 0o600
    assert get(url, "/health")[0] == 200
    assert shell.json("server", "status")["answers"]["admin"] is True
    link = succeeded(shell, "server", "login", "--port", "5111").splitlines()[-1]
    assert link.startswith("http://127.0.0.1:5111/#/login?code=")
    succeeded(shell, "server", "stop")
    assert not os.path.lexists(path)


def test_t1_another_local_user_reaches_neither_the_socket_nor_the_data(
    shell: Shell, private: str, as_another_user: Callable[[str], str]
) -> None:
    socket_path = f"{private}/server.sock"
    start(shell, "--socket", socket_path)
    assert as_another_user(socket_path) == "refused"
    # Even when somebody has opened the socket's own file.
    os.chmod(socket_path, 0o666)  # noqa: S103 - the fault
    assert as_another_user(socket_path) == "refused"


def test_t1_a_connection_of_another_user_is_dropped_though_the_folder_was_opened(
    shell: Shell, private: str, as_another_user: Callable[[str], str]
) -> None:
    folder = private
    start(shell, "--socket", f"{folder}/server.sock")
    os.chmod(folder, 0o755)  # noqa: S103 - the fault
    os.chmod(f"{folder}/server.sock", 0o666)  # noqa: S103 - the same
    assert as_another_user(f"{folder}/server.sock") == "dropped"
    assert get(f"unix://{folder}/server.sock", "/health")[0] == 200


def test_t1_a_socket_in_a_folder_that_others_can_enter_is_refused(
    shell: Shell, tmp_path: Path
) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    refused = shell.run("server", "start", "--background", "--socket", str(open_folder / "s"))
    assert refused.returncode == 1
    assert f"chmod 700 {open_folder}" in refused.stderr


def test_a_second_server_on_the_same_database_is_refused(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    start(shell, "--port", "0")
    pid = announced(home)["pid"]
    refused = shell.run("server", "start", "--background", "--port", "0")
    assert refused.returncode == 1
    assert "Another server uses the database" in refused.stderr
    assert f"pid {pid} on " in refused.stderr
    other = f"sqlite:///{tmp_path}/other.db"
    elsewhere = Shell(tmp_path, {"HPC_FLOWS_HOME": str(tmp_path / "other-home")})
    with elsewhere:
        start(elsewhere, "--port", "0", "--database", other)
        succeeded(elsewhere, "server", "stop")
    assert get(announced(home)["url"], "/health")[0] == 200


def test_a_port_that_is_taken_is_told_with_what_to_do(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = shell.run("server", "start", "--background", "--port", port)
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in refused.stderr
    assert "--port 0" in refused.stderr


def test_a_killed_server_is_told_from_one_that_runs_and_starts_again(
    shell: Shell, home: Path, private: str
) -> None:
    start(shell, "--socket", f"{private}/s")
    said, token = announced(home), token_of(home)
    os.kill(said["pid"], signal.SIGKILL)
    assert is_gone(said["pid"])
    told = shell.run("server", "status")
    assert told.returncode == 1
    assert "has ended without saying so" in told.stdout
    assert "No server runs" in succeeded(shell, "server", "stop")
    start(shell, "--socket", f"{private}/s")
    again = announced(home)
    assert (again["instance"], token_of(home)) == (said["instance"], token)
    assert get(again["url"], "/me", token)[0] == 200


def test_a_stranger_with_the_same_process_number_is_not_stopped(shell: Shell, home: Path) -> None:
    start(shell, "--port", "0")
    said = announced(home)
    succeeded(shell, "server", "stop", "--force")
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleep) as stranger:
        fake = said | {"pid": stranger.pid}
        (home / "server" / "endpoint.json").write_text(json.dumps(fake))
        assert "No server runs" in succeeded(shell, "server", "stop")
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_of_another_machine_is_not_guessed_about(shell: Shell, home: Path) -> None:
    folder = home / "server"
    folder.mkdir(parents=True)
    said = {"url": "http://login2:4200", "instance": "x", "pid": 1, "host": "login2",
            "started": 1.0, "machine": "another boot"}  # fmt: skip
    (folder / "endpoint.json").write_text(json.dumps(said))
    assert "look on login2" in shell.run("server", "status").stdout
    refused = shell.run("server", "stop")
    assert refused.returncode == 1
    assert "ssh login2 hpc-flows server stop" in refused.stderr
    (folder / "endpoint.json").unlink()


def test_the_server_ends_at_once_though_streams_are_open(shell: Shell, home: Path) -> None:
    start(shell, "--port", "0")
    said, token = announced(home), token_of(home)
    streams = []
    for _ in range(20):
        link = connection(said["url"])
        link.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {token}"})
        answer = link.getresponse()
        assert answer.status == 200
        assert answer.readline().startswith(b"id: ")
        streams.append((link, answer))
    succeeded(shell, "server", "stop")  # fails where the server waits for those who listen
    for link, answer in streams:
        answer.read()
        link.close()


def test_it_serves_in_the_foreground_until_ctrl_c(shell: Shell, home: Path) -> None:
    process = shell.start("server", "start", "--port", "0")
    assert process.stdout is not None
    told = process.stdout.readline()
    assert "The server is up at" in told
    assert get(announced(home)["url"], "/health")[0] == 200
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    assert "The server has ended." in rest
    assert not (home / "server" / "endpoint.json").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--allow-host", "runs.site.edu:4200"),
        ("--allow-host", "https://runs.site.edu"),
        ("--allow-host", ""),
        ("--public-url", "portal.site.edu/runs"),
        ("--public-url", "unix:///run/x.sock"),
    ],
)
def test_a_name_by_which_no_browser_can_call_it_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["server", "start", option, value]) == 2
    assert f"{value!r} is no" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["runs.site.edu", "c12", "10.0.0.7", "[fe80::1]", "::1"])
def test_names_and_addresses_of_hosts_are_allowed(name: str) -> None:
    context = click.Context(server.start, info_name="start")
    server.start.parse_args(context, ["--allow-host", name])
    assert context.params["allow_hosts"] == (name,)


def test_over_tls_the_certificate_is_used_and_a_wrong_one_refused_at_once(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    refused = shell.run("server", "start", "--background", "--tls-cert", str(cert))
    assert "--tls-cert and --tls-key" in refused.stderr
    make_certificate(cert, key)
    wrong = shell.run(
        "server", "start", "--background", "--tls-cert", str(key), "--tls-key", str(cert)
    )
    assert "cannot be used" in wrong.stderr
    options = ("--socket", str(tmp_path / "s.sock"), "--tls-cert", str(cert), "--tls-key", str(key))
    on_socket = shell.run("server", "start", "--background", *options)
    assert "TLS is for TCP" in on_socket.stderr
    start(shell, "--port", "0", "--tls-cert", str(cert), "--tls-key", str(key))
    url = announced(home)["url"]
    assert url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(cert))
    with contextlib.closing(
        http.client.HTTPSConnection(url.partition("://")[2], context=context, timeout=60)
    ) as link:
        link.request("GET", "/api/v1/health")
        assert link.getresponse().status == 200


def test_tokens_are_made_listed_and_revoked(shell: Shell, home: Path) -> None:
    start(shell, "--port", "0")
    url = announced(home)["url"]
    made = succeeded(shell, "token", "create", "laptop", "--scope", "read").strip()
    assert get(url, "/me", made)[1]["scopes"] == ["read"]
    rows = {row["name"]: row for row in shell.json("token", "ls")}
    assert set(rows) == {"first start", "laptop"}
    assert rows["laptop"]["expires"] == pytest.approx(time.time() + 90 * 86400, abs=60)
    assert made not in succeeded(shell, "token", "ls")
    succeeded(shell, "token", "revoke", rows["laptop"]["id"])
    assert get(url, "/me", made)[0] == 401
    assert "laptop" not in succeeded(shell, "token", "ls")
    assert "revoked" in succeeded(shell, "token", "ls", "--all")
    unknown = shell.run("token", "revoke", "0" * 12)
    assert unknown.returncode == 1
    assert "no valid token" in unknown.stderr


def test_users_and_projects_are_kept_from_the_command_line(shell: Shell, home: Path) -> None:
    start(shell, "--port", "0")
    token = succeeded(shell, "server", "user", "create", "eve").strip()
    assert get(announced(home)["url"], "/me", token)[1]["user"] == "eve"
    succeeded(shell, "server", "project", "create", "lab")
    succeeded(shell, "server", "project", "add", "lab", "eve", "--control")
    assert "eve (control)" in succeeded(shell, "server", "project", "ls")
    succeeded(shell, "server", "project", "remove", "lab", "eve")
    succeeded(shell, "server", "user", "close", "eve")
    assert get(announced(home)["url"], "/me", token)[0] == 401
    assert "eve" in succeeded(shell, "server", "user", "ls")


def test_runs_made_before_the_server_are_taken_from_their_journals(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "small.py").write_text(
        "from hpc_flows import flow, task\n\n\n@task\ndef double(n):\n    return 2 * n\n\n\n"
        "@flow\ndef small():\n    return [double(n) for n in range(3)]\n\n\nsmall()\n"
    )
    environment = {**os.environ, **shell.environment, "HPC_FLOWS_REPORT": "off"}
    subprocess.run([sys.executable, tmp_path / "small.py"], check=True, env=environment)
    assert "1 run with" in succeeded(shell, "server", "import")
    start(shell, "--port", "0")
    said = announced(home)
    items = get(said["url"], "/flow-runs", token_of(home))[1]["items"]
    assert [(run["flow"], run["state_type"], run["tasks"]) for run in items] == [
        ("small", "COMPLETED", {"COMPLETED": 3})
    ]
    again = succeeded(shell, "server", "import")
    assert "0 events taken" in again


def test_the_database_is_copied_while_the_server_runs_and_upgraded_while_it_does_not(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    start(shell, "--port", "0")
    copy = tmp_path / "copy.db"
    succeeded(shell, "server", "database", "backup", str(copy))
    assert mode(copy) == 0o600
    refused = shell.run("server", "database", "upgrade")
    assert refused.returncode == 1
    assert "Another server uses the database" in refused.stderr
    instance = announced(home)["instance"]
    succeeded(shell, "server", "stop")
    assert "The tables have version" in succeeded(shell, "server", "database", "upgrade")
    start(shell, "--port", "0", "--database", f"sqlite:///{copy}")
    assert announced(home)["instance"] == instance


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--socket", "/tmp/x/s", "--port", "1"], "either --socket, or --host and --port"),
        (["--database", "mysql://x"], "--database"),
        (["--socket", "/tmp/" + "x" * 120], "more than 107 bytes"),
        (["--host", "no.such.host.invalid"], "cannot listen on"),
    ],
)
def test_what_cannot_be_started_is_told_and_leaves_nothing(
    shell: Shell, home: Path, options: list[str], told: str
) -> None:
    refused = shell.run("server", "start", "--background", *options)
    assert refused.returncode != 0
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (home / "server" / "endpoint.json").exists()
