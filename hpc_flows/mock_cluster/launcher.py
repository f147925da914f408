"""Starting, asking and stopping the controller of a mock cluster from outside.

A mock lives in `<home>/mock/<name>`: `bin` (the commands), `client` (their code), `state` (the
controller's memory), `socket`, `settings.json`, `controller.log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import py_compile
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster import client
from hpc_flows.mock_cluster.client.command import Link
from hpc_flows.mock_cluster.faults import check
from hpc_flows.mock_cluster.sites import VERSIONS, SiteError, Timings, load_site, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "sinfo", "scontrol", "srun", "salloc")
#: AF_UNIX paths hold 108 bytes with the ending zero.
_LONGEST_SOCKET = 100
_LONGEST_SHEBANG = 120
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


class MockError(RuntimeError):
    """A mock cluster could not be started or asked; the text says what to do."""


@dataclass(frozen=True, slots=True)
class MockPaths:
    """Where the parts of a mock cluster are."""

    folder: Path

    @property
    def bin(self) -> Path:
        """The folder of its commands, to be put first on PATH."""
        return self.folder / "bin"

    @property
    def settings(self) -> Path:
        """What it was started with."""
        return self.folder / "settings.json"

    @property
    def log(self) -> Path:
        """What the controller had to say."""
        return self.folder / "controller.log"

    @property
    def socket(self) -> Path:
        """The controller's socket: in the folder, or in a short one where that path is too long."""
        if not self.can_hold_socket():
            with contextlib.suppress(OSError):
                return Path(self.socket_record.read_text()) / "socket"
        return self.folder / "socket"

    @property
    def socket_record(self) -> Path:
        """Says where the short folder of the socket is."""
        return self.folder / "socket-folder"

    def can_hold_socket(self) -> bool:
        """Tell whether a socket in the folder itself has a path that is short enough."""
        return len(os.fsencode(self.folder / "socket")) <= _LONGEST_SOCKET


@dataclass(frozen=True, slots=True)
class MockInfo:
    """A mock cluster that runs.

    Attributes:
        name: its name.
        folder: its folder.
        bin: the folder of its commands.
        pid: the controller's process id.
        started: whether this call started it (False: it ran already).
        status: what the controller says of itself.
        warning: what it had to say when it started, or an empty text.
    """

    name: str
    folder: Path
    bin: Path
    pid: int
    started: bool
    status: dict[str, Any] = field(default_factory=dict)
    warning: str = ""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start a mock cluster.

    Attributes:
        profile: a cluster profile; None is the built-in site.
        version: the version of Slurm to play.
        accounting: whether the site has accounting.
        timings: seconds by name, see `sites.Timings`.
        faults: the table of a faults file.
        fresh: forget the jobs of earlier runs.
    """

    profile: Path | None = None
    version: str | None = None
    accounting: bool | None = None
    timings: dict[str, str | float] = field(default_factory=dict)
    faults: dict[str, Any] | None = None
    fresh: bool = False


def paths(home: str | Path, name: str = "mock") -> MockPaths:
    """Return where a mock of a name is, below a home such as $HPC_FLOWS_HOME."""
    return MockPaths(Path(home).expanduser().absolute() / "mock" / name)


def start(home: str | Path, name: str = "mock", options: StartOptions | None = None) -> MockInfo:
    """Start a mock cluster; one that runs already is left as it is.

    Safe to call at the same time from several processes.

    Raises:
        SiteError: the profile, a timing or the faults cannot be used.
        MockError: the controller did not come up.
    """
    where = paths(home, name)
    where.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(where.folder / "start.lock"):
        running = _status(where)
        if running is not None:
            return _info(where, running, started=False)
        options = options or StartOptions()
        _check(options)
        if options.fresh:
            shutil.rmtree(where.folder / "state", ignore_errors=True)
        _write_settings(where, options)
        _make_socket_folder(where)
        _write_commands(where, options)
        warning = _launch(where)
        running = _status(where)
        if running is None:
            raise MockError(f"the mock cluster {name!r} came up and went: {_last_words(where)}")
        if options.faults is not None:
            ask(home, name, "faults", "replace", json.dumps(options.faults))
        return replace(_info(where, running, started=True), warning=warning)


def status(home: str | Path, name: str = "mock") -> dict[str, Any] | None:
    """Return what a mock says of itself, or None when it does not run."""
    return _status(paths(home, name))


def stop(home: str | Path, name: str = "mock", *, keep_jobs: bool = False) -> bool:
    """Stop a mock cluster and cancel its jobs; return whether it ran.

    Raises:
        MockError: it does not end.
    """
    where = paths(home, name)
    running = _status(where)
    if running is None:
        _sweep(where)
        return False
    with contextlib.suppress(MockError):
        ask(home, name, "stop", *(["keep-jobs"] if keep_jobs else []))
    give_up = time.monotonic() + _STOP_SECONDS
    while _lock_is_held(where):
        if time.monotonic() > give_up:
            message = f"the controller (pid {running['pid']}) of the mock {name!r} does not end"
            raise MockError(message)
        time.sleep(0.01)
    return True


def set_faults(home: str | Path, name: str, table: dict[str, Any]) -> dict[str, Any]:
    """Replace a running mock's faults by a table and return them with their counters.

    Raises:
        SiteError: a fault is unknown.
        MockError: the mock does not run.
    """
    check(table)
    return _faults(home, name, "replace", json.dumps(table))


def add_fault(home: str | Path, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Add one fault to a running mock and return all with their counters.

    Raises:
        SiteError: the fault is unknown.
        MockError: the mock does not run.
    """
    check({"fault": [entry]})
    return _faults(home, name, "add", json.dumps(entry))


def show_faults(home: str | Path, name: str = "mock") -> dict[str, Any]:
    """Return a running mock's faults: `fired` and `seen` count."""
    return _faults(home, name, "show")


def clear_faults(home: str | Path, name: str = "mock") -> dict[str, Any]:
    """Take all faults from a running mock."""
    return _faults(home, name, "clear")


def shell_environment(home: str | Path, name: str = "mock") -> dict[str, str]:
    """Return the variables under which a shell has the mock's commands first on PATH."""
    where = paths(home, name)
    return {
        "PATH": f"{where.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HPC_FLOWS_MOCK": name,
        "HPC_FLOWS_HOME": str(Path(home).expanduser().absolute()),
    }


def ask(home: str | Path, name: str, *words: str) -> str:
    """Send the controller a control command and return its answer.

    Raises:
        MockError: it does not run, or it refuses.
    """
    answer = _ask(paths(home, name), words)
    if answer is None:
        message = f"the mock cluster {name!r} does not run; start it with `hpc-flows mock start`"
        raise MockError(message)
    return answer


def _faults(home: str | Path, name: str, *words: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(ask(home, name, "faults", *words))
    return table


def _status(where: MockPaths) -> dict[str, Any] | None:
    answer = _ask(where, ("status",))
    if answer is None:
        return None
    table: dict[str, Any] = json.loads(answer)
    return table


def _ask(where: MockPaths, words: tuple[str, ...]) -> str | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(where.socket))
        except OSError:
            return None
        link = Link(sock)
        head = ["mock", "/", "0", str(os.getpid()), "0", str(len(words)), *words]
        try:
            link.send(b"q", "\0".join(head).encode())
        except OSError:
            return None
        return _read_answer(link)


def _read_answer(link: Link) -> str | None:
    """Return what a control command prints, or None when the controller hung up before its end."""
    out = err = ""
    for letter, data in link.frames():
        if letter == b"o":
            out += data.decode()
        elif letter == b"e":
            err += data.decode()
        elif letter == b"x" and data != b"0":
            raise MockError(err.strip())
        elif letter == b"x":
            return out
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; it is free once the process is gone."""
    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _lock_is_held(where: MockPaths) -> bool:
    """Return whether a controller holds the folder."""
    try:
        with (where.folder / "controller.lock").open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _info(where: MockPaths, running: dict[str, Any], *, started: bool) -> MockInfo:
    return MockInfo(
        where.folder.name, where.folder, where.bin, int(running["pid"]), started, running
    )


def _check(options: StartOptions) -> None:
    """Find what is wrong before anything is written."""
    load_site(options.profile)
    Timings.from_texts(options.timings)
    if options.faults is not None:
        check(options.faults)
    if options.version is not None and options.version not in VERSIONS:
        raise unknown_name("version of Slurm", options.version, list(VERSIONS))


def _write_settings(where: MockPaths, options: StartOptions) -> None:
    site: dict[str, Any] = {}
    if options.version is not None:
        site["version"] = options.version
    if options.accounting is not None:
        site["accounting"] = options.accounting
    table = {
        "profile": str(options.profile.absolute()) if options.profile else None,
        "site": site,
        "timings": {name: float(value) for name, value in options.timings.items()},
    }
    where.settings.write_text(json.dumps(table, indent=1))
    conf = "# A mock cluster of hpc_flows; its settings are in settings.json beside this file.\n"
    (where.folder / "slurm.conf").write_text(conf)


def _make_socket_folder(where: MockPaths) -> None:
    """Make a short private folder for the socket where its own path is too long."""
    if where.can_hold_socket():
        return
    if where.socket_record.exists():
        # The same as before: commands may be on their way to it. It went with the last controller.
        with contextlib.suppress(OSError):
            where.socket.parent.mkdir(mode=0o700)
        if _is_private(where.socket.parent):
            return
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isdir(base) or not os.access(base, os.W_OK):
        base = "/tmp"  # noqa: S108 - mkdtemp makes a folder that only the user can enter
    where.socket_record.write_text(tempfile.mkdtemp(prefix="hpc-flows-mock-", dir=base))


def _is_private(folder: Path) -> bool:
    """Tell whether a folder is this user's, and nobody else can enter it."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(facts.st_mode)
        and facts.st_uid == os.geteuid()
        and not facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )


def remove_socket(path: Path, where: MockPaths) -> None:
    """Take the socket of a controller that has ended away, and the folder that was made for it."""
    with contextlib.suppress(OSError):
        path.unlink()
        if path.parent != where.folder:
            path.parent.rmdir()


def _sweep(where: MockPaths) -> None:
    """Take away what a controller that was killed has left outside of its folder."""
    if not where.socket_record.exists():
        return
    with _locked(where.folder / "start.lock"):
        if not _lock_is_held(where):
            remove_socket(where.socket, where)


def _write_commands(where: MockPaths, options: StartOptions) -> None:
    """Write the commands, and beside them the code that they run."""
    package = where.folder / "client" / "mock_client"
    package.mkdir(parents=True, exist_ok=True)
    for source in Path(client.__file__).parent.glob("*.py"):
        _replace(package / source.name, source.read_text(encoding="utf-8"))
        py_compile.compile(str(package / source.name), quiet=2)
    where.bin.mkdir(exist_ok=True)
    site = load_site(options.profile)
    known = {"message_timeout": site.timings.message_timeout, **options.timings}
    # A connection that is refused is tried for one second less than one that is not answered.
    patience = max(float(known["message_timeout"]) - 1.0, 0.0)
    version = options.version or site.version
    for command in COMMANDS:
        call = f"{command!r}, {str(where.socket)!r}, {patience}, {version!r}"
        body = (
            f"import sys\nsys.path.insert(0, {str(package.parent)!r})\n"
            f"from mock_client.command import main\nsys.exit(main({call}))\n"
        )
        _replace(where.bin / command, _shebang(body), executable=True)


def _shebang(body: str) -> str:
    """Return a script for the base interpreter; through sh where its path is long or odd."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    if len(python) < _LONGEST_SHEBANG and " " not in python:
        return f"#!{python} -SE\n{body}"
    quoted = "'" + python.replace("'", "'\\''") + "'"
    return f"#!/bin/sh\n'''exec' {quoted} -SE \"$0\" \"$@\"\n' '''\n{body}"


def _replace(path: Path, text: str, *, executable: bool = False) -> None:
    """Write a file under another name and move it in place, as it may be in use."""
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    if executable:
        fresh.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    fresh.replace(path)


def _launch(where: MockPaths) -> str:
    """Start the controller in the background, wait for its word, and return its warning."""
    ready, word = os.pipe()
    argv = [sys.executable, "-m", "hpc_flows.mock_cluster.daemon", str(where.folder), str(word)]
    source = str(Path(__file__).parents[2])
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [source, env.get("PYTHONPATH", "")]))
    with where.log.open("ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[word],
            cwd="/",
            env=env,
        )
    os.close(word)
    with os.fdopen(ready) as pipe:
        answer = pipe.read()
    first, _, warning = answer.partition("\n")
    if first != "ready":
        process.wait(_START_SECONDS)
        message = f"the mock cluster did not start: {answer.strip() or _last_words(where)}"
        raise SiteError(message) if answer else MockError(message)
    # The controller outlives this process on purpose; nothing here waits for it.
    process.returncode = 0
    return warning


def _last_words(where: MockPaths) -> str:
    """Return the last line of the controller's log, and where the log is."""
    try:
        lines = where.log.read_text("utf-8", "replace").split("\n")
    except OSError:
        lines = []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{last} (the last line of {where.log})"
