"""The live stream: which runs have changed, told to every open page at most four times a second.

A page is told ids and versions, and asks for what it shows. What has changed comes from the
ingest of this process at once, and from the database every two seconds, because other processes
(`server import`, clean-up) write there too. Pages that look with the same eyes share one question
to the database, so that a hundred of them cost little more than one.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from time import monotonic, time
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.concurrency import run_in_threadpool

from hpc_flows.server.db.outage import is_outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable

#: Seconds between two events of one stream, and between two looks into the database.
PERIOD, LOOK = 0.25, 2.0
#: Seconds of silence after which a sign of life is sent; and until rights are looked at again.
BEAT, RIGHTS = 15.0, 5.0
_LONGEST_NUMBER = 16
#: Runs whose last change is remembered for pages that come back.
REMEMBERED = 10_000
#: Streams at once; each costs a connection and a task.
MOST_STREAMS = 1000


class Viewer(NamedTuple):
    """Who looks at a stream.

    Attributes:
        key: equal for all that may see the same.
        sight: what `versions` takes.
        run: the only run that is wanted, or None.
    """

    key: Hashable
    sight: Any
    run: str | None = None


class Changes:
    """The runs that have changed, each with the number of its last change."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._last: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._forgotten = 0
        self.number = 0

    def add(self, runs: Iterable[str]) -> None:
        """Note that runs have changed; called from any thread."""
        with self._lock:
            for run in runs:
                self.number += 1
                self._last[run] = self.number
                self._last.move_to_end(run)
            while len(self._last) > self._remembered:
                _, number = self._last.popitem(last=False)
                self._forgotten = number

    def since(self, number: int) -> list[str] | None:
        """Return the runs that changed after a number; None if that is not known any more."""
        with self._lock:
            if number < self._forgotten or number > self.number:
                return None
            found = []
            for run, changed in reversed(self._last.items()):
                if changed <= number:
                    break
                found.append(run)
            return found


class Hub:
    """Hands changes to the open streams."""

    def __init__(
        self,
        epoch: str,
        versions: Callable[[Any, list[str]], dict[str, int]],
        look: Callable[[], Iterable[str]],
    ) -> None:
        """Make a hub.

        Args:
            epoch: this start of the server; positions of another one mean nothing here.
            versions: given a sight and runs, the versions of those that may be seen.
            look: the runs that changed in the database since it was called last.
        """
        self.changes = Changes()
        self.open = 0
        self._epoch = epoch
        self._versions = versions
        self._look = look
        self._closed = asyncio.Event()
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shared: dict[Hashable, tuple[float, asyncio.Future[dict[str, int]]]] = {}

    def begin(self) -> None:
        """Remember the loop that all of this runs in."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """End all streams, so that the server can end."""
        self._closed.set()
        self._news.set()

    def close_soon(self) -> None:
        """Do the same from a signal handler or another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.close)

    async def run(self) -> None:
        """Wake the streams when something has changed, until the hub is closed."""
        told, looked = 0, 0.0
        while not await _happens(self._closed, PERIOD):
            if self.open and monotonic() - looked >= LOOK:
                looked = monotonic()
                self.changes.add(await self._looked())
            if self.changes.number != told:
                told = self.changes.number
                self._news.set()
                self._news = asyncio.Event()

    async def _looked(self) -> list[str]:
        """Return what other servers have changed; nothing while the database cannot be asked."""
        try:
            return list(await run_in_threadpool(self._look))
        except Exception as error:
            if not is_outage(error):
                raise
            return []

    async def stream(
        self, who: Callable[[], Awaitable[Viewer | None]], last_id: str | None
    ) -> AsyncIterator[bytes]:
        """Return the events of one stream, as they go over the wire.

        Args:
            who: asked again every few seconds, because rights change; None ends the stream.
            last_id: the position that a page which comes back has seen.
        """
        self.open += 1
        try:
            async for piece in self._events(who, last_id):
                yield piece
        finally:
            self.open -= 1

    async def _events(
        self, who: Callable[[], Awaitable[Viewer | None]], last_id: str | None
    ) -> AsyncIterator[bytes]:
        position, known = self._position(last_id)
        viewer = await who()
        asked = told = monotonic()
        yield event("hello", {"epoch": self._epoch, "time": time()}, self._id(position))
        if not known:
            yield event("change", {"runs": {}, "reload": True}, self._id(position))
        while viewer is not None and not self._closed.is_set():
            number = self.changes.number
            data = await self._seen(viewer, position, number)
            position = number
            if data is not None or monotonic() - told >= BEAT:
                yield event("beat" if data is None else "change", data or {}, self._id(number))
                told = monotonic()
            await _happens(self._news, RIGHTS)
            if monotonic() - asked >= RIGHTS:
                viewer, asked = await who(), monotonic()

    async def _seen(self, viewer: Viewer, position: int, number: int) -> dict[str, Any] | None:
        """Return what a viewer is told of the changes after a position; None for nothing."""
        if number == position:
            return None
        runs = self.changes.since(position)
        if runs is None:  # more runs changed in a moment than are remembered
            return {"runs": {}, "reload": True}
        if viewer.run is not None:
            runs = [run for run in runs if run == viewer.run]
        seen = await self._ask(viewer, runs, number) if runs else {}
        return {"runs": seen} if seen else None

    async def _ask(self, viewer: Viewer, runs: list[str], number: int) -> dict[str, int]:
        """Ask the database once for all that look with the same eyes at the same changes."""
        key = (viewer.key, tuple(runs), number)
        now = monotonic()
        if key not in self._shared:
            for old in [each for each, (then, _) in self._shared.items() if now - then > 1.0]:
                del self._shared[old]
            asking = run_in_threadpool(self._versions, viewer.sight, runs)
            self._shared[key] = (now, asyncio.ensure_future(asking))
        # A page that leaves in the meantime must not cancel the question of the others.
        return await asyncio.shield(self._shared[key][1])

    def _id(self, number: int) -> str:
        return f"{self._epoch}:{number}"

    def _position(self, last_id: str | None) -> tuple[int, bool]:
        """Return where to go on, and whether nothing was missed up to there."""
        if last_id is None:
            return self.changes.number, True
        epoch, _, number = last_id.rpartition(":")
        known = epoch == self._epoch and number.isdecimal() and len(number) < _LONGEST_NUMBER
        if not known or self.changes.since(int(number)) is None:
            return self.changes.number, False
        return int(number), True


async def _happens(what: asyncio.Event, seconds: float) -> bool:
    """Wait for something, and tell whether it came in time."""
    try:
        await asyncio.wait_for(what.wait(), seconds)
    except TimeoutError:
        return False
    return True


def event(name: str, data: Any, id_: str) -> bytes:
    """Return one server-sent event."""
    text = json.dumps(data, separators=(",", ":"))
    return f"id: {id_}\nevent: {name}\ndata: {text}\n\n".encode()
