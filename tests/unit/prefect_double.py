"""A stand-in for a Prefect server that keeps what it is told, and can be made to misbehave."""

from __future__ import annotations

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import NAMESPACE_DNS, uuid4, uuid5

from hpc_flows.journal.event import Event, encode, header, seal
from hpc_flows.reporting.prefect import PrefectSink
from hpc_flows.reporting.sink import Batch, Line, RunAbout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN = "11111111-1111-4111-8111-111111111111"
TASK = "22222222-2222-4222-8222-222222222222"


class Asked(NamedTuple):
    """A request that came."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


class Answer(NamedTuple):
    """What is answered to the next request that fits."""

    path: str
    status: int
    body: Any
    headers: dict[str, str]


class PrefectDouble:
    """Answers as a Prefect server does to the calls of a sink; nothing more.

    Attributes:
        asked: all requests.
        scripted: answers that go before the usual ones, each once.
        states: of flow runs by id.
    """

    def __init__(self, version: str = "3.8.8", csrf: str = "") -> None:
        self.version, self.csrf = version, csrf
        self.asked: list[Asked] = []
        self.scripted: deque[Answer] = deque()
        self.states: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.logs: list[dict[str, Any]] = []
        self.artifacts: dict[str, dict[str, Any]] = {}
        self._by_key: dict[str, str] = {}
        self._sinks: list[PrefectSink] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # one packet for an answer, for which nobody waits

            def _do(self) -> None:
                double._handle(self)

            do_GET = do_POST = do_PATCH = _do  # noqa: N815 - http.server's names

            def log_message(self, *words: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/api"

    def sink(self, **options: Any) -> PrefectSink:
        """Return a sink of this server, which is closed with it."""
        self._sinks.append(PrefectSink(self.url, **options))
        return self._sinks[-1]

    def next(self, path: str, status: int, body: object = None, **headers: str) -> None:
        """Answer the next request to a path in another way."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.scripted.append(Answer(path, status, body, named))

    def to(self, path: str) -> list[Asked]:
        """Return the requests to paths that end so."""
        return [asked for asked in self.asked if asked.path.endswith(path)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self._sinks:
            sink.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(size)) if size else None
        path = handler.path.removeprefix("/api")
        asked = Asked(handler.command, path, body, dict(handler.headers))
        self.asked.append(asked)
        status, answer, headers = self._answer(asked)
        content = b"" if answer is None else json.dumps(answer).encode()
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def _answer(self, asked: Asked) -> tuple[int, Any, dict[str, str]]:
        if self.scripted and asked.path.endswith(self.scripted[0].path):
            scripted = self.scripted.popleft()
            return scripted.status, scripted.body, scripted.headers
        forged = asked.headers.get("Prefect-Csrf-Token", "") != self.csrf
        if forged and asked.method != "GET":
            return 403, {"detail": "Missing CSRF token."}, {}
        return (*self._usual(asked), {})

    def _usual(self, asked: Asked) -> tuple[int, Any]:
        _, what, *rest = asked.path.partition("?")[0].split("/")
        known: dict[str, Callable[[Asked, list[str]], tuple[int, Any]]] = {
            "admin": lambda *_: (200, self.version),
            "csrf-token": lambda *_: (200, {"token": self.csrf}) if self.csrf else (422, {}),
            "flows": lambda *_: (200, {"id": str(uuid5(NAMESPACE_DNS, asked.body["name"]))}),
            "flow_runs": self._flow_runs,
            "flow_run_states": self._flow_run_states,
            "events": self._take_events,
            "task_runs": self._task_runs,
            "logs": self._logs,
            "artifacts": self._artifacts,
        }
        return known[what](asked, rest)

    def _flow_run_states(self, asked: Asked, _: list[str]) -> tuple[int, Any]:
        return 200, self.states.get(asked.path.partition("flow_run_id=")[2], [])

    def _take_events(self, asked: Asked, _: list[str]) -> tuple[int, Any]:
        self.events.update({event["id"]: event for event in asked.body})
        return 204, None

    def _task_runs(self, _: Asked, rest: list[str]) -> tuple[int, Any]:
        known = {event["resource"]["prefect.resource.id"] for event in self.events.values()}
        return (200, {}) if f"prefect.task-run.{rest[0]}" in known else (404, {})

    def _flow_runs(self, asked: Asked, rest: list[str]) -> tuple[int, Any]:
        if rest == [""]:
            known = self._by_key.get(asked.body["idempotency_key"])
            id_ = self._by_key.setdefault(asked.body["idempotency_key"], known or str(uuid4()))
            self.states.setdefault(id_, [{"name": "Pending", "state_details": {}}])
            return (200 if known else 201), {"id": id_}
        if rest[0] not in self.states:
            return 404, {}
        if rest[1:] == ["set_state"]:
            self.states[rest[0]].append(asked.body["state"])
            return 201, {"status": "ACCEPT", "state": asked.body["state"]}
        return 200, {}

    def _logs(self, asked: Asked, rest: list[str]) -> tuple[int, Any]:
        if rest == ["filter"]:
            return 200, self.logs[asked.body["offset"] :][: asked.body["limit"]]
        self.logs += asked.body
        return 201, None

    def _artifacts(self, asked: Asked, rest: list[str]) -> tuple[int, Any]:
        if rest == ["filter"]:
            return 200, list(self.artifacts.values())
        if asked.method == "PATCH":
            self.artifacts[rest[0]].update(asked.body)
            return 204, None
        id_ = str(uuid4())
        self.artifacts[id_] = {**asked.body, "id": id_}
        return 201, {"id": id_}


class Journal:
    """Makes lines of a journal, a tenth of a second apart."""

    def __init__(self, run: str = RUN, begin: float = 1_795_000_000.0) -> None:
        self.run, self.begin = run, begin
        self.lines: list[Line] = []
        self._seq: dict[str, int] = {}

    def add(
        self, kind: str, data: dict[str, Any], *, writer: str = "driver", at: float | None = None
    ) -> Event:
        """Add a line, at so many seconds after the beginning; return what it says."""
        seq = self._seq[writer] = self._seq.get(writer, 0) + 1
        wall = self.begin + (0.1 * len(self.lines) if at is None else at)
        start = f'{seq},"wall":{wall:.6f},"mono":1.0,"kind":"{kind}","data":'
        text = header(self.run, writer) + start + encode(data) + "}"
        self.lines.append(Line(writer, seal(text.encode())[:-1]))
        return Event(self.run, writer, seq, wall, 1.0, kind, data)

    def flow(self, id_: str = RUN, **facts: object) -> Event:
        """Add the event of a flow run."""
        data = {"id": id_, "name": "merry-fox", "flow": "demo", "parameters": {"n": "3"}, **facts}
        return self.add("flow-run", data)

    def task(self, id_: str = TASK, **facts: object) -> Event:
        """Add the event of a task run."""
        data = {"id": id_, "name": "square-0", "task": "square", "key": "cv:square", **facts}
        return self.add("task-run", {"flow_run": self.run, "upstream": [], "tags": [], **data})

    def state(self, name: str, id_: str = TASK, **facts: Any) -> Event:
        """Add a state of a task run, or with `flow=True` of the root flow run."""
        types = {"Retrying": "RUNNING", "AwaitingRetry": "SCHEDULED", "OutOfMemory": "CRASHED"}
        type_ = "PENDING" if "Pending" in name else types.get(name, name.upper())
        is_flow, where = facts.pop("flow", False), facts.pop("where", {})
        subject = {"subject": "flow", "id": self.run} if is_flow else {"subject": "task", "id": id_}
        data = {**subject, "type": type_, "name": name, "attempt": 1, **facts}
        return self.add("state", data, **where)

    def log(self, message: str, **facts: object) -> Event:
        """Add a log record."""
        data = {"level": "INFO", "message": message, "logger": "hpc_flows.flow_runs", **facts}
        return self.add("log", {"flow_run": self.run, **data})

    def batch(self, begin: int = 0, folder: str = "") -> Batch:
        """Return the lines from one on as a batch."""
        return Batch(RunAbout(self.run, folder), self.lines[begin:])


def opened(double: PrefectDouble, **options: Any) -> PrefectSink:
    """Return an open sink of a stand-in."""
    sink = double.sink(**options)
    sink.open()
    return sink


def whole_run() -> Journal:
    """Return the journal of a run with something of everything."""
    journal = Journal()
    journal.flow()
    journal.state("Pending", flow=True)
    journal.state("Running", flow=True)
    journal.task()
    journal.state("Pending")
    journal.log("it begins", task_run=TASK)
    journal.state("Running")
    journal.state("Completed")
    journal.add("artifact", {"id": "a1", "type": "progress", "data": 10.0, "key": "p"})
    journal.add("artifact", {"id": "a1", "update": True, "type": "progress", "data": 90.0})
    journal.state("Completed", flow=True)
    return journal


def names(double: PrefectDouble) -> list[str]:
    """Return the names of the states that task runs were put into."""
    return [event["payload"]["validated_state"]["name"] for event in double.events.values()]


def flow_states(double: PrefectDouble) -> list[str]:
    """Return the names of the states of the only flow run."""
    (states,) = double.states.values()
    return [state["name"] for state in states]


def as_folder(journal: Journal, folder: Path) -> str:
    """Write a journal as the folder of a run; return the folder."""
    (folder / "journal").mkdir(exist_ok=True)
    for writer in {line.writer for line in journal.lines}:
        text = b"".join(line.text + b"\n" for line in journal.lines if line.writer == writer)
        (folder / "journal" / f"{writer}.jsonl").write_bytes(text)
    return str(folder)
