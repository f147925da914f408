"""A PostgreSQL of the tests' own, on a Unix socket, with a fresh database for whoever asks."""

from __future__ import annotations

import re
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg

from services import absent
from services.children import (
    await_answer,
    finish,
    give,
    plain_account,
    run_as,
    spawn,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

_ROLE = "tests"
_STARTS_WITHIN = 30.0

#: Nothing of a test's database must survive a power cut.
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100")


def find_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server's programs, or None."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    if newest is not None:
        return newest.parent
    # Not a Debian: then all of it is on PATH.
    program = shutil.which("initdb")
    return Path(program).parent if program else None


class PostgreSQL:
    """A running PostgreSQL, whose folder goes away with it.

    Attributes:
        folder: has the data, the socket and `server.log`.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._account = plain_account()
        # Short, because the path of a socket may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._child: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._templates: dict[str, str] = {}

    def start(self) -> Self:
        """Start it; the first time, make its data."""
        data = self.folder / "data"
        if not data.exists():
            give(self.folder, self._account)
            words = f"-D {data} -U {_ROLE} -A trust -E UTF8 --locale=C.UTF-8 --no-sync"
            self._run("initdb", *words.split())
        settings = [*_QUICK, "listen_addresses=", f"unix_socket_directories={self.folder}"]
        options = [word for setting in settings for word in ("-c", setting)]
        argv = [str(self._programs / "postgres"), "-D", str(data), *options]
        log = self.folder / "server.log"
        self._child = spawn(argv, account=self._account, cwd=self.folder, log=log)
        await_answer(self._child, self._answers, log, _STARTS_WITHIN)
        return self

    def stop(self) -> None:
        """End the server; `start` starts it again with all its data."""
        if self._child is not None:
            # SIGTERM lets it wait for all clients to go; SIGINT does not.
            self._child.send_signal(2)
            finish(self._child)
            self._child = None

    def remove(self) -> None:
        """End the server and take its folder away."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{_ROLE}@/{database}?host={self.folder}"

    def create(self, template: str = "template1") -> str:
        """Make a database like another one; return its address.

        Args:
            template: the other's name, as `template` returns it.
        """
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """Make a database once, from which `create` makes others; return its name.

        Args:
            name: letters, digits and underlines; what is in it is known by this.
            fill: is called the first time with the address of the empty database, and must leave
                no connection open.
        """
        if name not in self._templates:
            address = self.create()
            fill(address)
            self._templates[name] = _name_in(address)
        return self._templates[name]

    def drop(self, address: str) -> None:
        """Take a database away, with the connections to it."""
        self._execute(f"DROP DATABASE IF EXISTS {_name_in(address)} WITH (FORCE)")

    def recreate(self, address: str) -> None:
        """Make a database empty that may have had anything in it."""
        self.drop(address)
        self._execute(f"CREATE DATABASE {_name_in(address)}")

    def let_in(self, address: str, *, anybody: bool) -> None:
        """Let nobody connect to a database, and end all connections to it; or let them in again."""
        name = _name_in(address)
        self._execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(anybody).lower()}")
        if not anybody:
            mine = f"datname = '{name}'"  # a name of ours, which is one word
            self._execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"  # noqa: S608 - as above
            )

    def _execute(self, command: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(command.encode())

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *words: str) -> None:
        argv = [str(self._programs / program), *words]
        run_as(argv, account=self._account, cwd=self.folder)


def start_postgresql() -> PostgreSQL:
    """Start a PostgreSQL, or skip the test where there is none."""
    programs = find_programs()
    if programs is None:
        absent("PostgreSQL's server (the package `postgresql`) is not installed")
    server = PostgreSQL(programs)
    try:
        return server.start()
    except BaseException:
        server.remove()
        raise


def _name_in(address: str) -> str:
    found = re.search(r"@/(\w+)\?", address)
    if found is None:
        raise ValueError(f"no address of this server: {address}")
    return found[1]
