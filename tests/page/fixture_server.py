"""A server of made-up runs, for views of states that are hard to bring about with real ones.

It answers the part of the reading API that the page's frame uses (docs/reference of the server),
with the same headers as the real one, and keeps everything in memory. Tests change what it says
through `World`: a stream that falls silent, a server that refuses, names with markup in them.
"""

from __future__ import annotations

import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = Path(__file__).resolve().parents[2] / "hpc_flows" / "server" / "page" / "dist"

#: As the real server sends it (hpc_flows/server/app.py).
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
TYPES |= {".svg": "image/svg+xml"}

FLOWS = ("train-models", "relax-structures", "sweep", "nightly-ingest", "fold-proteins")
STATES = ("COMPLETED",) * 12 + ("RUNNING",) * 2 + ("FAILED", "CRASHED", "CANCELLED", "PENDING")
NAMES = {"CRASHED": ("OutOfMemory", "WalltimeExceeded", "NodeFailed")}


def make_run(number: int, now: float, rng: random.Random) -> dict[str, Any]:
    """Return one flow run; lower numbers are newer."""
    kind = rng.choice(STATES) if number > 5 else ("RUNNING", "RUNNING", "PENDING")[number % 3]
    created = now - 600 * number * rng.uniform(0.7, 1.3) - 40
    started = None if kind == "PENDING" else created + rng.uniform(1, 30)
    living = kind in {"RUNNING", "PENDING"}
    total = rng.choice((0, 1, 12, 64, 1000, 12_000))
    lasted = 10 ** rng.uniform(0.5, 4.3)
    name = rng.choice(NAMES.get(kind, (kind.capitalize(),)))
    return {
        "id": f"run-{number:05d}",
        "run": f"run-{number:05d}",
        "name": f"{rng.choice(('amber', 'brisk', 'quiet', 'vast'))}-heron-{number}",
        "flow": rng.choice(FLOWS),
        "state_type": kind,
        "state_name": name,
        "message": "MemoryError: 31 GB of 32 GB used" if kind == "CRASHED" else None,
        "details": None,
        "attempt": 1,
        "created": created,
        "started": started,
        "ended": None if living else (started or created) + lasted,
        "parameters": {"seed": number},
        "tags": rng.sample(["gpu", "paper", "test", "long", "2026"], rng.randint(0, 2)),
        "parent_task_run": None,
        "parent_flow_run": None,
        "entrypoint": "flows/train.py:train_models",
        "owner": rng.choice(("alice", "alice", "bob")),
        "project": None,
        "clusters": rng.choice(([], ["afton"], ["afton"], ["rivanna"], ["afton", "rivanna"])),
        "host": "login1",
        "tasks": _tasks(kind, total, rng),
        "total_tasks": total,
        "heard": now - (400 if number == 2 else 1) if living else None,
        "skew": 0.01,
        "version": 1,
    }


def _tasks(kind: str, total: int, rng: random.Random) -> dict[str, int]:
    if kind == "COMPLETED":
        return {"COMPLETED": total}
    done = int(total * rng.uniform(0.1, 0.8))
    if kind == "RUNNING":
        running = min(total - done, 64)
        failed = min(total - done - running, rng.choice((0, 0, 3)))
        rest = total - done - running - failed
        return {"COMPLETED": done, "RUNNING": running, "FAILED": failed, "PENDING": rest}
    if kind == "PENDING":
        return {"PENDING": total}
    bad = min(total - done, 1 + total // 50)
    return {"COMPLETED": done, kind: bad, "CANCELLED": total - done - bad}


class World:
    """What the server has and how it behaves; tests change its attributes."""

    def __init__(self, runs: int = 1234) -> None:
        self.now = time.time()
        rng = random.Random(4)
        self.runs = [make_run(number, self.now, rng) for number in range(runs)]
        self.page = PAGE
        #: The path before ours, as a proxy has it.
        self.prefix = ""
        self.codes = {"one-time-code"}
        self.sessions: set[str] = set()
        self.scopes = ["admin", "control", "read", "report"]
        self.stream = True
        self.down = False
        self.version = 1
        self.asked: list[str] = []
        self.sent: list[tuple[str, str, Any]] = []
        self.tokens: list[dict[str, Any]] = [_token("a1b2c3d4e5f6", "laptop", self.now)]
        self.variables = [{"name": "bucket", "value": {"path": "/data"}, "tags": ["io"]}]
        self.changed = threading.Condition()

    def change(self, run: dict[str, Any]) -> None:
        """Tell open pages that a run has changed."""
        with self.changed:
            self.version += 1
            run["version"] = self.version
            self.changed.notify_all()


def _token(id_: str, name: str, now: float) -> dict[str, Any]:
    times = {"created": now - 86_400, "expires": now + 30 * 86_400, "last_used": now - 60}
    scopes = ["read", "report"]
    about = {"id": id_, "name": name, "kind": "token", "user": "alice", "scopes": scopes}
    return {**about, **times, "run": None, "revoked": None}


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": code, "message": message}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    world: World

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path.removeprefix(self.world.prefix))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        if not parts.path.startswith("/api/v1/"):
            self._file(parts.path)
            return
        path = parts.path.removeprefix("/api/v1/")
        self.world.asked.append(f"{method} {path}?{parts.query}")
        try:
            self._check(path)
            if path == "stream":
                self._stream()
                return
            self._json(200, self._route(method, path, parse_qs(parts.query), body))
        except Refused as refused:
            self._json(refused.status, refused.body)

    def _check(self, path: str) -> None:
        if self.world.down:
            raise Refused(503, "busy", "The server is being restarted.")
        cookie = self.headers.get("Cookie") or ""
        if path != "login" and not any(name in cookie for name in self.world.sessions):
            raise Refused(401, "unauthorized", "Log in first.")

    def _route(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        if method != "GET":
            self.world.sent.append((method, path, body))
            return self._act(method, path, body)
        first, _, rest = path.partition("/")
        if first == "flow-runs" and rest and rest != "scatter":
            return self._run(rest.partition("/")[0])
        answer = Answers(self.world, query)
        found = getattr(answer, path.replace("-", "_").replace("/", "_"), None)
        if found is None:
            raise Refused(404, "missing", f"There is no {path}.")
        return found()

    def _run(self, id_: str) -> dict[str, Any]:
        for run in self.world.runs:
            if run["id"] == id_:
                return {**run, "history": [[run["created"], "PENDING", "Pending"]]}
        raise Refused(404, "missing", f"There is no flow run {id_!r} that you may see.")

    def _act(self, method: str, path: str, body: Any) -> Any:
        world = self.world
        if path == "login":
            if body["code"] not in world.codes:
                raise Refused(401, "code", "That code is not valid any more; ask for another.")
            world.codes.discard(body["code"])
            world.sessions.add("session-1")
            return {"user": "alice", "expires": world.now + 3600}
        if path == "logout":
            world.sessions.clear()
        elif path.endswith("/cancel"):
            run = self._run(path.split("/")[1])
            words = "It is told within a second." if run["heard"] else "Its driver is not heard."
            return {"id": "c1", "status": "queued", "heard": run["heard"], "message": words}
        elif path == "tokens":
            world.tokens.append(_token("0123456789ab", body["name"], world.now))
            return {"id": "0123456789ab", "token": "hpcf_0123456789ab_" + "s" * 43}
        elif method == "DELETE" and path.startswith("tokens/"):
            world.tokens = [each for each in world.tokens if each["id"] != path[7:]]
        elif method == "PUT" and path.startswith("variables/"):
            world.variables.append({"name": path[10:], **body})
        elif path == "login-codes":
            return {"code": "next", "url": "http://127.0.0.1/#/login?code=next", "expires": 0}
        return {}

    def _json(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if self.path.endswith("/login") and status == 200:
            self.send_header("Set-Cookie", "session-1=x; Path=/; HttpOnly; SameSite=Strict")
        self.end_headers()
        self.wfile.write(text)

    def _file(self, path: str) -> None:
        file = self.world.page / (path.lstrip("/") or "index.html")
        if not file.is_file() or self.world.page not in file.resolve().parents:
            self._json(404, {"error": "missing", "message": path})
            return
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(file.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        world = self.world
        if not world.stream:
            raise Refused(503, "busy", "No streams now.")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        told = world.version
        self._event("hello", {"epoch": "e", "time": time.time()})
        while world.stream and not world.down:
            with world.changed:
                world.changed.wait(0.2)
                runs = {r["run"]: r["version"] for r in world.runs if r["version"] > told}
                told = world.version
            if runs and not self._event("change", {"runs": runs}):
                return

    def _event(self, name: str, data: Any) -> bool:
        try:
            self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            self.wfile.flush()
        except OSError:
            return False
        return True


class Answers:
    """What is answered to GET, one method for each path."""

    def __init__(self, world: World, query: dict[str, list[str]]) -> None:
        self.world, self.query = world, query

    def _one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def me(self) -> dict[str, Any]:
        about = {"user": "alice", "admin": "admin" in self.world.scopes, "run": None}
        server = {"instance": "i-1", "epoch": "e", "version": "0.1.0", "database": "sqlite"}
        return {**about, "scopes": self.world.scopes, "projects": ["catalysis"], **server}

    def _filtered(self) -> list[dict[str, Any]]:
        states, name, flow = self.query.get("state"), self._one("name"), self._one("flow")
        since = float(self._one("since", "0"))
        return [
            run
            for run in self.world.runs
            if (not states or run["state_type"] in states)
            and name in run["name"]
            and flow in run["flow"]
            and run["created"] >= since
        ]

    def flow_runs(self) -> dict[str, Any]:
        found = self._filtered()
        sort = self._one("sort", "-created")
        key = sort.lstrip("-")
        found.sort(key=lambda run: _key(run, key), reverse=sort.startswith("-"))
        return self._page(found)

    def _page(self, found: list[Any]) -> dict[str, Any]:
        offset, limit = int(self._one("offset", "0")), int(self._one("limit", "50"))
        more = offset + limit
        items = found[offset:more]
        return {"items": items, "total": len(found), "next": more if more < len(found) else None}

    def flow_runs_scatter(self) -> dict[str, Any]:
        found = [run for run in self._filtered() if run["started"] is not None]
        points = [
            [
                *(run["id"], run["name"], run["flow"], run["started"]),
                None if run["ended"] is None else run["ended"] - run["started"],
                run["state_type"],
            ]
            for run in found[:2000]
        ]
        return {"points": points, "left_out": max(0, len(found) - 2000)}

    def dashboard(self) -> dict[str, Any]:
        hours = float(self._one("hours", "24"))
        since = self.world.now - 3600 * hours
        recent = [run for run in self.world.runs if run["created"] > since]
        states: dict[str, int] = {}
        for run in recent:
            states[run["state_type"]] = states.get(run["state_type"], 0) + 1
        rng = random.Random(1)
        step = hours * 3600 / 96
        strip = [
            {
                "t": since + i * step,
                "completed": int(rng.random() ** 3 * 12),
                "failed": int(rng.random() ** 6 * 4),
            }
            for i in range(96)
        ]
        active = [run for run in self.world.runs if run["state_type"] in {"RUNNING", "PENDING"}]
        attention = [
            *_attention(self.world.runs, self.world.now),
        ]
        return {"attention": attention, "active": active[:12], "states": states, "strip": strip}

    def clusters(self) -> dict[str, Any]:
        return {"items": [_cluster("afton", self.world.now - 8), _cluster("rivanna", None)]}

    def events(self) -> dict[str, Any]:
        return self._page(
            [
                {
                    "id": f"e{number}",
                    "run": f"run-{number:05d}",
                    "t": self.world.now - 77 * number,
                    "name": ("checkpoint.saved", "data.arrived")[number % 2],
                    "resource": {"hpc_flows.resource.id": f"dataset/{number}"},
                    "payload": {"bytes": 1000 * number, "path": f"/scratch/ckpt-{number}"},
                }
                for number in range(130)
            ]
        )

    def artifacts(self) -> dict[str, Any]:
        kinds = ("markdown", "table", "link", "progress", "image")
        return self._page(
            [
                {
                    "id": f"a{number}",
                    "run": f"run-{number:05d}",
                    "flow_run": f"run-{number:05d}",
                    "task_run": None,
                    "key": f"report-{number}",
                    "type": kinds[number % 5],
                    "description": "How the losses went",
                    "data": 42.5 if number % 5 == 3 else "…",
                    "created": self.world.now - 500 * number,
                }
                for number in range(40)
            ]
        )

    def variables(self) -> dict[str, Any]:
        return self._page(self.world.variables)

    def tokens(self) -> dict[str, Any]:
        return {"items": self.world.tokens}

    def users(self) -> dict[str, Any]:
        names = (("alice", True), ("bob", False))
        now = self.world.now
        return {
            "items": [{"name": n, "admin": a, "created": now, "disabled": None} for n, a in names]
        }

    def projects(self) -> dict[str, Any]:
        members = [{"user": "alice", "role": "control"}, {"user": "bob", "role": "read"}]
        return {
            "items": [{"name": "catalysis", "created": self.world.now, "members": members}],
        }


def _key(run: dict[str, Any], key: str) -> Any:
    if key == "duration":
        return (run["ended"] or time.time()) - (run["started"] or time.time())
    return run[key] or 0


def _attention(runs: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    texts = {
        "failed": "14 of 1,000 task runs failed: ValueError: energies do not converge",
        "stuck": "64 jobs wait: QOSMaxCpuPerUserLimit (you use all the CPUs that your QOS allows)",
        "silent": "its relay was not heard for 6 min",
        "walltime": "3 jobs end within 10 min by their walltime",
    }
    return [
        {
            "kind": kind,
            "flow_run": run["id"],
            "name": run["name"],
            "text": text,
            "since": now - 300 * (n + 1),
        }
        for n, ((kind, text), run) in enumerate(zip(texts.items(), runs, strict=False))
    ]


def _cluster(name: str, heard: float | None) -> dict[str, Any]:
    partitions = [
        {
            "name": part,
            "nodes": nodes,
            "idle_nodes": nodes // 7,
            "cpus": nodes * 40,
            "idle_cpus": nodes * 6,
            "pending": 40 * n,
            "running": 90 * n,
        }
        for n, (part, nodes) in enumerate((("standard", 300), ("gpu", 38), ("parallel", 120)), 1)
    ]
    reasons = {"Priority": 211, "Resources": 30, "QOSMaxCpuPerUserLimit": 64}
    survey = {
        "time": heard,
        "scheduler": "slurm",
        "partitions": partitions,
        "queue": {"pending": 2310, "running": 1604, "reasons": reasons},
        "mine": {"pending": 64, "running": 128},
        "error": None,
    }
    words = "you use all the CPUs that your QOS allows; it starts when others of yours end"
    return {
        "name": name,
        "scheduler": "slurm",
        "heard": heard,
        "survey": survey if heard else None,
        "jobs": {"pending": 64, "running": 128, "ended": 4031},
        "reasons": [
            {"reason": "QOSMaxCpuPerUserLimit", "words": words, "count": 60},
            {"reason": "Priority", "words": "other jobs go first", "count": 4},
        ],
    }


class FixtureServer(ThreadingHTTPServer):
    """Many connections; ends with the test."""

    daemon_threads = True


def serve(world: World, port: int = 0) -> FixtureServer:
    """Serve a world on loopback, in a thread; `server_address` tells the port."""
    handler = type("WorldHandler", (Handler,), {"world": world})
    server = FixtureServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
