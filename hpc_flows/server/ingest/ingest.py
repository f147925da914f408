"""What relays may do with the database: register runs, send events and attachments, be heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.server.db.bulk import REPLACE, found, upsert_rows
from hpc_flows.server.db.models import gone, runs
from hpc_flows.server.db.opening import now
from hpc_flows.server.db.people import projects, surveys
from hpc_flows.server.db.texts import checked_id, dumps, seconds, short
from hpc_flows.server.ingest.batch import Batch
from hpc_flows.server.ingest.kept_texts import (
    LARGEST,
    Part,
    drop_parts,
    joined,
    keep_part,
    keep_text,
)
from hpc_flows.server.ingest.taking import Taken, finish, hear, read_lines, take_events_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from hpc_flows.server.db.opening import Database

#: What may be attached to a run, and by what it is found.
ATTACHMENTS = {"script": "token", "output": "task run", "artifact": "artifact"}

#: Characters of an attachment that comes as a whole.
LONGEST_ATTACHMENT = 1024 * 1024

#: Names that the server has for what belongs to no run.
_RESERVED = frozenset({"outside"})


class NoSuchRun(HpcFlowsError):
    """The run is not registered, or is another user's, which must look the same."""


class RunGone(HpcFlowsError):
    """The run was deleted here: its relay has nothing more to send."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A run that the server knows: its id, its project's name or None, whether it is new."""

    run: str
    project: str | None
    is_new: bool


class Ingest:
    """Takes what relays send into the database; threads may share it.

    Args:
        database: an open database with the tables of this version.
        hears: whether it is relays who speak, and not an import of what was long ago.
    """

    def __init__(self, database: Database, *, hears: bool = True) -> None:
        self._database = database
        self._hears = hears

    def register(
        self, run: str, about: Mapping[str, Any], owner_id: int, project_id: int | None
    ) -> Registered:
        """Let the server know of a run; the second time nothing changes.

        Args:
            run: its id.
            about: the object of run.json, with more facts from the relay.
            owner_id: whose it is.
            project_id: who else may see it, or None.

        Raises:
            ValueError: the id cannot be one.
            NoSuchRun: another user has a run of this id.
            RunGone: it was deleted here.
        """
        checked_id(run)
        try:
            return self._register(run, about, owner_id, project_id)
        except IntegrityError:  # another relay of the run was quicker
            return self._register(run, about, owner_id, project_id)

    def _register(
        self, run: str, about: Mapping[str, Any], owner_id: int, project_id: int | None
    ) -> Registered:
        with self._database.writing() as connection:
            known = self._row(connection, run, owner_id)
            if known is None:
                at = now()
                row = _about(run, about, owner_id, project_id, at)
                connection.execute(insert(runs), row | {"heard": at if self._hears else None})
            else:
                project_id = known.project_id
            name = select(projects.c.name).where(projects.c.id == project_id)
            return Registered(run, connection.scalar(name), known is None)

    def take(self, run: str, lines: bytes, owner_id: int) -> Taken:
        """Take lines of a run's journals, of any writers, in any order and any number of times.

        All their effects are in the database when this returns, or none of them. A line that is
        no event of the run is counted and changes nothing.

        Raises:
            NoSuchRun: it is not registered, or another user's.
            RunGone: it was deleted here.
        """
        read = read_lines(run, lines)
        with self._database.writing() as connection:
            row = self._known(connection, run, owner_id)
            batch = Batch(connection, run, row.pk, row.counter)
            taken, repeated, counts = take_events_of(batch, read)
            at = now()
            if taken:
                finish(batch, at)
            if self._hears:
                hear(batch, at)
            version = row.version + (1 if taken else 0)
        return Taken(run, version, taken, repeated, read.refused + batch.refused, counts)

    def attach(self, run: str, kind: str, key: str, content: str, owner_id: int) -> int:
        """Keep a text beside a run: a job's script, a task run's output, an artifact's data.

        Returns the version of the run after it.

        Raises:
            ValueError: the kind is unknown, the key cannot be one, or the text is too long.
            NoSuchRun: it is not registered, or another user's.
            OverQuota: the run's artifacts have no room for it.
            RunGone: it was deleted here.
        """
        if kind not in ATTACHMENTS:
            raise ValueError(f"{kind!r} is none of {', '.join(sorted(ATTACHMENTS))}")
        if len(content) > LONGEST_ATTACHMENT:
            raise ValueError(f"{len(content)} characters are more than {LONGEST_ATTACHMENT}")
        checked_id(key)
        with self._database.writing() as connection:
            row = self._known(connection, run, owner_id)
            keep_text(connection, row, kind, key, content)
            return int(row.version) + 1

    def attach_part(self, run: str, key: str, part: Part, owner_id: int) -> int:
        """Keep a part of a large artifact, which becomes the artifact's data when all are there.

        Returns the version of the run after it.

        Raises:
            ValueError: the key or the part cannot be one, or the whole is not what was announced.
            OverQuota: the run's artifacts have no room for it.
            NoSuchRun: the run is not registered, or another user's.
            RunGone: it was deleted here.
        """
        checked_id(key)
        part.check()
        with self._database.writing() as connection:
            row = self._known(connection, run, owner_id)
            if not keep_part(connection, row, key, part):
                return int(row.version)
        # Read outside of the transaction that others wait for: it takes tenths of a second.
        try:
            with self._database.reading() as connection:
                text = joined(connection, row.pk, key, part.digest)
        except ValueError:
            with self._database.writing() as connection:
                drop_parts(connection, row.pk, key)
            raise
        return self.attach_artifact(run, key, text, owner_id)

    def attach_artifact(self, run: str, key: str, text: str, owner_id: int) -> int:
        """Keep the data of an artifact, which may be large; see `attach`."""
        checked_id(key)
        if len(text) > LARGEST:
            raise ValueError(f"{len(text)} characters are more than the {LARGEST} of an artifact.")
        with self._database.writing() as connection:
            row = self._known(connection, run, owner_id)
            keep_text(connection, row, "artifact", key, text)
            return int(row.version) + 1

    def behind(
        self,
        counts: Mapping[str, Mapping[str, int]],
        owner_id: int,
        versions: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Compare what relays had been told that the server has with what it has.

        Args:
            counts: by run and writer, how many events the relay knows to be acknowledged.
            owner_id: whose runs they are.
            versions: by run, the version that the relay has been told last.

        Returns:
            `behind`: by run, the writers of which the server has fewer, or none where the run's
            version is older and so something else is missing; `unknown` and `gone`: runs.
        """
        asked = list(counts)
        told = versions or {}
        with self._database.reading() as connection:
            query = (
                "SELECT pk, id, version FROM runs WHERE removed IS NULL AND owner_id = %s "
                "AND id {among}"
            )
            rows = list(found(connection, query, (owner_id,), asked))
            keys = {id_: pk for pk, id_, _ in rows}
            query = "SELECT id FROM gone WHERE id {among}"
            deleted = {row[0] for row in found(connection, query, (), asked)}
            behind = {
                run: late
                for pk, run, version in rows
                if (late := _late(connection, pk, counts[run])) or version < told.get(run, 0)
            }
        return {
            "behind": behind,
            "unknown": [run for run in asked if run not in keys and run not in deleted],
            "gone": [run for run in asked if run in deleted],
        }

    def hear(
        self,
        owner_id: int,
        run_ids: Sequence[str],
        clusters: Mapping[str, Any],
        at: float,
        skew: float | None,
    ) -> None:
        """Take note that a relay has spoken: of which runs it reports, and of its clusters.

        Args:
            owner_id: whose relay it is.
            run_ids: the living runs that it reports of; others than the owner's are left out.
            clusters: what it says of clusters, by name.
            at: when it was heard.
            skew: seconds by which its clock is ahead, or None.
        """
        mine = runs.c.owner_id == owner_id
        rows = [
            (owner_id, short(name), seconds(_time(survey)) or at, dumps(survey))
            for name, survey in sorted(clusters.items())
        ]
        with self._database.writing() as connection:
            for run in sorted(set(run_ids)):
                heard = update(runs).where(mine, runs.c.id == run)
                connection.execute(heard.values(heard=at, skew=skew))
            upsert_rows(
                connection,
                surveys,
                ("user_id", "cluster", "heard", "survey"),
                rows,
                taking=(("heard", REPLACE), ("survey", REPLACE)),
            )

    def _known(self, connection: Connection, run: str, owner_id: int) -> Any:
        row = self._row(connection, run, owner_id)
        if row is None:
            raise NoSuchRun(f"There is no run {run!r:.200} here: register it first.")
        return row

    def _row(self, connection: Connection, run: str, owner_id: int) -> Any:
        """Return the row of a run, locked against other servers; None if there is none."""
        columns = (
            *(runs.c.pk, runs.c.owner_id, runs.c.project_id, runs.c.counter, runs.c.version),
            *(runs.c.removed, runs.c.artifact_bytes),
        )
        query = select(*columns).where(runs.c.id == run).with_for_update()
        row = connection.execute(query).one_or_none()
        if row is None or row.removed is not None:
            reason = connection.scalar(select(gone.c.reason).where(gone.c.id == run))
            if reason is not None:
                raise RunGone(f"The run {run} was deleted here ({reason}).")
        elif row.owner_id != owner_id:
            raise NoSuchRun(f"There is no run {run!r:.200} here: register it first.")
        return row


def _about(
    run: str, about: Mapping[str, Any], owner_id: int, project_id: int | None, at: float
) -> dict[str, Any]:
    return {
        "id": run,
        "owner_id": owner_id,
        "project_id": project_id,
        "name": short(about.get("name")),
        "flow": short(about.get("flow")),
        "created": seconds(about.get("created")) or at,
        "registered": at,
        "host": short(about.get("host")) or None,
        "about": dumps(dict(about)),
        "changed": at,
    }


def _time(survey: object) -> object:
    return survey.get("time") if isinstance(survey, dict) else None


def _late(connection: Connection, run_pk: int, counts: Mapping[str, int]) -> list[str]:
    query = "SELECT writer, held FROM writers WHERE run_pk = %s AND writer {among}"
    held = dict(iter(map(tuple, found(connection, query, (run_pk,), list(counts)))))
    return sorted(writer for writer, count in counts.items() if held.get(writer, 0) < count)
