"""What a Prefect server was told before by somebody who has forgotten it.

The server knows events again by their ids, but not log records and artifacts. Where it had a flow
run that nothing here remembers, it is asked which of these it has.
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from hpc_flows.reporting.prefect.server import NotThere, PrefectServer, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.reporting.prefect.memory import RunMemory

#: Most rows that the server gives at once.
_PAGE = 200


class Replays:
    """Knows what of a run is there already.

    Args:
        server: is asked.
        memory: of the run.

    Attributes:
        doubtful: whether something may be there that is not remembered; else nothing is asked.
        is_missing: the same of what was sent last, to which no answer came.
    """

    def __init__(self, server: PrefectServer, memory: RunMemory) -> None:
        self._server, self._memory = server, memory
        self._artifacts: dict[str, tuple[str, float]] | None = None
        self.doubtful = self.is_missing = False

    def missed_an_answer(self) -> None:
        """Note that the server may have taken something without that this was heard."""
        self.is_missing, self._artifacts = True, None

    def unsent_logs(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those of some log records that the server does not have."""
        if not (self.doubtful or self.is_missing) or not bodies:
            return bodies
        times = [body["timestamp"] for body in bodies]
        window = {"after_": min(times), "before_": max(times)}
        wanted = {**self._ours(), "timestamp": window}
        there = {_known(row) for row in self._rows("/logs/filter", {"logs": wanted})}
        return [body for body in bodies if _known(body) not in there]

    def artifact(self, ours: str) -> tuple[str, float] | None:
        """Return the server's id of an artifact, and when it was changed, if it has it."""
        if not (self.doubtful or self.is_missing):
            return None
        if self._artifacts is None:
            rows = self._rows("/artifacts/filter", {"artifacts": self._ours()})
            self._artifacts = dict(map(_named, rows))
        return self._artifacts.get(ours)

    def _ours(self) -> dict[str, Any]:
        """Return the filter for what belongs to the run."""
        there = [flow.there for flow in self._memory.flows.values() if flow.there]
        if there:
            return {"flow_run_id": {"any_": there}}
        return {"task_run_id": {"any_": [record.id for record in self._memory.tasks.values()]}}

    def task_run_is_there(self) -> bool:
        """Tell whether the server has a task run of ours: for those outside of any flow."""
        for record in islice(self._memory.tasks.values(), 1):
            try:
                self._server.get(f"/task_runs/{record.id}")
            except NotThere:
                continue
            return True
        return False

    def _rows(self, path: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            try:
                body = {**wanted, "limit": _PAGE, "offset": offset}
                _, rows = self._server.post(path, body)
            except Rejected:  # a server that does not filter so: what is sent may then be there
                return
            yield from rows
            offset += _PAGE
            if len(rows) < _PAGE:
                return


def _known(row: dict[str, Any]) -> tuple[datetime, str, str]:
    """Return what a log record is known by."""
    moment = datetime.fromisoformat(str(row["timestamp"]))
    return moment, str(row["message"]), str(row.get("task_run_id"))


def _named(row: dict[str, Any]) -> tuple[str, tuple[str, float]]:
    """Return our id of an artifact, the server's, and when it was changed last."""
    told = row.get("metadata_") or {}
    try:
        age = float(told.get("hpc_flows.updated", "0"))
    except ValueError:  # somebody else's
        age = 0.0
    return str(told.get("hpc_flows.id")), (str(row["id"]), age)
