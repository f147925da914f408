"""A run that is watched: how far it is, as its journals or a server tell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from hpc_flows.cli.progress import Follower, by_task_of, goes_on
from hpc_flows.cli.run_journals import driver_word
from hpc_flows.cli.run_server import with_driver
from hpc_flows.cli.run_tables import record_line
from hpc_flows.cli.tally import Tally, standing_of
from hpc_flows.cli.timeline import Lane, draw_bins, draw_lanes, lane, lane_of_row
from hpc_flows.journal.index import summarise

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text

    from hpc_flows.cli.run_source import Row
    from hpc_flows.client import Api
    from hpc_flows.journal.event import Event

#: Seconds between two looks, at least and at most; between, four times what a look takes.
LEAST_REST, MOST_REST, REST = 0.25, 10.0, 4.0

#: Seconds for which journals are read, at least, before there is something to see, and events that
#: are read at a time.
FIRST_READ, AT_ONCE = 0.5, 5000

#: For how many times the time that showing took, at least, the rest of long journals is read.
_READ_SHARE = 3.0

#: Log records that are kept to scroll in.
KEPT = 500

#: Task runs that a server is asked for one by one; of more it gives curves.
_ROWS = 2000


class Watched(Protocol):
    """A run that is watched.

    Attributes:
        row: `name`, `flow`, `state_type`, `state_name`, `message`, `started`, `ended`, `driver`.
        counted: tallies by task.
        is_over: whether nothing comes any more.
        reading: which share was read of what was written before, from 0 to 1; None once that is
            all. Until then `counted` and the timeline are as of some time before.
    """

    row: Row
    counted: dict[str, Tally]
    is_over: bool
    reading: float | None

    def look(self) -> bool:
        """Learn what is new; tell whether anything is."""

    def timeline(self, width: int, *, unicode: bool) -> list[Text]:
        """Return the lines of the timeline as of the last look."""

    def records(self) -> list[str]:
        """Return the newest log records as lines."""


class LocalRun:
    """A run of this home, by its folder."""

    def __init__(self, folder: str) -> None:
        self.row: Row = {}
        self.counted: dict[str, Tally] = {}
        self.is_over = False
        self.reading: float | None = None
        self._folder = folder
        self._follower = Follower(folder)
        self._looked = time.monotonic()
        self._ended: dict[str, Lane] = {}

    def look(self) -> bool:
        """Read what was written since the last time, or a part of it where that is much."""
        about = summarise(self._folder)  # before the rest, so that nothing is missed at the end
        changed = self._read()
        before, self.row = self.row, {**about.to_dict(), "driver": driver_word(about)}
        self.is_over = self.reading is None and not goes_on(about)
        if changed or not self.counted:
            self.counted = by_task_of(self._follower.view)
        return changed or self.row != before

    def _read(self) -> bool:
        """Read, longer than it took to show what was read before; tell whether there was anything.

        So something is seen at once, and showing it makes reading it all a third longer at most.
        """
        began = time.monotonic()
        until = began + max(FIRST_READ, _READ_SHARE * (began - self._looked))
        changed = more = self._follower.catch_up(AT_ONCE)
        while more and time.monotonic() < until:
            more = self._follower.catch_up(AT_ONCE)
        self.reading = self._follower.share_read() if more else None
        self._looked = time.monotonic()
        return changed

    def timeline(self, width: int, *, unicode: bool) -> list[Text]:
        """Return the lines of the timeline as of the last look."""
        now = self.row.get("ended") or time.time()
        runs = self._follower.view.task_runs.values()
        lanes = [self._ended.get(run.id) or lane(run, now) for run in runs]
        for run, made in zip(runs, lanes, strict=True):
            if run.is_final:
                self._ended[run.id] = made
        return draw_lanes(lanes, width=width, unicode=unicode)

    def records(self) -> list[str]:
        """Return the newest log records as lines."""
        return [self._line(event) for event in self._follower.view.logs[-KEPT:]]

    def _line(self, event: Event) -> str:
        data = event.data
        run = self._follower.view.task_runs.get(str(data.get("task_run")))
        level = str(data.get("level", "INFO"))
        clock = time.strftime("%H:%M:%S", time.localtime(event.wall))
        whose = f"Task run '{run.name}' - " if run is not None else ""
        return f"{clock} | {level:<7} | {whose}{data.get('message', '')}"


class ServerRun:
    """A flow run of a server, by its id."""

    def __init__(self, api: Api, row: Row) -> None:
        self.row = row
        self.counted: dict[str, Tally] = {}
        self.is_over = False
        self.reading: float | None = None
        self._api = api
        self._version: Any = None
        self._draw: Callable[[int, bool], list[Text]] = lambda _width, _unicode: []
        self._records: list[str] = []
        self._after: str | None = None

    def look(self) -> bool:
        """Ask the server, and for the rest only when the run has changed."""
        before = self.row
        self.row = with_driver(dict(self._api.flow_run(self.row["id"])))
        self.is_over = self.row["driver"] is None
        if self.row["version"] == self._version:
            return bool(self.row["state_name"] != before["state_name"])
        self._version = self.row["version"]
        self.counted = _tallies(self._api.counts(self.row["id"]))
        self._take_timeline()
        self._take_records()
        return True

    def timeline(self, width: int, *, unicode: bool) -> list[Text]:
        """Return the lines of the timeline as of the last look."""
        return self._draw(width, unicode)

    def records(self) -> list[str]:
        """Return the newest log records as lines."""
        return self._records

    def _take_timeline(self) -> None:
        path = f"/flow-runs/{self.row['id']}/timeline"
        answer: Any = self._api.client.get(path, {"limit": _ROWS})
        if answer["mode"] == "bins":
            self._draw = lambda width, unicode: draw_bins(answer, width=width, unicode=unicode)
            return
        ended = self.row.get("ended")

        def drawn(width: int, unicode: bool) -> list[Text]:  # noqa: FBT001 - as `self._draw`
            now = ended or time.time()
            lanes = [lane_of_row(row, now) for row in answer["rows"]]
            return draw_lanes(lanes, width=width, unicode=unicode)

        self._draw = drawn

    def _take_records(self) -> None:
        whose = "run" if self.row["id"] == self.row["run"] else "flow_run"
        page: Any = self._api.logs(**{whose: self.row["id"]}, order="desc", limit=KEPT)
        self._records = [record_line(record) for record in reversed(page["items"])]


def _tallies(counts: Row) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for task in counts["tasks"]:
        counted = found[task["task"]] = Tally()
        for state in task["states"]:
            counted.add(standing_of(state["type"], state["name"]), state["count"])
        counted.waiting += max(task["total"] - counted.total, 0)  # those without a state yet
    return found


def rest_after(cost: float) -> float:
    """Return the seconds until the next look, after one that took so much processor time."""
    return min(MOST_REST, max(LEAST_REST, cost * REST))


def reading_words(share: float) -> str:
    """Return that only a share of the journal was read."""
    return f"reading its journal: {int(100 * share)} %"
