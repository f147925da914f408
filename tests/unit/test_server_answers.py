"""Answers that are kept: for one version of a run, within bounds, for those who may ask."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from server_data import line
from server_site import RUN, make_site

from hpc_flows.journal.event import Event
from hpc_flows.server.answers import Answers, Made
from hpc_flows.server.problems import encode
from hpc_flows.server.queries.timelines import TimelineFilter, holds_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Counted:
    """Makes answers, and knows how often."""

    def __init__(self, value: Any = "x", seconds: float | None = None) -> None:
        self.times, self._made = 0, Made(value, seconds)

    def __call__(self) -> Made:
        self.times += 1
        return self._made


def test_an_answer_is_computed_once_for_each_version() -> None:
    answers, make = Answers(), Counted({"a": 1})
    assert answers.of("k", 1, make) == answers.of("k", 1, make) == b'{"a":1}'
    assert make.times == 1
    answers.of("k", 2, make)
    answers.of("other", 2, make)
    assert make.times == 3
    assert answers.facts()["hits"] == 1


def test_whoever_has_seen_less_does_not_replace_what_is_newer() -> None:
    answers, make = Answers(), Counted()
    answers.of("k", 5, make)
    answers.of("k", 4, make)
    answers.of("k", 5, make)
    assert make.times == 2


def test_what_grows_with_time_is_kept_for_its_seconds() -> None:
    answers, over, long = Answers(), Counted(seconds=0.0), Counted(seconds=1e6)
    for _ in range(2):
        answers.of("over", 1, over)
        answers.of("long", 1, long)
    assert (over.times, long.times) == (2, 1)


def test_the_memory_is_bounded_and_the_longest_unasked_goes_first() -> None:
    answers = Answers(40_000)
    kept, other = Counted("k" * 5000), Counted("o" * 5000)
    for at in range(20):
        answers.of("kept", 1, kept)
        answers.of(at, 1, other)
        assert answers.facts()["bytes"] <= 40_000
    assert (kept.times, other.times) == (1, 20)
    answers.of(0, 1, other)
    assert other.times == 21


def test_an_answer_that_would_push_out_all_others_is_not_kept() -> None:
    answers, make = Answers(40_000), Counted("x" * 20_000)
    for _ in range(2):
        answers.of("k", 1, make)
    assert make.times == 2
    assert answers.facts()["bytes"] == 0


def test_a_failure_is_told_and_not_kept() -> None:
    answers = Answers()

    def fail() -> Made:
        raise ValueError("no such limit")

    with pytest.raises(ValueError, match="no such limit"):
        answers.of("k", 1, fail)
    assert answers.of("k", 1, Counted("well")) == b'"well"'


def _at_once(work: Callable[[], None], times: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_those_who_ask_at_once_cost_what_one_does() -> None:
    answers, make = Answers(), Counted("x")
    together = threading.Barrier(6)

    def ask() -> None:
        together.wait()
        assert answers.of("k", 1, make) == b'"x"'

    _at_once(ask, 6)
    assert make.times == 1


def test_threads_that_ask_for_everything_leave_the_sums_right() -> None:
    answers = Answers(20_000)

    def ask() -> None:
        for at in range(300):
            made = Made(f"{at % 17}" * 1000)
            assert answers.of(at % 17, at // 50, partial(Made, *made)) == encode(made.value)

    _at_once(ask, 4)
    facts = answers.facts()
    assert 0 < facts["bytes"] <= facts["most_bytes"]
    assert facts["hits"] + facts["misses"] == 1200


def _state(seq: int, name: str, wall: float) -> Event:
    data = {"subject": "task", "id": "late", "type": name.upper(), "name": name, "attempt": 1}
    return Event(RUN, "late", seq, wall, 0.0, "state", data)


def test_a_timeline_is_asked_of_the_database_once_and_never_for_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(tmp_path)
    site.report("ann", tmp_path / "home")
    make, path = Counted(), f"/flow-runs/{RUN}/timeline?limit=1"
    from hpc_flows.server.queries import timelines

    def counted(*given: Any, real: Any = timelines.timeline) -> Any:
        make()
        return real(*given)

    monkeypatch.setattr(timelines, "timeline", counted)
    ended = f"{path}&to=1e12"
    first = site.ask("ann", "GET", ended)
    assert first.json()["mode"] == "bins"
    assert site.ask("root", "GET", ended).json() == first.json()
    assert make.times == 1
    assert site.ask("ben", "GET", ended).status_code == 404
    facts = {"id": "late", "name": "l", "task": "new", "flow_run": RUN}
    begun = Event(RUN, "late", 1, 1e9, 0.0, "task-run", facts)
    site.send("ann", RUN, line(begun) + line(_state(2, "Running", 1e9)))
    tasks = {each["task"] for each in site.ask("ann", "GET", ended).json()["tasks"]}
    assert "new" in tasks
    graph = f"/flow-runs/{RUN}/graph"
    before = site.ask("ann", "GET", graph).json()
    assert site.ask("ann", "GET", f"{graph}?open=new").json() != before
    assert site.ask("ann", "GET", graph).json() == before
    assert site.ask("ben", "GET", graph).status_code == 404
    assert site.ask("ann", "GET", f"{graph}?" + "&open=x" * 30).status_code == 422
    site.close()


def test_only_the_timeline_of_what_goes_on_follows_the_clock() -> None:
    done = {"mode": "rows", "begin": 0.0, "end": 1.0, "rows": [{"ended": 1.0}]}
    open_ = {"mode": "rows", "begin": 0.0, "end": 480.0, "rows": [{"ended": None}]}
    stages = {"waiting": [1, 0], "queued": [0, 0], "running": [0, 1], "ended": [0, 1]}
    binned = {"mode": "bins", "begin": 0.0, "end": 1e9, "tasks": [stages]}
    assert holds_for(done, TimelineFilter()) is None
    assert holds_for(open_, TimelineFilter()) == 2.0
    assert holds_for(open_, TimelineFilter(end=5.0)) is None
    assert holds_for(binned, TimelineFilter()) == 5.0
