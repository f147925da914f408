"""Relays, and the commands that people give through them to the drivers of runs.

A command goes from `queued` over `sent` (a relay has fetched it) to `delivered`, `refused` or
`failed`, as the relay says. Nobody claims that a run was cancelled before its journal says so.
"""

from __future__ import annotations

import json
import threading
from time import monotonic, time
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from sqlalchemy import delete, insert, or_, select, update

from hpc_flows.server.db.models import runs
from hpc_flows.server.db.people import commands, relays
from hpc_flows.server.problems import Problem, missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from hpc_flows.server.db.opening import Database
    from hpc_flows.server.ingest import Ingest

ACTIONS = ("cancel", "pause", "resume")
QUEUED, SENT = "queued", "sent"
SETTLED = ("delivered", "refused", "failed")
#: Seconds after which a command that was fetched and never answered is sent again: the relay was
#: killed in between. Relays know a command's id, so that twice does no harm.
SENT_AGAIN = 10.0
#: Seconds between two writes of the same news of a relay, which sends one a second.
NOTED = 3.0
#: Seconds after which a relay that is not heard of is forgotten here.
_FORGOTTEN = 3600.0
#: Seconds of silence after which a driver's relay counts as not reachable.
SILENT = 30.0


class Beat(NamedTuple):
    """What a relay says of itself.

    Attributes:
        relay: its id.
        about: `mode`, `host`, `pid`, `version`.
        clock: its time when it spoke.
        runs: ids of the living runs that it reports of.
        clusters: surveys by cluster.
    """

    relay: str
    about: Mapping[str, Any]
    clock: float | None
    runs: Sequence[str]
    clusters: Mapping[str, Any]


class Relays:
    """The relays that speak to this server."""

    def __init__(self, database: Database, ingest: Ingest) -> None:
        self._database = database
        self._ingest = ingest
        self._noted: dict[tuple[int, str], tuple[float, tuple[str, ...], float | None]] = {}
        self._lock = threading.Lock()

    def hear(self, user: int, beat: Beat) -> list[dict[str, Any]]:
        """Take a relay's heartbeat of a user, and return the commands for it.

        Raises:
            Problem: the relay is somebody else's.
        """
        now = time()
        skew = None if beat.clock is None else beat.clock - now
        if self._is_news(user, beat):
            self._note(user, beat, now, skew)
        with self._database.reading() as connection:
            waiting = _waiting(connection, user, beat.runs, now)
        if waiting:
            with self._database.writing() as connection:
                ids = [each["id"] for each in waiting]
                chosen = commands.c.id.in_(ids) & commands.c.settled.is_(None)
                connection.execute(update(commands).where(chosen).values(status=SENT, sent=now))
        return waiting

    def _is_news(self, user: int, beat: Beat) -> bool:
        """Tell whether a heartbeat has to be written down: not each of the one a second."""
        surveyed = [each.get("time") for each in beat.clusters.values() if isinstance(each, dict)]
        newest = max((t for t in surveyed if isinstance(t, int | float)), default=None)
        key, said, moment = (user, beat.relay), tuple(beat.runs), monotonic()
        with self._lock:
            then, runs_then, survey_then = self._noted.get(key, (0.0, (), None))
            same = runs_then == said and survey_then == newest
            if same and key in self._noted and moment - then < NOTED:
                return False
            self._noted[key] = (moment, said, newest)
            for old in [k for k, noted in self._noted.items() if moment - noted[0] > _FORGOTTEN]:
                del self._noted[old]
            return True

    def _note(self, user: int, beat: Beat, now: float, skew: float | None) -> None:
        row = {
            **{key: beat.about.get(key) for key in ("mode", "host", "pid", "version")},
            "user_id": user,
            "skew": skew,
            "heard": now,
            "runs": json.dumps(list(beat.runs)),
        }
        with self._database.writing() as connection:
            known = connection.scalar(select(relays.c.user_id).where(relays.c.id == beat.relay))
            if known is None:
                connection.execute(insert(relays).values(id=beat.relay, **row))
            elif known == user:
                connection.execute(update(relays).where(relays.c.id == beat.relay).values(row))
            else:
                raise missing("There is no relay of that id of yours.")
            connection.execute(delete(relays).where(relays.c.heard < now - 7 * 86400))
        self._ingest.hear(user, list(beat.runs), dict(beat.clusters), now, skew)


def _waiting(
    connection: Connection, user: int, of_runs: Sequence[str], now: float
) -> list[dict[str, Any]]:
    """Return the commands that the driver of a living run of the user has not answered."""
    if not of_runs:
        return []
    fresh = or_(
        commands.c.status == QUEUED,
        (commands.c.status == SENT) & (commands.c.sent < now - SENT_AGAIN),
    )
    wanted = (
        select(commands)
        .join(runs, runs.c.id == commands.c.run)
        .where(runs.c.owner_id == user, commands.c.run.in_(of_runs), fresh)
        .order_by(commands.c.created)
    )
    return [
        {
            "id": row.id,
            "run": row.run,
            "action": row.action,
            "reason": row.reason,
            "by": row.by,
        }
        for row in connection.execute(wanted)
    ]


class Order(NamedTuple):
    """What somebody wants of a run.

    Attributes:
        run: the root run.
        flow_run: the flow run on whose page it was asked.
        action: `cancel`, `pause` or `resume`.
        reason: why, in the words of who asks.
        by: who asks.
    """

    run: str
    flow_run: str
    action: str
    reason: str
    by: str


def give(connection: Connection, order: Order) -> dict[str, Any]:
    """Queue a command for the driver of a run, and say honestly what may become of it.

    Raises:
        Problem: the run has ended.
    """
    row = connection.execute(select(runs).where(runs.c.id == order.run)).one()
    if row.ended is not None:
        message = f"{row.name or order.run} has ended already; there is nothing to {order.action}."
        raise Problem(409, "ended", message)
    id_ = uuid4().hex
    values = {**order._asdict(), "id": id_, "created": time(), "status": QUEUED}
    connection.execute(insert(commands).values(values))
    heard = None if row.heard is None else max(0.0, time() - row.heard)
    return {"id": id_, "status": QUEUED, "heard": heard, "message": _prospect(order.action, heard)}


def _prospect(action: str, heard: float | None) -> str:
    if heard is None:
        return (
            f"Nothing was ever heard of the driver beside its journal. It is told to {action} "
            f"once a relay of it calls."
        )
    if heard > SILENT:
        return (
            f"The driver was heard {heard:.0f} s ago and may be gone. It is told to {action} when "
            f"its relay calls again. On its machine: hpc-flows runs cancel --force cancels the "
            f"jobs of a driver that is gone."
        )
    return f"The driver is told to {action} within a few seconds."


def settle(connection: Connection, run: str, id_: str, status: str, message: str) -> None:
    """Note what became of a command; what a relay said first stands.

    Raises:
        Problem: there is no such command of that run.
    """
    chosen = (commands.c.id == id_) & (commands.c.run == run)
    values = {"status": status, "message": message, "settled": time()}
    open_ = chosen & commands.c.settled.is_(None)
    if connection.execute(update(commands).where(open_).values(values)).rowcount:
        return
    if connection.scalar(select(commands.c.id).where(chosen)) is None:
        raise missing("There is no such command of this run.")


def command(connection: Connection, id_: str) -> dict[str, Any] | None:
    """Return a command, or None."""
    row = connection.execute(select(commands).where(commands.c.id == id_)).one_or_none()
    return None if row is None else dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way
