"""Whether a server's database holds what the journals of a home say, and nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server_data import add_user, derived, stored
from sqlalchemy import select

from hpc_flows.journal.index import list_runs
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.reporting.attachments import TAIL
from hpc_flows.server.db import models as m
from hpc_flows.server.db import open_database
from hpc_flows.server.imports import import_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from hpc_flows.journal.index import RunSummary
    from hpc_flows.journal.replay import RunView

#: Most differences that are told.
_SHOWN = 10


class Expected:
    """What a server must hold of the runs of a home, once these have ended.

    Flow runs, task runs and jobs come from `replay`; log records, users' events and artifacts as
    they come, each once, from another database into which the journals were imported in one go;
    attachments from the files of the runs.

    Args:
        home: where the runs are.
        folder: for the other database; made if it is not there.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.runs = list_runs(str(home))
        straight = open_database(f"sqlite:///{folder / 'straight.db'}")
        straight.migrate()
        import_home(straight, str(home), add_user(straight))
        self._views = {run.id: replay(read_run(run.path), log_limit=None) for run in self.runs}
        self._files = {run.id: dict(_files(run, self._views[run.id])) for run in self.runs}
        with straight.reading() as connection:
            self._rows = {run.id: derived(connection, run.id) for run in self.runs}
        straight.close()
        for run in self.runs:
            # The journal is asked as well, lest both databases lack the same.
            view, rows = self._views[run.id], self._rows[run.id]
            assert (len(rows["logs"]), len(rows["events"])) == (len(view.logs), len(view.events))
            assert len(rows["artifacts"]) == len({each.data["id"] for each in view.artifacts})

    def differences(self, url: str) -> list[str]:
        """Return how a server's database differs, in words."""
        database = open_database(url)
        try:
            with database.reading() as connection:
                found = [text for run in self.runs for text in self._differing(connection, run.id)]
        finally:
            database.close()
        return found[:_SHOWN]

    def sizes(self) -> dict[str, int]:
        """Return how many of what there are, all runs together."""
        counts = dict.fromkeys(("flow runs", "task runs", "jobs", "attachments"), 0)
        for run in self.runs:
            view = self._views[run.id]
            parts = (view.flow_runs, view.task_runs, view.jobs, self._files[run.id])
            for name, part in zip(list(counts)[:4], parts, strict=True):
                counts[name] += len(part)
            for name in ("logs", "events", "artifacts"):
                counts[name] = counts.get(name, 0) + len(self._rows[run.id][name])
        return {"runs": len(self.runs), **counts}

    def _differing(self, connection: Connection, run: str) -> Iterator[str]:
        try:
            theirs = stored(connection, run)
        except AssertionError as error:  # columns beside the history that do not fit it
            yield f"{run[:8]}: {error}"
            return
        mine = self._views[run].to_dict()
        for name in mine:
            if _plain(theirs[name]) != _plain(mine[name]):
                yield f"{run[:8]}: {name} are {theirs[name]!r:.300}, not {mine[name]!r:.300}"
        rows = derived(connection, run)
        for name, expected in self._rows[run].items():
            if rows[name] != expected:
                odd = set(rows[name]) ^ set(expected)
                count = f"{len(rows[name])} rows, not {len(expected)}"
                yield f"{run[:8]}: {name}: {count}; {sorted(odd)[:2]!r:.300}"
        yield from _unlike_files(_attached(connection, run), self._files[run], run)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _attached(connection: Connection, run: str) -> dict[tuple[str, str], str]:
    table = m.attachments.c
    query = select(table.kind, table.key, table.content)
    rows = query.join(m.runs, m.runs.c.pk == table.run_pk).where(m.runs.c.id == run)
    return {(kind, key): content for kind, key, content in connection.execute(rows)}


def _unlike_files(theirs: Any, mine: Any, run: str) -> Iterator[str]:
    for key in sorted(set(theirs) | set(mine)):
        if key not in theirs or key not in mine:
            yield f"{run[:8]}: attachment {key} is {'missing' if key in mine else 'too many'}"
        elif theirs[key] != mine[key]:
            yield f"{run[:8]}: attachment {key}: {theirs[key]!r:.200}, not {mine[key]!r:.200}"


def _files(run: RunSummary, view: RunView) -> Iterator[tuple[tuple[str, str], str]]:
    """Give what belongs beside the run: scripts, what jobs have printed, artifacts in files."""
    folder = Path(run.path)
    for job in view.jobs.values():
        yield from _named("script", job.token, folder / str(job.script))
        for index, id_ in enumerate(job.task_runs):
            name = f"jobs/{job.token}/out-{index}.log"
            yield from _named("output", id_, folder / name)
    for event in view.artifacts:
        if event.data.get("file"):
            path = folder.parent.parent / str(event.data["file"])
            yield from _named("artifact", str(event.data["id"]), path)


def _named(kind: str, key: str, path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    text = path.read_text()
    assert kind != "output" or len(text) < TAIL, "the end of a longer file is not looked for here"
    if text:
        yield (kind, key), text
