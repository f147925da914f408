"""Times, durations and amounts of memory as Slurm reads and prints them."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNLIMITED = -1
_LIMIT = re.compile(r"^(?:(\d+)-(\d+)(?::(\d+))?(?::(\d+))?|(\d+)(?::(\d+))?(?::(\d+))?)$")
_MEMORY = re.compile(r"^(\d+)([KMGT]?)B?$", re.IGNORECASE)
_DAY = 86400
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": _DAY, "w": 7 * _DAY}
_ISO = re.compile(r"^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d))?)?$")
_US = re.compile(r"^(\d\d)/?(\d\d)(?:/?(\d\d))?(?:-(\d\d):(\d\d)(?::(\d\d))?)?$")
_CLOCK = re.compile(r"^(\d\d?):(\d\d)(?::(\d\d))?$")


def parse_limit(text: str) -> int | None:
    """Return minutes of a `--time` value, UNLIMITED, or None where it is none."""
    if text.upper() in {"UNLIMITED", "INFINITE"}:
        return UNLIMITED
    match = _LIMIT.match(text)
    if match is None:
        return None
    days, day_hours, day_minutes, day_seconds, first, second, third = (
        int(part) if part else None for part in match.groups()
    )
    if days is not None:
        seconds = days * _DAY + (day_hours or 0) * 3600
        seconds += (day_minutes or 0) * 60 + (day_seconds or 0)
    elif third is not None:
        seconds = (first or 0) * 3600 + (second or 0) * 60 + third
    else:
        seconds = (first or 0) * 60 + (second or 0)
    return -(-seconds // 60) or UNLIMITED


def parse_memory(text: str) -> int | None:
    """Return MiB of a `--mem` value, or None where it is none."""
    match = _MEMORY.match(text)
    if match is None:
        return None
    number, unit = int(match[1]), match[2].upper()
    if unit == "K":
        return -(-number // 1024)
    return number * {"": 1, "M": 1, "G": 1024, "T": 1024 * 1024}[unit]


def show_limit(minutes: int | None) -> str:
    """Return a time limit as scontrol prints it: `05:00:00`, `7-00:00:00`, `UNLIMITED`."""
    if minutes is None or minutes == UNLIMITED:
        return "UNLIMITED"
    return show_long(minutes * 60)


def show_long(seconds: float) -> str:
    """Return a duration as `00:10:00` or `1-00:00:00`."""
    days, rest = divmod(int(seconds), _DAY)
    text = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def show_short(seconds: float) -> str:
    """Return a duration as squeue prints it: `0:03`, `10:00`, `5:00:00`, `1-00:00:00`."""
    days, rest = divmod(int(seconds), _DAY)
    hours, minutes = divmod(rest // 60, 60)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{rest % 60:02}"
    if hours:
        return f"{hours}:{minutes:02}:{rest % 60:02}"
    return f"{minutes}:{rest % 60:02}"


def show_short_limit(minutes: int | None) -> str:
    """Return a time limit as squeue and sinfo print it."""
    if minutes is None or minutes == UNLIMITED:
        return "UNLIMITED"
    return show_short(minutes * 60)


def show_memory(mib: int) -> str:
    """Return memory as Slurm prints it: `1G` where it is whole, else `9000M`."""
    if mib and mib % (1024 * 1024) == 0:
        return f"{mib // (1024 * 1024)}T"
    if mib and mib % 1024 == 0:
        return f"{mib // 1024}G"
    return f"{mib}M"


@contextmanager
def zone_of(env: dict[str, str]) -> Iterator[None]:
    """Let local time be that of a command's own TZ."""
    before = os.environ.get("TZ")
    wanted = env.get("TZ")
    if wanted == before:
        yield
        return
    _set_zone(wanted)
    try:
        yield
    finally:
        _set_zone(before)


def _set_zone(zone: str | None) -> None:
    if zone is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = zone
    time.tzset()


def show_time(epoch: float | None, env: dict[str, str], missing: str = "Unknown") -> str:
    """Return a time as Slurm prints it, in the form of SLURM_TIME_FORMAT."""
    if epoch is None:
        return missing
    form = env.get("SLURM_TIME_FORMAT", "standard")
    if form in {"standard", "relative", ""}:
        form = "%Y-%m-%dT%H:%M:%S"
    return time.strftime(form, time.localtime(int(epoch)))


def show_date(epoch: float) -> str:
    """Return the line that squeue and sinfo print above a long table."""
    return time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(epoch))


def parse_time(text: str, now: float) -> float | None:
    """Return seconds since 1970 of `now+1hour`, a date, a time of day; None where it is none."""
    if text.startswith("now"):
        return _relative(text[3:], now)
    for pattern, order in ((_ISO, (1, 2, 3)), (_US, (3, 1, 2))):
        match = pattern.match(text)
        if match is not None:
            return _dated(match, order, now)
    match = _CLOCK.match(text)
    today = time.localtime(now)
    if match is not None:
        due = _at(today.tm_year, today.tm_mon, today.tm_mday, match.groups())
        return due if due > now else due + _DAY
    midnight = _at(today.tm_year, today.tm_mon, today.tm_mday, ())
    names = {"midnight": midnight + _DAY, "today": now, "tomorrow": now + _DAY}
    names["noon"] = midnight + _DAY / 2
    return names.get(text)


def _relative(text: str, now: float) -> float | None:
    if not text:
        return now
    match = re.match(r"^([+-])(\d+)([a-z]*)$", text)
    if match is None:
        return None
    unit = _SPANS.get((match[3] or "s")[0])
    if unit is None:
        return None
    return now + int(match[1] + match[2]) * unit


def _dated(match: re.Match[str], order: tuple[int, int, int], now: float) -> float:
    year_text = match[order[0]]
    year = time.localtime(now).tm_year if year_text is None else int(year_text)
    if year < 100:  # noqa: PLR2004 - two digits mean this century
        year += 2000
    return _at(year, int(match[order[1]]), int(match[order[2]]), match.groups()[3:])


def _at(year: int, month: int, day: int, clock: tuple[str | None, ...]) -> float:
    hour, minute, second = (int(part or 0) for part in (*clock, None, None, None)[:3])
    return time.mktime((year, month, day, hour, minute, second, 0, 0, -1))


def counted(numbers: list[int]) -> str:
    """Return per-node numbers as Slurm writes them: `4(x2),1`."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][0] == number:
            runs[-1] = (number, runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return ",".join(str(n) if times == 1 else f"{n}(x{times})" for n, times in runs)


def is_time_of_day(text: str) -> bool:
    """Return whether a time is given as HH:MM only."""
    return _CLOCK.match(text) is not None
