"""The client: addresses, proofs, repetition, proxies, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from relay_doubles import TOKEN, Failure, FakeServer

from hpc_flows.client import (
    Api,
    Client,
    ForeignServer,
    NoServer,
    ServerBusy,
    ServerRefusal,
    ServerUnreachable,
)
from hpc_flows.client.address import parse_address
from hpc_flows.client.connection import Connection, RawResponse
from hpc_flows.client.pacing import Backoff, seconds_asked
from hpc_flows.client.requests import with_query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer().start()
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:4200", "http://127.0.0.1:4200"),
        ("https://hpc.example.edu/flows/", "https://hpc.example.edu/flows"),
        ("https://hpc.example.edu:443/flows/api/v1", "https://hpc.example.edu/flows"),
        ("http://[::1]:80", "http://[::1]"),
        ("unix:///run/user/1/s.sock", "unix:///run/user/1/s.sock"),
    ],
)
def test_addresses_are_read(url: str, shown: str) -> None:
    assert str(parse_address(url)) == shown


@pytest.mark.parametrize(
    "url", ["", "host:4200", "ftp://host", "http://", "http://h:port", "unix://x/y", "http://h?a=b"]
)
def test_addresses_that_are_none_are_refused_with_what_one_looks_like(url: str) -> None:
    with pytest.raises(NoServer, match="cannot be used"):
        parse_address(url)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(NoServer, match="HPC_FLOWS_API_KEY") as caught:
        parse_address("https://me:hunter2@host/")
    assert "hunter2" not in str(caught.value)


def test_a_token_that_is_none_is_refused_and_not_shown() -> None:
    with pytest.raises(NoServer, match="no token") as caught:
        Client("http://127.0.0.1:1", "pnu_something")
    assert "something" not in str(caught.value)


def test_the_server_proves_itself_before_the_token_is_sent(fake: FakeServer) -> None:
    with Client(fake.url, TOKEN) as client:
        client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
    assert list(fake.requests) == ["POST /hello", "PUT /runs/*"]
    assert fake.tokens_seen == [f"Bearer {TOKEN}"]


def test_a_stranger_never_sees_the_token() -> None:
    stranger = FakeServer(token="hpcf_0123456789ab_" + "x" * 43).start()
    with Client(stranger.url, TOKEN) as client, pytest.raises(ForeignServer, match="not sent"):
        client.get("/me")
    assert stranger.tokens_seen == []
    stranger.stop()


def test_who_answers_on_a_new_connection_proves_itself_anew(fake: FakeServer) -> None:
    with Client(fake.url, TOKEN) as client:
        client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
        fake.failures = [Failure("runs", 0)]  # the connection that was kept is closed
        stranger = "hpcf_0123456789ab_" + "x" * 43
        fake.token, seen = stranger, len(fake.tokens_seen)
        with pytest.raises(ForeignServer):
            client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
        assert len(fake.tokens_seen) == seen


def test_requests_are_repeated_for_as_long_as_the_patience_lasts(fake: FakeServer) -> None:
    busy = Failure("runs", 503, times=2)
    fake.failures = [busy]
    with Client(fake.url, TOKEN, patience=10.0) as client:
        client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
    assert busy.used == 2


def test_a_request_without_patience_is_made_once(fake: FakeServer) -> None:
    fake.failures = [Failure("runs", 429, times=5, headers={"Retry-After": "7"})]
    with Client(fake.url, TOKEN) as client, pytest.raises(ServerBusy) as caught:
        client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
    assert caught.value.retry_after == 7.0
    assert fake.failures[0].used == 1


def test_errors_tell_what_the_server_said(fake: FakeServer) -> None:
    with Client(fake.url, TOKEN) as client, pytest.raises(ServerRefusal, match="no such run") as no:
        client.request("POST", "/runs/run-0001/events", b"")
    assert (no.value.status, no.value.code) == (404, "not-found")


def test_t5_a_server_that_repeats_what_it_was_sent_does_not_bring_our_token_into_messages(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Connection.request

    def repeated(self: Connection, method: str, path: str, *rest: Any) -> RawResponse:
        if path.endswith("/hello"):
            return ask(self, method, path, *rest)
        seen = str(rest[-1])
        assert TOKEN in seen
        return RawResponse(403, {}, json.dumps({"error": TOKEN, "message": seen}).encode())

    monkeypatch.setattr(Connection, "request", repeated)
    with Client(fake.url, TOKEN) as client, pytest.raises(ServerRefusal, match="Bearer") as told:
        client.get("/me")
    assert TOKEN not in str(told.value) + told.value.code


def test_nobody_there_is_told_with_the_address() -> None:
    with Client("http://127.0.0.1:9", TOKEN) as client, pytest.raises(ServerUnreachable) as caught:
        client.get("/me")
    assert "http://127.0.0.1:9" in str(caught.value)


def test_a_server_that_says_nothing_is_given_up() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    began = time.monotonic()
    with Client(url, TOKEN, timeout=0.3) as client, pytest.raises(ServerUnreachable):
        client.get("/me")
    assert time.monotonic() - began < 25  # it asks for 30 seconds where nothing is said
    silent.close()


def test_something_else_than_our_server_is_told_apart(fake: FakeServer) -> None:
    fake.failures = [Failure("hello", 200)]
    with (
        Client(fake.url, TOKEN) as client,
        pytest.raises(ForeignServer, match="no hpc_flows server"),
    ):
        client.get("/me")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for 127.0.0.1 that nobody has signed but itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here")
    path = tmp_path / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:server.example"]
    out = ["-keyout", str(path), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([openssl, *words.split(), *names, *out], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[FakeServer]:
    server = FakeServer()
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(certificate)
    yield server.start()
    server.stop()


def test_a_certificate_that_nobody_trusts_gets_neither_greeting_nor_token(
    secure: FakeServer,
) -> None:
    with Client(secure.url, TOKEN) as client, pytest.raises(ServerUnreachable, match="certificate"):
        client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
    assert secure.requests.total() == 0


def test_a_certificate_that_is_trusted_is_enough(
    secure: FakeServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Client(secure.url, TOKEN) as client:
        client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
    assert secure.tokens_seen == [f"Bearer {TOKEN}"]


def test_tls_goes_through_a_tunnel_and_looks_at_the_servers_name(
    secure: FakeServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    path = str(tmp_path / "s.sock")
    with _tunnel(path, secure.port):
        with Client("https://server.example", TOKEN, via=lambda: path) as client:
            client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
        with (
            Client("https://another.example", TOKEN, via=lambda: path) as client,
            pytest.raises(ServerUnreachable, match="certificate"),
        ):
            client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
    assert secure.tokens_seen == [f"Bearer {TOKEN}"]


@contextmanager
def _tunnel(path: str, port: int) -> Iterator[None]:
    with socketserver.ThreadingUnixStreamServer(path, _Relaying) as server:
        server.far = ("127.0.0.1", port)  # type: ignore[attr-defined]
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield
        server.shutdown()


class _Relaying(socketserver.BaseRequestHandler):
    """Carries one connection from a Unix socket to the fake server."""

    def handle(self) -> None:
        near: socket.socket = self.request
        far = socket.create_connection(self.server.far)  # type: ignore[attr-defined]
        back = threading.Thread(target=_carry, args=(far, near), daemon=True)
        back.start()
        _carry(near, far)
        back.join(5)
        far.close()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("through", ["address", "via"])
def test_a_unix_socket_is_as_good_as_a_port(
    through: str, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # is not for sockets
    path = str(tmp_path / "s.sock")
    with _tunnel(path, fake.port):
        client = (
            Client(f"unix://{path}", TOKEN)
            if through == "address"
            else Client("http://server.example:4200", TOKEN, via=lambda: path)
        )
        with client:
            client.request("PUT", "/runs/run-0001", {"id": "run-0001"})
    assert fake.about["run-0001"] == {"id": "run-0001"}


def test_a_proxy_is_asked_for_the_whole_address_and_never_for_this_machine(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", fake.url)
    asked: list[str] = []

    def answer(_method: str, path: str, *_: object) -> tuple[int, dict[str, str], dict[str, str]]:
        asked.append(path)
        return 200, {"instance": "i"}, {}

    monkeypatch.setattr(fake, "answer", answer)
    with Client("http://server.example:4200/flows") as client:
        client.get("/me")
    assert asked == ["http://server.example:4200/flows/api/v1/me"]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Client(fake.url) as client:
        client.get("/me")


def test_pauses_grow_are_spread_and_have_an_end() -> None:
    backoff = Backoff(first=1.0, longest=8.0)
    pauses = [backoff.failed() for _ in range(12)]
    assert all(0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(pauses[:4]))
    assert all(4.0 <= pause <= 8.0 for pause in pauses[3:])
    assert len(set(pauses)) > 6
    assert backoff.failed(20.0) >= 20.0
    backoff.succeeded()
    assert backoff.failed() <= 1.0


def test_a_server_that_asks_for_no_pause_is_not_asked_without_end() -> None:
    backoff = Backoff(first=1.0, longest=8.0)
    pauses = [backoff.failed(seconds_asked("0")) for _ in range(6)]
    assert all(pause >= 0.5 for pause in pauses)
    assert pauses[-1] >= 4.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("99999999", 3600.0), ("soon", None), (None, None)],
)
def test_retry_after_is_read(text: str | None, seconds: float | None) -> None:
    assert seconds_asked(text) == seconds


def test_retry_after_may_be_a_date() -> None:
    from email.utils import formatdate

    asked = seconds_asked(formatdate(time.time() + 30, usegmt=True))
    assert asked is not None
    assert 25 < asked <= 31


def test_queries_leave_out_what_is_not_given_and_repeat_lists() -> None:
    query = {"state": ["FAILED", "CRASHED"], "flow": None, "open": True, "limit": 5}
    assert with_query("/flow-runs", query) == (
        "/flow-runs?state=FAILED&state=CRASHED&open=true&limit=5"
    )


def test_lists_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {0: {"items": [1, 2], "next": 2}, 2: {"items": [3], "next": None}}
    api = Api(Client("http://127.0.0.1:1"))
    monkeypatch.setattr(api.client, "get", lambda _path, query: pages[query["offset"]])
    assert list(api.every("/flow-runs", flow="x")) == [1, 2, 3]


def test_server_sent_events_are_read() -> None:
    body = b": hello\n\nid: 7\nevent: change\ndata: {}\n\n"
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        near, _ = listener.accept()
        near.recv(65536)
        near.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)
        near.close()

    threading.Thread(target=serve, daemon=True).start()
    with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        assert list(client.stream("/stream")) == [("", "", ""), ("change", "{}", "7")]
    listener.close()
