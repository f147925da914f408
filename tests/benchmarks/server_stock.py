"""A database with many task runs, for benches of the server: quickly made, and like real ones."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, insert, select, text

from hpc_flows.journal.event import encode, header, seal
from hpc_flows.server.db import models as m
from hpc_flows.server.db.people import users
from hpc_flows.server.ingest import Ingest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.server.db import Database

#: Events of a batch, as a relay sends them.
BATCH = 500

#: Task runs of a copied run, and events of each of its task runs.
EACH, EVENTS_OF_TASK = 1_000, 5

_TASKS = ("prepare", "train", "score", "collect")
_TEMPLATE = "template"
_OTHER_IDS = ("id", "flow_run", "upstream", "task_run", "source_flow", "target_flow", "element")


class Story:
    """The journal of a run: a flow that maps tasks which take each other's results.

    Args:
        run: its id.
        tasks: how many task runs it has.
        seed: of the ids.
    """

    def __init__(self, run: str, tasks: int, seed: int = 1) -> None:
        self.run = run
        self._tasks = tasks
        self._chance = random.Random(seed)
        self._seq = itertools.count(1)
        self._wall = 1_790_000_000.0
        self._header = header(run, "driver")

    def batches(self) -> Iterator[bytes]:
        """Give the journal in portions of `BATCH` lines."""
        lines = self.lines()
        while portion := list(itertools.islice(lines, BATCH)):
            yield b"".join(portion)

    def lines(self) -> Iterator[bytes]:
        """Give the lines of the journal."""
        run = self.run
        yield self._line("flow-run", id=run, name="merry-fox", flow="census", parameters={"n": "9"})
        yield self._state("flow", run, "RUNNING", "Running", 1)
        ids: list[str] = []
        for at in range(self._tasks):
            ids.append(str(uuid.UUID(int=self._chance.getrandbits(128))))
            yield from self._task_run(at, ids)
        yield self._state("flow", run, "COMPLETED", "Completed", 1)

    def _task_run(self, at: int, ids: list[str]) -> Iterator[bytes]:
        id_, task = ids[at], _TASKS[at % len(_TASKS)]
        failed = self._chance.random() < 0.01
        yield self._line(
            "task-run",
            id=id_,
            name=f"{task}-{at}",
            task=task,
            key=f"flow.{task}-0a1b2c",
            flow_run=self.run,
            upstream=ids[at - 1 : at] if at % len(_TASKS) else [],
            resources={"cpus": 4, "memory": 4 << 30, "walltime": 3600},
            tags=[],
            map_index=at,
        )
        yield self._state("task", id_, "PENDING", "InfrastructurePending", 0)
        yield self._state("task", id_, "RUNNING", "Running", 1, details={"node": f"c{at % 40}"})
        message = f"working on item {at} of many"
        whose = {"task_run": id_, "flow_run": self.run}
        yield self._line("log", level="INFO", message=message, logger="census", **whose)
        if failed:
            told = {"message": "ValueError: no such item"}
            yield self._state("task", id_, "FAILED", "Failed", 1, **told)
        else:
            result = {"inline": "gAWVBA==", "mac": "ab" * 32}
            yield self._state("task", id_, "COMPLETED", "Completed", 1, result=result)

    def _state(
        self, subject: str, id_: str, type_: str, name: str, attempt: int, **more: Any
    ) -> bytes:
        facts = {"subject": subject, "id": id_, "type": type_, "name": name, "attempt": attempt}
        return self._line("state", **facts, **more)

    def _line(self, kind: str, **data: Any) -> bytes:
        self._wall += self._chance.random() * 0.02
        at = f'{next(self._seq)},"wall":{self._wall:.6f},"mono":{self._wall - 1.79e9:.6f}'
        return seal(f'{self._header}{at},"kind":"{kind}","data":{encode(data)}}}'.encode())


def add_user(database: Database, name: str) -> int:
    """Make a user and return the id."""
    with database.writing() as connection:
        row = {"name": name, "is_admin": False, "created": time.time()}
        return int(connection.execute(insert(users).values(row)).inserted_primary_key[0])


def fill(database: Database, task_runs: int, largest: int) -> str:
    """Fill a database: one large run, which is taken, and copies of a smaller one.

    Args:
        database: with tables, and empty.
        task_runs: how many in all, about.
        largest: how many the large run has.

    Returns:
        The id of the large run.
    """
    owner = add_user(database, "ada")
    ingest = Ingest(database)
    big = str(uuid.UUID(int=1))
    for story in (Story(_TEMPLATE, EACH), Story(big, largest, seed=2)):
        ingest.register(story.run, {"created": 1_790_000_000.0}, owner, None)
        for batch in story.batches():
            ingest.take(story.run, batch, owner)
    _copy(database, max(0, (task_runs - largest) // EACH - 1))
    return big


def _copy(database: Database, times: int) -> None:
    with database.writing() as connection:
        key = connection.scalar(select(m.runs.c.pk).where(m.runs.c.id == _TEMPLATE))
        for table in m.metadata.sorted_tables:
            if table is m.runs or "run_pk" in table.c or table is m.task_run_facts:
                connection.execute(text(_copying(table)), {"key": key, "times": times})
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))


def _copying(table: Any) -> str:
    """Return the statement that copies the rows of a run, with other keys, ids and times."""
    names = [column.name for column in table.c]
    mine = "pk = :key" if table is m.runs else "run_pk = :key"
    if table is m.task_run_facts:
        mine = "pk >= :key * 4294967296 AND pk < (:key + 1) * 4294967296"
    taken = ", ".join(_copied(table, name) for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    series = "n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :times)"
    where = f"{mine} AND :times > 0"
    return (
        f'INSERT INTO "{table.name}" ({listed}) WITH RECURSIVE {series} '  # noqa: S608 - our names
        f'SELECT {taken} FROM n CROSS JOIN "{table.name}" AS t WHERE {where}'
    )


def _copied(table: Any, name: str) -> str:
    shift = "(100 + CAST(i AS BIGINT))"
    if name == "run_pk" or (table is m.runs and name == "pk"):
        return f't."{name}" + {shift}'
    if name == "pk":
        return f't."pk" + {shift} * 4294967296'
    if name in _OTHER_IDS:
        return f"CASE WHEN t.\"{name}\" = '' THEN '' ELSE t.\"{name}\" || '-' || i END"
    if isinstance(table.c[name].type, Double) and name != "changed":
        return f't."{name}" + i * 60.0'
    return f't."{name}"'
