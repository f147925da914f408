"""Secrets that a run is given are nowhere but where their owner put them (T5 of the threat model).

A flow runs with keys that are known to the test, on the mock cluster and on real Slurm, and reports
to a server over SQLite and over PostgreSQL. Then everything that could tell of them is searched:

- every file of the run, of the home, of the scheduler and of the server, logs among them, and the
  names of all; every row of the server's database;
- every answer of the server's reading API, the live stream and an exported run included, and what
  it answers to those who ask wrongly. The questions are made from its OpenAPI: a new route is
  asked, too;
- what commands print that show, list or follow something, also where they fail, with tracebacks;
- all command lines, names of processes and Unix sockets of the machine while that goes on;
- what the scheduler tells of jobs.

T5 speaks of environments, too: the wrapper drops the token before the user's code runs. The owner's
own commands (the flow, the relay, the server) need the keys and may have them in theirs, which only
the owner can read. Nothing that a scheduler starts may, and no command of the scheduler: what these
have, accounting may store. A task's own `environment=` is for its job alone: the job has it, and
the two files from which it gets it.

What a task prints, logs or raises in the process of its flow is searched as well: it has the keys
of the settings in its environment, and tells them by mistake.

What the page shows is in tests/page/test_page_secrets.py.
"""

from __future__ import annotations

import json
import os
import secrets as chance
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import click
import pytest
from cli_process import Shell
from secret_places import Asking, Seen, Watching, reading_paths, search_database
from secret_search import Search

from hpc_flows.cli.main import cli, invoke

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOWS = """
import os, subprocess, sys, time
from hpc_flows import Resources, flow, get_run_logger, task
from hpc_flows.artifacts import create_markdown_artifact
from hpc_flows.events import emit_event

VARIABLES = {"WEATHER_KEY": sys.stdin.readline().strip()}
SMALL = Resources(cpus=1, memory="100MB", walltime="5m", environment=VARIABLES)

@task(resources=SMALL)
def measured(n):
    print("measuring", n)
    subprocess.run(["sleep", "1"], check=True)  # what a job starts has its environment
    if n == 2:
        raise ValueError("two is wrong")
    return n

@task
def noted(n):
    keys = [os.environ[name] for name in ("HPC_FLOWS_API_KEY", "HPC_FLOWS_PREFECT_API_KEY")]
    print("told by mistake:", *keys)
    create_markdown_artifact(f"# noted with {keys}", key="note")
    emit_event("noted", {"hpc_flows.resource.id": "n"}, payload={"keys": keys})
    get_run_logger().warning("noted with %s", keys)

@flow(log_prints=True)
def study(key: str = "a parameter"):
    states = [future.wait() or future.state for future in measured.map(range(3))]
    noted(1)
    print("states", [state.name for state in states])
"""

#: Commands that show something, with what they take: RUN is the run, TASK a task run of it.
SHOWING = (
    *("runs ls", "runs show RUN", "runs logs RUN", "flow-run ls", "flow-run inspect RUN"),
    *("flow-run logs RUN", "flow-run watch RUN --plain", "watch RUN --plain", "watch RUN --local"),
    *(
        "task-run ls --flow-run RUN",
        "task-run inspect TASK",
        "task-run logs TASK",
        "flow-run ls --local",
    ),
    *("artifact ls", "artifact inspect note", "variable ls", "event ls", "cluster ls"),
    *("cluster show mock", "cluster check", "gcl ls", "concurrency-limit ls"),
    *("mock status", "mock faults show", "server status", "server user ls", "server project ls"),
    *("token ls --all", "relay status", "connect --status", "profile ls"),
    *("profile inspect default", "config view", "config view --show-defaults --show-sources"),
    *("version", "flow-run inspect RUN --json", "relay once --timeout 1"),
)
#: Last words of commands that show something; each must be above, or here with a reason.
WORDS = {"ls", "show", "inspect", "view", "status", "logs", "watch", "check", "version", "once"}
ELSEWHERE = {
    "variable inspect": "there is no variable, and it shows what its owner put there",
    "gcl inspect": "there is no limit",
    "concurrency-limit inspect": "the same",
}


class Given(NamedTuple):
    """A home with a server, and the secrets of its owner by what they are."""

    shell: Shell
    home: Path
    secrets: dict[str, str]


@pytest.fixture
def given(home: Path, tmp_path: Path, cluster: str, database: str) -> Iterator[Given]:
    secrets = {
        "Prefect's key": f"pnu_{chance.token_hex(18)}",
        "Prefect's login": f"ada:{chance.token_hex(12)}/+ä",
        "a task's variable": f"weather-{chance.token_urlsafe(24)}",
        "the database's password": f"pw-{chance.token_hex(12)}",
    }
    environment = {
        "HPC_FLOWS_HOME": str(home),
        # Nobody listens there: the run goes on, and says so.
        "HPC_FLOWS_PREFECT_API_URL": "http://127.0.0.1:9/api",
        "HPC_FLOWS_PREFECT_API_KEY": secrets["Prefect's key"],
        "PREFECT_API_AUTH_STRING": secrets["Prefect's login"],
        "SSH_CONNECTION": "",
    }
    if database:
        password = secrets["the database's password"]
        environment["HPC_FLOWS_SERVER_DATABASE"] = database.replace("@/", f":{password}@/")
    with Shell(tmp_path, environment) as shell:
        shell.write("study.py", FLOWS)
        shell.good("server", "start", "--background", "--port", "0")
        secrets["the admin's token"] = (home / "server" / "token").read_text().strip()
        try:
            yield Given(shell, home, secrets)
        finally:
            shell.good("server", "stop")


@pytest.fixture
def database(request: pytest.FixtureRequest, cluster: str) -> str:
    """Give the address of a PostgreSQL to the run on Slurm; that on the mock has SQLite."""
    return "" if cluster == "mock" else str(request.getfixturevalue("postgresql_url"))


def test_no_artefact_of_a_run_holds_a_secret(
    given: Given,
    cluster: str,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shell, home, secrets = given
    scopes = [word for scope in ("report", "read") for word in ("--scope", scope)]
    token = shell.json("token", "create", "reporter", *scopes)["token"]
    url = json.loads((home / "server" / "endpoint.json").read_text())["url"]
    with Watching(home / "relay" / "status") as watching:
        api = Asking(url, secrets["the admin's token"])
        keys = {"HPC_FLOWS_API_URL": url, "HPC_FLOWS_API_KEY": token}
        output, command = _run(shell, api, secrets["a task's variable"], keys)
        for name, value in shell.environment.items():
            monkeypatch.setenv(name, value)
        run, tasks = _ids(api)
        session = _logged_in(api)
        search = Search({**secrets, "the reporter's token": token, **session})
        _look_at_answers(search, api, _ids_of(api, run, tasks, command))
        _look_at_commands(search, capfd, [("RUN", run), ("TASK", tasks[0])])
        _look_at_failures(search, capfd, url, monkeypatch)
    assert "two is wrong" in output
    search.text("output", "of the flow", output)
    _look_at_processes(search, watching, secrets["a task's variable"])
    _look_at_files(search, home, shell.folder)
    rows = search_database(search, _server_database(home, database))
    _look_at_the_scheduler(search, home, cluster)
    assert not search.findings, "\n".join(map(str, search.findings))
    assert rows > 50
    seen = search.looked_at
    assert {kind: seen.get(kind, 0) for kind in LEAST if seen.get(kind, 0) < LEAST[kind]} == {}


#: How much of each kind has to be there, so that the test could find something at all.
LEAST = {
    "answer": 30,
    "printed": 30,
    "failure": 5,
    "file": 25,
    "name": 30,
    "row": 300,
    "command line": 10,
    "process name": 5,
    "environment": 4,
    "socket": 1,
    "relay's word": 2,
    "scheduler": 2,
}


def _run(shell: Shell, api: Asking, variable: str, keys: dict[str, str]) -> tuple[str, str]:
    """Run the flow, with keys in its environment and what its task needs on standard input.

    It is asked to go on meanwhile, which changes nothing; return its output and the command's id.
    """
    shell.environment |= keys
    process = shell.start("run", "study.py:study", stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
    for name in keys:
        del shell.environment[name]
    assert process.stdin is not None
    process.stdin.write(variable + "\n")
    process.stdin.flush()
    command = None
    while command is None and process.poll() is None:
        time.sleep(0.05)
        for each in json.loads(api.ask("GET", "/flow-runs").body)["items"]:
            answer = api.ask("POST", f"/flow-runs/{each['id']}/resume")
            command = json.loads(answer.body)["id"] if answer.status == 202 else None
    output, _ = process.communicate(timeout=150)
    assert command is not None, output
    return output, command


def _ids(api: Asking) -> tuple[str, list[str]]:
    run = json.loads(api.ask("GET", "/flow-runs").body)["items"][0]["id"]
    items = json.loads(api.ask("GET", f"/task-runs?run={run}").body)["items"]
    return run, [each["id"] for each in items]


def _logged_in(api: Asking) -> dict[str, str]:
    """Log in as a browser does; return the code and the session, which are secrets as well."""
    code = json.loads(api.ask("POST", "/login-codes").body)["code"]
    unused = json.loads(api.ask("POST", "/login-codes").body)["code"]
    body = json.dumps({"code": code}).encode()
    answer = Asking(api.url, None).ask("POST", "/login", body, Content_Type="application/json")
    line = next(each for each in answer.headers.splitlines() if "set-cookie" in each.lower())
    session = line.partition("=")[2].partition(";")[0]
    assert Asking(api.url, session).ask("GET", "/me").status == 200
    return {"a login code": code, "an unused login code": unused, "a session": session}


def _ids_of(api: Asking, run: str, tasks: list[str], command: str) -> dict[str, list[str]]:
    """Return ids of all that the run has left on the server, by what paths call them."""
    jobs, artifacts = (
        json.loads(api.ask("GET", f"/{name}?run={run}").body)["items"]
        for name in ("jobs", "artifacts")
    )
    ids = {
        "run": [run],
        "flow-runs": [run],
        "task-runs": tasks,
        "token": [each["token"] for each in jobs],
        "artifacts": [each["id"] for each in artifacts],
        "commands": [command],
    }
    assert all(ids.values()), ids
    return ids


def _look_at_answers(search: Search, api: Asking, ids: dict[str, list[str]]) -> None:
    """Ask all that the server can be asked, and some things wrongly."""
    outputs = 0
    openapi = json.loads(api.ask("GET", "/openapi.json").body)
    for path in reading_paths(openapi, ids):
        answer = api.ask("GET", path)
        # Only jobs have an output, and an export needs the built page.
        lacking = {"output": 404, "export": 503}.get(path.rpartition("/")[2])
        assert answer.status in {200, lacking}, (path, answer)
        outputs += path.endswith("/output") and answer.status == 200
        search.text("answer", path, answer.body)
        search.text("answer", f"{path}: headers", answer.headers)
    assert outputs
    _ask_wrongly(search, api)


def _ask_wrongly(search: Search, api: Asking) -> None:
    kind = {"Content_Type": "application/json"}
    for token, path, body in (
        (api.token, f"/flow-runs/{api.token}", None),
        (f"{api.token}x", "/me", None),
        (None, "/login", {"code": api.token, "extra": api.token}),
        (None, "/hello", {"token_id": api.token, "nonce": api.token}),
        (api.token, "/tokens", {"name": 1, "scopes": [api.token]}),
    ):
        raw = None if body is None else json.dumps(body).encode()
        answer = Asking(api.url, token).ask("POST" if body else "GET", path, raw, **kind)
        assert answer.status < 500, answer
        search.text("answer", f"{path.partition('hpcf_')[0]}, asked wrongly", answer.body)


def _look_at_commands(
    search: Search, capfd: pytest.CaptureFixture[str], words: list[tuple[str, str]]
) -> None:
    """Have every command print what it shows, within this process, which is quicker."""
    for shown in SHOWING:
        line = shown
        for word, value in words:
            line = line.replace(word, value)
        capfd.readouterr()
        status = invoke(line.split())
        told = capfd.readouterr()
        search.text("printed", line, told.out + told.err)
        assert status in {0, 1}, (line, told)


def _look_at_failures(
    search: Search,
    capfd: pytest.CaptureFixture[str],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Have commands fail over keys that are wrong, and servers that are away; with tracebacks."""
    wrong = {
        "a token that nobody has": f"hpcf_{chance.token_hex(6)}_{chance.token_urlsafe(32)}",
        "a token that is none": f"canary-{chance.token_hex(16)}",
    }
    nobody, none = wrong.values()
    inner = Search(wrong)
    for address, key, line in (
        (url, nobody, "token ls"),
        (url, nobody, "flow-run ls"),
        (url, nobody, "relay once --timeout 0.2"),
        (url, none, "token ls"),
        (url, none, "relay once --timeout 0.2"),
        ("http://127.0.0.1:9", nobody, "flow-run ls"),
        ("http://127.0.0.1:9", nobody, "relay once --timeout 0.2"),
        (f"http://user:{none}@127.0.0.1:9", nobody, "token ls"),
    ):
        monkeypatch.setenv("HPC_FLOWS_API_URL", address)
        monkeypatch.setenv("HPC_FLOWS_API_KEY", key)
        capfd.readouterr()
        status = invoke([*line.split(), "--debug"])
        told = capfd.readouterr()
        assert (status, "Traceback" in told.err) == (1, True) or line != "token ls"
        for each in (search, inner):
            each.text("failure", f"{line} at {address[:20]}", told.out + told.err)
    monkeypatch.delenv("HPC_FLOWS_API_URL")
    monkeypatch.delenv("HPC_FLOWS_API_KEY")
    assert not inner.findings


def _look_at_processes(search: Search, watching: Watching, variable: str) -> None:
    of_jobs = 0
    for seen in watching.seen:
        search.text("command line", repr(seen.arguments[:60]), seen.arguments)
        search.text("process name", repr(seen.name), seen.name)
        if seen.is_of_a_job or not _is_of_its_owner(seen.arguments):
            environment = seen.environment
            if seen.is_of_a_job:
                of_jobs += variable.encode() in environment
                environment = environment.replace(variable.encode(), b"")
            search.text("environment", repr(seen.arguments[:200]), environment)
    search.names("socket", watching.sockets)
    for content in watching.files:
        search.text("relay's word", "on how it stands", content)
    # The job side, and what the task has started.
    assert of_jobs > 1


def _is_of_its_owner(arguments: bytes) -> bool:
    """Tell whether a process is a command that the owner has given, or the server of such a one."""
    words = arguments.split(b"\0")
    return b"hpc_flows" in words or b"hpc_flows.server.background" in words


def _look_at_files(search: Search, home: Path, folder: Path) -> None:
    """Look at all files but those whose purpose is to hold a secret; these are for nobody else."""
    holders = [home / "server" / "token", *home.glob("runs/*/jobs/*/environment.sh")]
    holders += home.glob("runs/*/payloads/*")
    assert len(holders) > 2
    for path in holders:
        assert path.stat().st_mode & 0o077 == 0, path
    search.tree(home, folder, but=holders)
    logs = {path.name for path in [*home.rglob("*.log"), *home.rglob("*.jsonl")]}
    assert {"server.log", "driver.jsonl"} <= logs


def _server_database(home: Path, database: str) -> str:
    if database:
        return database.replace("postgresql://", "postgresql+psycopg://")
    return f"sqlite:///{home}/server/server.db"


def _look_at_the_scheduler(search: Search, home: Path, cluster: str) -> None:
    """Look at what the scheduler tells of jobs: names, comments, command lines, folders."""
    path = os.environ["PATH"]
    if cluster == "mock":
        path = f"{home}/mock/mock/bin{os.pathsep}{path}"
    for words in ("scontrol show jobs --details", "sacct -X -P -o JobID,JobName,WorkDir,Comment"):
        program, *rest = words.split()
        command = [str(shutil.which(program, path=path)), *rest]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert "hf-" in told.stdout
        search.text("scheduler", words, told.stdout)


def test_every_command_that_shows_something_is_looked_at() -> None:
    def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from leaves(inner, (*path, name))
        elif path[-1] in WORDS:
            yield " ".join(path)

    missing = [
        name
        for name in leaves(cli, ())
        if name not in ELSEWHERE and not any(line.startswith(name) for line in SHOWING)
    ]
    assert missing == []


def test_a_route_that_nobody_can_fill_in_is_noticed() -> None:
    openapi = {"paths": {"/api/v1/secrets/{secret}": {"get": {}}}}
    with pytest.raises(KeyError, match="secret"):
        list(reading_paths(openapi, {"run": ["r"]}))


def test_processes_are_seen_with_their_arguments_and_environment() -> None:
    canary = chance.token_hex(16)
    words = [sys.executable, "-c", "input()", canary]
    environment = {**os.environ, "A_KEY": canary, "SLURM_JOB_ID": "7"}
    with (
        Watching() as watching,
        subprocess.Popen(words, env=environment, stdin=subprocess.PIPE) as process,
    ):
        while not any(seen.is_of_a_job for seen in _with(watching, canary)):
            assert process.poll() is None
            time.sleep(0.05)
        process.communicate(b"\n")
    assert any(canary.encode() in seen.arguments for seen in _with(watching, canary))


def _with(watching: Watching, text: str) -> list[Seen]:
    """Return the processes whose environment has a text in it."""
    return [seen for seen in list(watching.seen) if text.encode() in seen.environment]
