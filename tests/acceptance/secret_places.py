"""Places where a secret could come to light beside files: answers, rows, processes, sockets."""

from __future__ import annotations

import contextlib
import itertools
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sqlalchemy import MetaData, create_engine, select

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from secret_search import Search

API = "/api/v1"


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: str
    body: bytes


class Asking:
    """Asks a server as a program does, or as a browser with a cookie.

    Args:
        url: where it is.
        token: shown with each request; None shows none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url, self.token = url.rstrip("/"), token

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Return what is answered, whatever its status; of a stream the first event."""
        asked = urllib.request.Request(self.url + API + path, body, method=method)  # noqa: S310 - the test's own server
        if self.token is not None:
            asked.add_header("Authorization", f"Bearer {self.token}")
        for name, value in headers.items():
            asked.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(asked, timeout=60) as found:  # noqa: S310 - the same
                endless = "event-stream" in found.headers["Content-Type"]
                text = b"".join(iter(found.readline, b"\n")) if endless else found.read()
                return Answer(found.status, str(found.headers), text)
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, str(refused.headers), refused.read())


def reading_paths(openapi: Mapping[str, Any], ids: Mapping[str, list[str]]) -> Iterator[str]:
    """Give each path of the reading API, as its description has them, with ids of rows in it.

    Args:
        openapi: the description.
        ids: by the first part of a path, or by a word in braces or of a query.

    Raises:
        KeyError: a path has a word of which nobody has said what stands for it.
    """
    for path, methods in openapi["paths"].items():
        if "get" not in methods:
            continue
        plain = path.removeprefix(API)
        subject = plain.split("/")[1]
        words = [part[1:-1] for part in plain.split("/") if part.startswith("{")]
        choices = [ids[subject] if word == "id" else ids[word] for word in words]
        asked = {each["name"] for each in methods["get"].get("parameters", ())}
        query = f"?run={ids['run'][0]}" if "run" in asked - set(words) else ""
        for chosen in itertools.product(*choices):
            yield plain.format(**dict(zip(words, chosen, strict=True))) + query


def search_database(search: Search, url: str) -> int:
    """Look at all that is in all tables, and their names; return how many rows there are."""
    engine = create_engine(url)
    found, rows = MetaData(), 0
    with engine.connect() as connection:
        found.reflect(connection)
        for table in found.sorted_tables:
            for row in connection.execute(select(table)).mappings():
                rows += 1
                for column, value in row.items():
                    search.value("row", f"{table.name}.{column}", value)
    engine.dispose()
    return rows


class Seen(NamedTuple):
    """A process as it was seen: its arguments, its name, and its environment."""

    arguments: bytes
    name: bytes
    environment: bytes

    @property
    def is_of_a_job(self) -> bool:
        """Whether a scheduler has started it, or what it has started."""
        return b"\0SLURM_JOB_ID=" in b"\0" + self.environment


class Watching:
    """Looks at all processes of the machine, again and again, until the block ends.

    Args:
        folder: one whose files come and go, and are looked at as well.

    Attributes:
        seen: all processes that were seen, each once.
        files: what was in those files.
        sockets: names of Unix sockets that were seen.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.seen: set[Seen] = set()
        self.files: set[bytes] = set()
        self.sockets: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    self._look(folder)
            for path in [] if self._folder is None else self._folder.glob("*"):
                with contextlib.suppress(OSError):  # it has gone
                    self.files.add(path.read_bytes())
            lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
            self.sockets.update(line.split()[-1] for line in lines[1:] if "/" in line)

    def _look(self, folder: Path) -> None:
        try:
            arguments, name = (folder / "cmdline").read_bytes(), (folder / "comm").read_bytes()
        except OSError:  # it has ended
            return
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            environment = b""
        self.seen.add(Seen(arguments, name, environment))
