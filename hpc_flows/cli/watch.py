"""`hpc-flows watch`: a run in the terminal, live, until it ends."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import FAILED, INTERRUPTED, Command
from hpc_flows.cli.run_source import open_source, source_options
from hpc_flows.cli.run_tables import state_of
from hpc_flows.cli.runs import RunName
from hpc_flows.cli.terminal import console, drawing_width, duration, is_unicode
from hpc_flows.cli.watched import LocalRun, ServerRun, reading_words, rest_after
from hpc_flows.exceptions import UnknownRun
from hpc_flows.journal.index import find_run
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from hpc_flows.cli.watched import Watched

#: Seconds between two plain lines.
PLAIN_PERIOD = 5.0


@click.command(cls=Command, short_help="Follow a run in the terminal until it ends.")
@click.argument("run", type=RunName())
@click.option("--plain", is_flag=True, help="Print lines, also on a terminal.")
@source_options
def watch(run: str, plain: bool, local: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Follow a run until it ends: its tasks, its timeline, its logs.

    On a terminal: `l` shows the logs, `t` the timeline, `j` and `k` scroll, `q` leaves and lets the
    run go on. Elsewhere a line is printed when something has changed. Ends with 0 when the run has
    completed, 1 when it failed, 130 when it was cancelled.
    """
    watched = _watched(run, local=local)
    watched.look()
    where = console()
    if plain or not sys.stdout.isatty() or where.is_dumb_terminal:
        return _in_lines(watched)
    from hpc_flows.cli.watch_screen import Screen  # noqa: PLC0415 - for terminals

    with Screen(watched, where) as screen:
        ended = screen.run()
    _print_last(watched, where)
    if not ended:
        click.echo(f"{watched.row['name']} goes on: hpc-flows watch {watched.row['name']}")
        return 0
    return _status(watched)


def _watched(run: str, *, local: bool) -> Watched:
    """Return the run: of this home if it is here, whose journals know it first; else the server's.

    Raises:
        UnknownRun: neither knows it.
    """
    if not local:
        try:
            return LocalRun(find_run(get_settings().home, run))
        except UnknownRun:
            source = open_source(local=False)
            if source.api is not None:
                return ServerRun(source.api, source.flow_run(run))
    return LocalRun(find_run(get_settings().home, run))


def _status(watched: Watched) -> int:
    statuses = {"COMPLETED": 0, "CANCELLED": INTERRUPTED}
    return statuses.get(str(watched.row["state_type"]), FAILED)


def _in_lines(watched: Watched) -> int:
    told, due = "", 0.0
    while True:
        words = progress_words(watched)
        now = time.monotonic()
        if words != told and (now >= due or watched.is_over):
            told, due = words, now + PLAIN_PERIOD
            click.echo(f"{time.strftime('%H:%M:%S')} {words}")
        if watched.is_over:
            return _status(watched)
        began = time.thread_time()
        watched.look()
        if watched.reading is None:
            time.sleep(rest_after(time.thread_time() - began))


def progress_words(watched: Watched) -> str:
    """Return where a run stands, in one line."""
    row = watched.row
    parts = [f"{name}: {counted.in_words()}" for name, counted in watched.counted.items()]
    state = state_of(row).plain
    if watched.reading is not None:
        state += f" ({reading_words(watched.reading)})"
    if row.get("message") and row["state_type"] != "COMPLETED":
        state += f" ({str(row['message']).partition(chr(10))[0]})"
    return f"{row['name']} {state}" + (f" - {'; '.join(parts)}" if parts else "")


def _print_last(watched: Watched, where: Any) -> None:
    """Leave what was seen last on the terminal."""
    from hpc_flows.cli.progress import table_lines  # noqa: PLC0415 - as above

    row = watched.row
    for line in table_lines(watched.counted, where):
        where.print(line)
    for line in watched.timeline(drawing_width(where), unicode=is_unicode(where)):
        where.print(line, soft_wrap=True)
    total = sum((each.total for each in watched.counted.values()), 0)
    took = None if row["started"] is None else (row["ended"] or time.time()) - row["started"]
    where.print(f"{row['name']}: ", state_of(row), f", {total} task runs, {duration(took)}", sep="")
    if row.get("message") and row["state_type"] != "COMPLETED":
        where.print(str(row["message"]).partition("\n")[0])
