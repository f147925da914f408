"""A time limit that is reached just as its call ends strikes nothing that comes after the call."""

from __future__ import annotations

import asyncio
import signal
import time
from threading import get_ident
from typing import Any

import pytest

from hpc_flows.engine import timeouts
from hpc_flows.engine.timeouts import DeadlineReached, await_within, call_within

ALARM = {signal.SIGALRM}


@pytest.fixture(autouse=True)
def _alarm_is_heard_again() -> Any:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALARM)
    assert signal.getsignal(signal.SIGALRM) is before


def _alarm_main() -> str:
    """Send this thread an alarm; another one, left by some test, would take the timer's for it."""
    signal.pthread_kill(get_ident(), signal.SIGALRM)
    return "value"


def _until_the_alarm_is_due() -> str:
    """Return once the alarm has been sent, and not heard."""
    while signal.SIGALRM not in signal.sigpending():
        time.sleep(0.001)
    return "value"


def test_an_alarm_that_comes_when_the_call_has_ended_does_not_stop_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_timer = signal.setitimer

    def hearing(which: int, seconds: float, again: float = 0.0) -> tuple[float, float]:
        if not seconds:  # the call has ended
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ALARM)
        return set_timer(which, seconds, again)

    def work() -> str:
        signal.pthread_sigmask(signal.SIG_BLOCK, ALARM)
        return _alarm_main()

    monkeypatch.setattr(signal, "setitimer", hearing)
    assert call_within(60.0, work, (), {}) == "value"


def test_an_alarm_that_comes_before_the_call_has_begun_is_its_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_timer = signal.setitimer

    def slowly(which: int, seconds: float, again: float = 0.0) -> tuple[float, float]:
        left = set_timer(which, seconds, again)
        if seconds:
            signal.sigtimedwait(set(), 0.1)  # returns once the alarm has been heard
        return left

    monkeypatch.setattr(signal, "setitimer", slowly)
    with pytest.raises(DeadlineReached):
        call_within(0.001, _until_the_alarm_is_due, (), {})


def test_an_alarm_that_comes_when_a_coroutine_has_ended_does_not_cancel_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave, set_timer = asyncio.Timeout.__aexit__, signal.setitimer

    def due(which: int, seconds: float, again: float = 0.0) -> tuple[float, float]:
        return set_timer(which, 0 if 0 < seconds < 1 else seconds, again)

    async def hearing(limit: asyncio.Timeout, *error: Any) -> bool | None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALARM)
        return await leave(limit, *error)

    async def work() -> str:
        time.sleep(0.1)  # noqa: ASYNC251 - computes on beyond its deadline
        return _alarm_main()

    async def main() -> list[Any]:
        signal.pthread_sigmask(signal.SIG_BLOCK, ALARM)
        value = await await_within(0.001, work())
        return [value, await asyncio.sleep(0.01, "not cancelled")]

    monkeypatch.setattr(signal, "setitimer", due)
    monkeypatch.setattr(asyncio.Timeout, "__aexit__", hearing)
    assert asyncio.run(main()) == ["value", "not cancelled"]


def test_an_alarm_that_was_not_heard_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    set_timer = signal.setitimer

    def unheard(which: int, seconds: float, again: float = 0.0) -> tuple[float, float]:
        return set_timer(which, again, again)

    monkeypatch.setattr(timeouts, "_AGAIN", 0.01)
    monkeypatch.setattr(signal, "setitimer", unheard)
    with pytest.raises(DeadlineReached):
        call_within(60.0, _until_the_alarm_is_due, (), {})


def test_an_alarm_that_was_heard_does_not_strike_what_the_call_does_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = []

    def work() -> None:
        try:
            time.sleep(150)
        finally:
            time.sleep(0.1)
            ended.append("in order")

    monkeypatch.setattr(timeouts, "_AGAIN", 0.01)
    with pytest.raises(DeadlineReached):
        call_within(0.01, work, (), {})
    assert ended == ["in order"]


@pytest.fixture
def timer() -> Any:
    """Take the timer of this process for the test, and put back whose it was."""
    before, handler = signal.setitimer(signal.ITIMER_REAL, 0), signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *before)


@pytest.mark.usefixtures("timer")
@pytest.mark.parametrize("again", [0.0, 300.0])
def test_a_timer_of_somebody_else_is_given_back_as_it_was(again: float) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    signal.setitimer(signal.ITIMER_REAL, 500.0, again)
    call_within(60.0, lambda: None, (), {})
    assert signal.getitimer(signal.ITIMER_REAL) == (pytest.approx(500.0, abs=499.0), again)
    asyncio.run(await_within(60.0, work()))
    assert signal.getitimer(signal.ITIMER_REAL) == (pytest.approx(500.0, abs=499.0), again)
