"""The live stream: what changed, at most four times a second, to those who may see it."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_site import API, PATIENT, ServerSite, make_site

from hpc_flows.server import streaming
from hpc_flows.server.access import grants
from hpc_flows.server.access.rates import Rate
from hpc_flows.server.streaming import Changes, Hub, Viewer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path


class World:
    """Runs with owners, and the hub that tells of them."""

    def __init__(self, epoch: str = "e1") -> None:
        self.owners = {"r1": "ann", "r2": "ben"}
        self.version = 1
        self.asked = 0
        self.elsewhere: list[str] = []
        self.hub = Hub(epoch, self._versions, self._look)

    def _versions(self, who: str, runs: list[str]) -> dict[str, int]:
        self.asked += 1
        return {run: self.version for run in runs if self.owners.get(run) == who}

    def _look(self) -> list[str]:
        found, self.elsewhere = self.elsewhere, []
        return found

    def stream(self, who: str, run: str | None = None, last: str | None = None) -> Reader:
        async def viewer() -> Viewer | None:
            return Viewer(who, who, run)

        return Reader(self.hub.stream(viewer, last))


class Reader:
    """A page: reads events of a stream."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self.pieces = pieces
        self.last = ""

    async def next(self, seconds: float = 60.0) -> tuple[str, Any]:
        piece = await asyncio.wait_for(anext(self.pieces), seconds)
        lines = dict(line.split(": ", 1) for line in piece.decode().splitlines() if line)
        self.last = lines["id"]
        assert piece.endswith(b"\n\n")
        return lines["event"], json.loads(lines["data"])


def in_world(
    test: Callable[[World], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Run a test beside the hub's own loop."""

    def run() -> None:
        async def both() -> None:
            world = World()
            world.hub.begin()
            ticking = asyncio.create_task(world.hub.run())
            try:
                await test(world)
            finally:
                world.hub.close()
                await ticking

        asyncio.run(both())

    run.__name__ = test.__name__
    return run


@in_world
async def test_a_page_is_greeted_and_told_what_changed(world: World) -> None:
    page = world.stream("ann")
    event, data = await page.next()
    assert (event, data["epoch"]) == ("hello", "e1")
    world.hub.changes.add(["r1"])
    assert await page.next() == ("change", {"runs": {"r1": 1}})


@in_world
async def test_t15_nobody_is_told_of_runs_that_they_may_not_see(world: World) -> None:
    ann, ben = world.stream("ann"), world.stream("ben")
    await ann.next()
    await ben.next()
    world.hub.changes.add(["r2"])
    assert await ben.next() == ("change", {"runs": {"r2": 1}})
    world.hub.changes.add(["r1"])
    assert await ann.next() == ("change", {"runs": {"r1": 1}})


@in_world
async def test_a_page_of_one_run_is_told_of_that_run(world: World) -> None:
    world.owners["r3"] = "ann"
    page = world.stream("ann", run="r3")
    await page.next()
    world.hub.changes.add(["r1"])
    world.hub.changes.add(["r3"])
    assert await page.next() == ("change", {"runs": {"r3": 1}})


@in_world
async def test_a_thousand_changes_in_a_second_are_a_few_events(world: World) -> None:
    page = world.stream("ann")
    await page.next()

    async def storm() -> None:
        for _ in range(1000):
            world.hub.changes.add(["r1"])
            await asyncio.sleep(0.001)

    storming = asyncio.create_task(storm())
    loop, seen = asyncio.get_running_loop(), 0
    began = loop.time()
    while not storming.done():
        await page.next()
        seen += 1
    assert 1 <= seen <= 1 + (loop.time() - began) / streaming.PERIOD + 1


@in_world
async def test_pages_with_the_same_eyes_share_one_question(world: World) -> None:
    pages = [world.stream("ann") for _ in range(100)]
    await asyncio.gather(*(page.next() for page in pages))
    world.hub.changes.add(["r1"])
    told = await asyncio.gather(*(page.next() for page in pages))
    assert told == [("change", {"runs": {"r1": 1}})] * 100
    assert world.asked <= 3
    assert world.hub.open == 100


@in_world
async def test_a_page_that_comes_back_is_told_what_it_missed(world: World) -> None:
    page = world.stream("ann")
    await page.next()
    world.hub.changes.add(["r1"])
    await page.next()
    world.owners["r3"] = "ann"
    world.hub.changes.add(["r3"])
    again = world.stream("ann", last=page.last)
    await again.next()
    assert await again.next() == ("change", {"runs": {"r3": 1}})


@in_world
async def test_a_position_that_means_nothing_here_makes_the_page_load_again(world: World) -> None:
    for last in ("other:5", "e1:99", "e1:x", "e1:" + "9" * 400, "nonsense", "e1:-1", "e1:٣"):
        page = world.stream("ann", last=last)
        await page.next()
        assert await page.next() == ("change", {"runs": {}, "reload": True})


@in_world
async def test_what_other_processes_write_is_noticed(world: World) -> None:
    page = world.stream("ann")
    await page.next()
    world.elsewhere.append("r1")
    assert await page.next() == ("change", {"runs": {"r1": 1}})


@in_world
async def test_silence_is_broken_by_a_beat(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "BEAT", 0.1)
        patch.setattr(streaming, "RIGHTS", 0.05)
        page = world.stream("ann")
        await page.next()
        assert await page.next() == ("beat", {})


@in_world
async def test_t15_who_loses_the_right_is_told_nothing_more(world: World) -> None:
    may = [True]

    async def viewer() -> Viewer | None:
        return Viewer("ann", "ann") if may[0] else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "RIGHTS", 0.05)
        page = Reader(world.hub.stream(viewer, None))
        await page.next()
        may[0] = False
        with pytest.raises(StopAsyncIteration):
            await page.next()
    assert world.hub.open == 0


async def open_stream(site: ServerSite, who: str) -> None:
    """Have a stream of the application until that ends it."""
    head = [(b"host", b"localhost"), (b"authorization", f"Bearer {site.tokens[who]}".encode())]
    asked = {"method": "GET", "path": f"{API}/stream", "query_string": b"", "headers": head}
    from_here = {"type": "http", "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"}}

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200

    await site.app({**from_here, **asked}, receive, send)


def test_t2_a_stream_ends_with_its_token_and_not_because_others_ask_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Rate(1e-9, 1)
    site = make_site(tmp_path, limits=PATIENT._replace(reading=once, failures=once))
    monkeypatch.setattr(streaming, "RIGHTS", 0.01)
    again, looks, looked = site.service.access.again, [], threading.Event()

    def look(*given: Any) -> Any:
        looks.append(again(*given))
        if len(looks) > 2:
            looked.set()
        return looks[-1]

    monkeypatch.setattr(site.service.access, "again", look)
    wrong = {"authorization": "Bearer made-up"}

    async def watched() -> None:
        stream = asyncio.create_task(open_stream(site, "ann"))
        assert await asyncio.to_thread(looked.wait, 60)
        assert None not in looks  # though the token may ask nothing more for a long time
        await asyncio.to_thread(site.request, "GET", f"{API}/me", headers=wrong)
        with site.database.writing() as connection:
            grants.revoke(connection, site.tokens["ann"][5:17], None)
        await asyncio.wait_for(stream, 60)

    asyncio.run(watched())
    assert looks[-1] is None
    site.close()


@in_world
async def test_streams_end_when_the_server_does(world: World) -> None:
    pages = [world.stream("ann") for _ in range(3)]
    await asyncio.gather(*(page.next() for page in pages))
    waiting = [asyncio.create_task(page.next()) for page in pages]
    await asyncio.sleep(0.05)
    world.hub.close_soon()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, StopAsyncIteration) for each in ended)


@in_world
async def test_a_page_that_leaves_takes_no_answer_from_the_others(world: World) -> None:
    staying, leaving = world.stream("ann"), world.stream("ann")
    await staying.next()
    await leaving.next()
    waits = asyncio.create_task(leaving.next())
    stays = asyncio.create_task(staying.next())
    world.hub.changes.add(["r1"])
    await asyncio.sleep(streaming.PERIOD / 2)
    waits.cancel()
    assert await stays == ("change", {"runs": {"r1": 1}})


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.integers(0, 60))
def test_changes_after_a_number_are_exactly_those(runs: list[str], number: int) -> None:
    changes = Changes(remembered=100)
    for run in runs:
        changes.add([run])
    found = changes.since(number)
    if number > len(runs):
        assert found is None
    else:
        assert found is not None
        assert sorted(found) == sorted(set(runs[number:]))


def test_what_was_forgotten_is_not_taken_for_nothing() -> None:
    changes = Changes(remembered=2)
    changes.add(["a", "b", "c"])
    assert changes.since(0) is None
    assert changes.since(1) == ["c", "b"]
