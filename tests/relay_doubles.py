"""What tests of relays need: a server of our own that can fail in many ways, and journals."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from hpc_flows.client.requests import Client
from hpc_flows.journal.folder import create_run
from hpc_flows.journal.reader import decode
from hpc_flows.journal.writer import JournalWriter
from hpc_flows.reporting.relay import Relay
from hpc_flows.reporting.server_sink import ServerSink

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "hpcf_0123456789ab_" + "s" * 43


class Failure:
    """Something to answer instead of the truth, for a number of requests.

    Args:
        path: what the request's path must match.
        status: what to answer; 0 cuts the connection.
        after: whether the request is carried out before.
        times: for how many requests.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        path: str,
        status: int,
        *,
        after: bool = False,
        times: int = 1,
        headers: dict[str, str] | None = None,
        when: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        self.path, self.status, self.after, self.left = path, status, after, times
        self.headers = headers or {}
        self.when = when
        self.used = 0

    def takes(self, path: str, body: bytes) -> bool:
        if self.left <= 0 or not re.search(self.path, path) or not self.when(body):
            return False
        self.left -= 1
        self.used += 1
        return True


class Backup(dict[str, dict[str, dict[int, bytes]]]):
    """What a server held: lines by run, writer and number; attachments and versions beside."""

    attachments: dict[tuple[str, str, str], bytes]
    versions: Counter[str]


class FakeServer:
    """Keeps events as the real server does, in memory, and fails when it is told to.

    Attributes:
        runs: by run and writer, the lines by number.
        requests: how often which path was asked for, with ids left out.
        lines: how many lines came in batches, repeated ones included.
    """

    def __init__(self, *, token: str = TOKEN, instance: str = "i1") -> None:
        self.token, self.instance, self.epoch = token, instance, "e1"
        self.runs: dict[str, dict[str, dict[int, bytes]]] = {}
        self.about: dict[str, dict[str, Any]] = {}
        self.gone: set[str] = set()
        self.attachments: dict[tuple[str, str, str], bytes] = {}
        self.versions: Counter[str] = Counter()
        self.beats: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.command_answers: list[tuple[str, dict[str, Any]]] = []
        self.failures: list[Failure] = []
        self.requests: Counter[str] = Counter()
        self.tokens_seen: list[str] = []
        self.lines = 0
        self.most_lines: int | None = None
        self.tls: ssl.SSLContext | None = None
        self.lock = threading.Lock()
        self._http: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> FakeServer:
        fake = self

        class Handler(_Handler):
            server_double = fake

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._http.daemon_threads = True
        if self.tls is not None:
            self._http.socket = self.tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def restart(self) -> None:
        """Stop and start again, with another epoch, at the same port."""
        self.stop()
        self.epoch += "'"
        self.start()

    def copy(self) -> Backup:
        with self.lock:
            backup = Backup(
                {
                    run: {name: dict(lines) for name, lines in writers.items()}
                    for run, writers in self.runs.items()
                }
            )
            backup.attachments = dict(self.attachments)
            backup.versions = Counter(self.versions)
            return backup

    def restore(self, backup: Backup | dict[str, Any]) -> None:
        """Put a backup back; an empty one leaves nothing."""
        with self.lock:
            self.attachments = dict(getattr(backup, "attachments", {}))
            self.versions = Counter(getattr(backup, "versions", {}))
            self.runs = {run: {n: dict(ls) for n, ls in ws.items()} for run, ws in backup.items()}
            self.about = {run: self.about[run] for run in self.runs}

    def held(self, run: str) -> set[bytes]:
        with self.lock:
            writers = self.runs.get(run, {})
            return {line for lines in writers.values() for line in lines.values()}

    # Requests

    def answer(
        self, method: str, path: str, body: bytes, headers: Any
    ) -> tuple[int, Any, dict[str, str]]:
        self.requests[re.sub(r"(runs|relays)/[^/]{6,}", r"\1/*", f"{method} {path}")] += 1
        if path == "/hello":
            return 200, self._hello(json.loads(body)), {}
        self.tokens_seen.append(headers.get("Authorization", ""))
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"error": "unauthorized", "message": "no"}, {}
        if headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 31)
        parts = path.strip("/").split("/")
        with self.lock:
            return self._routed(method, parts, body)

    def _hello(self, asked: dict[str, str]) -> dict[str, str]:
        key = hashlib.sha256(self.token.encode()).digest()
        text = f"{asked['nonce']}{self.instance}{self.epoch}".encode()
        proof = hmac.new(key, b"hpc-flows hello\0" + text, hashlib.sha256).hexdigest()
        return {"instance": self.instance, "epoch": self.epoch, "version": "0", "proof": proof}

    def _routed(
        self, method: str, parts: list[str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        if parts == ["runs", "counts"]:
            return 200, self._compared(**json.loads(body)), {}
        if parts[0] == "relays":
            self.beats.append(json.loads(body))
            return 200, {"epoch": self.epoch, "time": 0.0, "commands": self.commands}, {}
        run = parts[1]
        if run in self.gone:
            return 410, {"error": "gone", "message": "deleted"}, {}
        if method == "PUT" and len(parts) == 2:
            self.about[run] = json.loads(body)
            self.runs.setdefault(run, {})
            return 200, {"run": run, "project": None, "epoch": self.epoch}, {}
        if run not in self.runs:
            return 404, {"error": "not-found", "message": "no such run"}, {}
        return self._of_run(run, parts, body)

    def _of_run(self, run: str, parts: list[str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        if parts[2] == "attachments":
            self.attachments[run, parts[3], parts[4]] = body
            self.versions[run] += 1
            return 200, {"epoch": self.epoch, "version": self.versions[run]}, {}
        if parts[2] == "commands":
            self.command_answers.append((parts[3], json.loads(body)))
            self.commands = [each for each in self.commands if each["id"] != parts[3]]
            return 200, {}, {}
        return self._take(run, body)

    def _take(self, run: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        lines = [line for line in body.split(b"\n") if line]
        if self.most_lines is not None and len(lines) > self.most_lines:
            return 413, {"error": "too-large", "message": "too large"}, {}
        self.lines += len(lines)
        repeated = refused = 0
        touched = set()
        for line in lines:
            try:
                event = decode(line)
            except ValueError:
                refused += 1
                continue
            known = self.runs[run].setdefault(event.writer, {})
            touched.add(event.writer)
            repeated += event.seq in known
            known.setdefault(event.seq, line)
        counts = {name: len(self.runs[run][name]) for name in touched}
        taken = len(lines) - repeated - refused
        self.versions[run] += taken > 0
        answer = {"epoch": self.epoch, "taken": taken, "repeated": repeated}
        answer["version"] = self.versions[run]
        return 200, {**answer, "refused": refused, "counts": counts}, {}

    def _compared(
        self, runs: dict[str, dict[str, int]], versions: dict[str, int] | None = None
    ) -> dict[str, Any]:
        asked, told = runs, versions or {}
        behind = {
            run: [name for name, n in writers.items() if len(self.runs[run].get(name, ())) < n]
            for run, writers in asked.items()
            if run in self.runs
        }
        return {
            "behind": {
                run: names
                for run, names in behind.items()
                if names or self.versions[run] < told.get(run, 0)
            },
            "unknown": [run for run in asked if run not in self.runs and run not in self.gone],
            "gone": [run for run in asked if run in self.gone],
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_double: FakeServer
    timeout = 150

    def log_message(self, *_: object) -> None:
        return

    def _respond(self) -> None:
        fake = self.server_double
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.removeprefix("/api/v1")
        failure = next((each for each in fake.failures if each.takes(path, body)), None)
        status, content = 0, b"{}"
        headers: dict[str, str] = {}
        if failure is None or failure.after:
            status, found, headers = fake.answer(self.command, path, body, self.headers)
            content = json.dumps(found).encode()
        if failure is not None:
            status, headers = failure.status, failure.headers
            content = b'{"error": "wanted", "message": "as the test wants"}'
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = _respond  # noqa: N815 - the names that http.server calls


def server_sink(fake: FakeServer, *, timeout: float = 60.0) -> ServerSink:
    return ServerSink(lambda: Client(fake.url, fake.token, timeout=timeout), "the fake server")


class Journal:
    """A run with journals that a test writes.

    Args:
        home: where.
        run: its id.
    """

    def __init__(self, home: Path, run: str = "run-0001") -> None:
        self.home, self.run = home, run
        self.folder = create_run(str(home), run, {"name": "made-up", "flow": "made-up"})
        self.writers: dict[str, JournalWriter] = {}

    def write(self, count: int, writer: str = "driver", *, text: str = "hello") -> None:
        """Write log records."""
        journal = self.writer(writer)
        for _ in range(count):
            journal.write("log", {"level": "INFO", "message": text, "logger": "test"})

    def writer(self, name: str = "driver") -> JournalWriter:
        if name not in self.writers:
            self.writers[name] = JournalWriter(self.folder, self.run, name, fsync=False)
        return self.writers[name]

    def end(self) -> None:
        """Write the end of the root flow run, and close all journals."""
        facts = {"subject": "flow", "id": self.run, "type": "COMPLETED", "name": "Completed"}
        self.writer().write("state", {**facts, "attempt": 1})
        self.close()

    def close(self) -> None:
        for journal in self.writers.values():
            journal.close()

    def lines(self) -> set[bytes]:
        """Return all good lines of all writers."""
        folder = os.path.join(self.folder, "journal")
        found: set[bytes] = set()
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                found.update(_good(file.read()))
        return found


def _good(text: bytes) -> Iterator[bytes]:
    for line in text.split(b"\n")[:-1]:
        try:
            decode(line)
        except ValueError:
            continue
        yield line


def relay_to(fake: FakeServer, home: Path, **options: str | None) -> Relay:
    return Relay(server_sink(fake), str(home), "login", **options)  # type: ignore[arg-type]


def turn_until(
    relay: Relay, done: Callable[[], bool], seconds: float = 150.0, *, patient: bool = False
) -> None:
    """Let a relay work until something is so; pauses after trouble are cut short unless patient."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {relay.facts()}"
        pause = relay.turn()
        time.sleep(min(pause, 0.02))
        if relay.trouble and not patient:
            relay.try_now()


def has_all(fake: FakeServer, journal: Journal) -> Callable[[], bool]:
    return lambda: fake.held(journal.run) == journal.lines()
