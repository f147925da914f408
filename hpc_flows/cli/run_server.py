"""Flow runs as a server tells of them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpc_flows.cli.run_tables import listed
from hpc_flows.client import ServerRefusal
from hpc_flows.exceptions import UnknownRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.cli.run_journals import Journals
    from hpc_flows.cli.run_source import Row
    from hpc_flows.client import Api

_NOT_FOUND = 404
_FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})

#: Rows that are looked through for the beginning of an id.
_LOOKED_THROUGH = 500
_SHORTEST, _WHOLE = 4, 36

#: Seconds after which a driver that has not been heard counts as silent: its relay speaks every
#: second.
SILENT = 30.0

#: Seconds between two questions about what is followed.
_PERIOD = 1.0


class Server:
    """The runs that a server shows us.

    Args:
        api: asks it.
        url: where it is.
        journals: this home's, for runs that the server has not heard of.
    """

    def __init__(self, api: Api, url: str, journals: Journals) -> None:
        self.api: Api | None = api
        self._api = api
        self.place = f"the server {url}"
        self.home: str | None = None
        self.journals = journals

    def flow_runs(self, *, state: str | None, flow: str | None, limit: int) -> list[Row]:
        """Return runs that are no subflow's, the newest first; 0 sets no limit."""
        found: list[Row] = []
        filters = {"state": None if state is None else state.upper(), "flow": flow}
        for row in self._api.every("/flow-runs", parent="root", sort="-created", **filters):
            found.append(listed(with_driver(row)))
            if limit and len(found) == limit:
                break
        return found

    def flow_run(self, wanted: str) -> Row:
        """Return a flow run by its id, or one that is no subflow's by its name."""
        with _unknown(f"There is no flow run {wanted!r} on {self.place}."):
            return with_driver(dict(self._api.flow_run(self._id_of(wanted))))

    def named(self, wanted: str) -> Row:
        """Return a flow run by its name or id, as `flow_run` does."""
        return self.flow_run(wanted)

    def _id_of(self, wanted: str) -> str:
        if len(wanted) == _WHOLE:
            return wanted
        filters: dict[str, Any] = {"parent": "root", "sort": "-created", "limit": _LOOKED_THROUGH}
        if wanted == "latest":
            rows = self._api.flow_runs(**filters | {"limit": 1})["items"]
        else:
            named = self._api.flow_runs(**filters, name=wanted)["items"]
            rows = [row for row in named if row["name"] == wanted][:1]
        if not rows and len(wanted) >= _SHORTEST:
            every = self._api.flow_runs(**filters)["items"]
            rows = [row for row in every if row["id"].startswith(wanted)]
        if len(rows) == 1:
            return str(rows[0]["id"])
        if rows:
            raise UnknownRun(f"{wanted!r} is the beginning of {len(rows)} ids. Give more of it.")
        raise UnknownRun(f"There is no flow run {wanted!r} on {self.place}.")

    def task_runs(
        self, flow_run: Row, *, task: str | None, state: str | None, limit: int
    ) -> tuple[list[Row], int]:
        """Return the first task runs of a flow run, and how many there are."""
        filters = {
            "flow_run": flow_run["id"],
            "task": task,
            "state": None if state is None else state.upper(),
            "sort": "created",
        }
        found: list[Row] = []
        for row in self._api.every("/task-runs", **filters):
            found.append(row)
            if limit and len(found) == limit:
                break
        total = self._api.task_runs(**filters, limit=1)["total"] if limit else None
        return found, len(found) if total is None else total

    def task_run(self, wanted: str, flow_run: str | None) -> Row:
        """Return a task run with its history."""
        missing = f"There is no task run {wanted!r} on {self.place}."
        with _unknown(missing):
            if flow_run is None:
                return dict(self._api.task_run(wanted))
            rows = [
                row
                for row in self._api.every("/task-runs", flow_run=self._id_of(flow_run))
                if wanted in (row["id"], row["name"]) or row["id"].startswith(wanted)
            ]
            exact = [row for row in rows if wanted in (row["id"], row["name"])] or rows
            if len(exact) != 1:
                raise UnknownRun(
                    f"{len(exact)} task runs of {flow_run} are called {wanted!r}. Give the id."
                )
            return dict(self._api.task_run(exact[0]["id"]))

    def logs(self, row: Row, *, level: int, task_run: bool) -> Iterator[Row]:
        """Give log records in the order of their times."""
        for record in self._api.all_logs(
            **self._whose(row, task_run=task_run), level=level or None
        ):
            yield _record(dict(record))

    def follow(self, row: Row, *, level: int, task_run: bool) -> Iterator[Row | None]:
        """Give log records as they come until the run has ended; None while there is none."""
        whose = {**self._whose(row, task_run=task_run), "level": level or None}
        arrived = self._api.logs(**whose, limit=1)["arrived"]
        shown = set()
        for record in self._api.all_logs(**whose):
            if int(record["id"]) > int(arrived):  # came meanwhile, and will come again
                shown.add(record["id"])
            yield _record(dict(record))
        while True:
            last = self.flow_run(row["flow_run"] if task_run else row["id"])["state_type"] in _FINAL
            # Not by their times: what nodes have written comes after what was written later.
            more: str | None = arrived
            while more:
                page = self._api.logs(**whose, arrived=arrived, limit=500)
                for record in page["items"]:
                    if record["id"] not in shown:
                        yield _record(dict(record))
                arrived, more = page["arrived"], page["next"]
            if last:
                return
            yield None
            time.sleep(_PERIOD)

    @staticmethod
    def _whose(row: Row, *, task_run: bool) -> dict[str, str]:
        if task_run:
            return {"task_run": row["id"]}
        return {"run": row["id"]} if row["id"] == row["run"] else {"flow_run": row["id"]}


def _record(record: Row) -> Row:
    record.pop("cursor", None)
    return record


def with_driver(row: Row) -> Row:
    """Add to a flow run what is known of its driver; None for a run that has ended."""
    heard = row.get("heard")
    word = None
    if row.get("state_type") not in _FINAL:
        recent = heard is not None and time.time() - heard < SILENT
        word = "alive" if recent else "silent"
    return {**row, "driver": word}


@contextmanager
def _unknown(message: str) -> Iterator[None]:
    """Make an UnknownRun of the server's answer that there is no such thing."""
    try:
        yield
    except ServerRefusal as error:
        if error.status != _NOT_FOUND:
            raise
        raise UnknownRun(message) from None
