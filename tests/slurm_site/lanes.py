"""The whole suite in two lanes: a pass that waits for Slurm or its jobs lets another one work."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from slurm_site.workplace import Workplace, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: What a line tells in which pytest closes: `=== 1 failed, 4203 passed, 2 deselected in 9.1s ===`.
_CLOSING = re.compile(r"^=+ (?P<counts>.*\b(passed|failed|skipped|errors?)\b.*) in [\d.]+s.*=+$")
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")

#: Seconds between two looks at what a lane has printed.
_GLANCE = 0.3


class Passing(NamedTuple):
    """A pass of pytest that goes on, and where its output goes."""

    title: str
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> None:
        """End it, when the others cannot go on; what it started is ended with the run."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def begin(place: Workplace, title: str, argv: Sequence[str], env: dict[str, str]) -> Passing:
    """Begin a pass whose output goes into a file of its own."""
    log = place.folder / f"{re.sub(r'[^a-z0-9.]+', '-', title.lower())}.log"
    log.touch()
    return Passing(title, place.start(argv, env, log), log)


def two_at_once(starts: Sequence[Callable[[], Passing]]) -> list[Passing]:
    """Run passes, two at a time, and print their output one after the other; return them all.

    Args:
        starts: each begins a pass; they are called in this order.
    """
    waiting, begun = list(starts), []

    def fill() -> None:
        while waiting and sum(passing.process.poll() is None for passing in begun) < 2:
            begun.append(waiting.pop(0)())

    fill()
    # Grows while it is gone through.
    for passing in begun:
        show(passing, fill)
        fill()
    return begun


def show(passing: Passing, meanwhile: Callable[[], None] = lambda: None) -> int:
    """Print what a pass prints, until it ends; return its status.

    Args:
        passing: the pass.
        meanwhile: is called now and then.
    """
    say(passing.title)
    with passing.log.open("rb") as lines:
        ended = False
        while True:
            sys.stdout.buffer.write(lines.read())
            sys.stdout.flush()
            if ended:
                return passing.process.returncode
            # What was printed last is looked for after the end was seen, so that none is missed.
            ended = passing.process.poll() is not None
            meanwhile()
            if not ended:
                time.sleep(_GLANCE)


def closing_line(passings: Sequence[Passing], seconds: float) -> str:
    """Return a line as pytest closes with, of all passes together.

    Args:
        passings: the passes, which have ended.
        seconds: how long they took, two at a time.
    """
    found = [counted(passing.log.read_text(errors="replace")) for passing in passings]
    total = sum(found, Counter[str]())
    # A pass that broke off counts nothing; its status is told all the same.
    words = [f"{total[word]} {word}" for word in ("failed", "passed", "skipped") if total[word]]
    if total["error"]:
        words.append(f"{total['error']} error" + "s" * (total["error"] > 1))
    bar = "=" * 12
    return f"{bar} {', '.join(words) or 'no tests ran'} in {seconds:.2f}s {bar}"


def counted(output: str) -> Counter[str]:
    """Return what pytest counted in the last of its closing lines, or nothing."""
    for line in reversed(output.splitlines()):
        if found := _CLOSING.match(line):
            pairs = _COUNT.findall(found["counts"])
            return Counter({word: int(number) for number, word in pairs})
    return Counter()
