"""What is printed, and how: consoles, tables, JSON, and times and sizes as people write them."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.exceptions import SettingsError
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table

#: Columns of a table that is not printed on a terminal: nothing is cut, `grep` finds it.
_WIDE = 1000

#: Columns of drawings that are not printed on a terminal.
_DRAWING = 100

#: What moves the cursor, sets titles, or does worse to a terminal; and colours, which may stay.
_CONTROLS = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?"
    r"|[\0-\x08\x0b-\x1f\x7f-\x9f]"
)

#: Colours of the state types, the same wherever a state is shown.
STATE_STYLES = {
    "SCHEDULED": "yellow",
    "PENDING": "yellow",
    "RUNNING": "cyan",
    "COMPLETED": "green",
    "FAILED": "red",
    "CRASHED": "bright_red",
    "CANCELLED": "magenta",
    "CANCELLING": "magenta",
    "PAUSED": "yellow",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout (or stderr) that keeps the setting `console_colour`."""
    # Rich costs 50 ms; completion and `--json` do without it.
    from rich.console import Console  # noqa: PLC0415

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            """Leave it to the command line, as other prints do; rich would exit with 1."""
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    colour = _colour()
    plain = not stream.isatty()
    return Ours(
        stderr=stderr,
        highlight=False,
        emoji=False,
        markup=False,
        width=_WIDE if plain else None,
        force_terminal=True if colour == "always" else None,
        no_color=True if colour == "never" else None,
    )


def _colour() -> str:
    try:
        return get_settings().console_colour
    except SettingsError:  # told by who asks for settings; to list profiles works all the same
        return "auto"


def echo_colour() -> bool | None:
    """Return what click is told of colours: whether there are any; None for terminals only."""
    colour = _colour()
    if colour == "auto":
        return False if os.environ.get("NO_COLOR") else None
    return colour == "always"


def drawing_width(where: Console) -> int:
    """Return how many columns a drawing may take."""
    return _DRAWING if where.width >= _WIDE else where.width


def is_unicode(where: Console) -> bool:
    """Tell whether the console can show blocks and lines; else ASCII is drawn."""
    return where.encoding.lower().startswith("utf")


def table(*headings: str, right: Iterable[str] = ()) -> Table:
    """Return a plain table; the columns named in `right` are aligned to the right."""
    from rich.table import Table  # noqa: PLC0415 - as in `console`

    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    numbers = set(right)
    for heading in headings:
        made.add_column(
            heading,
            justify="right" if heading in numbers else "left",
            overflow="fold",
            no_wrap=heading in numbers,
        )
    return made


def print_rows(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[str] = ()
) -> None:
    """Print rows as a table on stdout."""
    made = table(*headings, right=right)
    for row in rows:
        made.add_row(*(cell if hasattr(cell, "__rich__") else _cell(cell) for cell in row))
    console().print(made)


def _cell(value: Any) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415 - as in `console`

    return value if isinstance(value, Text) else harmless("" if value is None else value)


def harmless(value: object, *, colours: bool = False) -> str:
    """Return a text without what makes a terminal do more than show it.

    Names, messages and log records may be other people's, and what programs printed.

    Args:
        value: the text, or what is shown as one.
        colours: whether colours are kept.
    """
    text = str(value)
    if text.isprintable():
        return text
    return _CONTROLS.sub(lambda found: (colours and found["colour"]) or "", text)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one to a line, the values under each other."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {harmless(value)}")


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; what JSON does not know is printed as text."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON that stdout can print, whatever its encoding."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, default=str)
    return text


def state_text(name: str, type_: str) -> Any:
    """Return a state's name in the colour of its type."""
    from rich.text import Text  # noqa: PLC0415 - as in `console`

    return Text(harmless(name), style=STATE_STYLES.get(type_, ""))


def duration(seconds: float | None) -> str:
    """Write a duration: `0.42 s`, `12.3 s`, `2 m 05 s`, `1 h 02 m`, `3 d 04 h`; `-` for None."""
    if seconds is None:
        return "-"
    seconds = max(seconds, 0.0)
    if seconds < 59.95:  # noqa: PLR2004 - printed as 60.0 s from here on
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:  # noqa: PLR2004 - a day
        return f"{hours} h {minutes:02d} m"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def size(amount: float | None) -> str:
    """Write an amount of bytes as Slurm counts (1G = 1024M): `512M`, `1.5G`; `-` for None."""
    if amount is None:
        return "-"
    for unit in ("B", "K", "M", "G"):
        if amount < 1023.5:  # noqa: PLR2004 - printed as 1024 from here on
            return f"{amount:.0f}{unit}" if amount >= 10 or unit == "B" else f"{amount:.1f}{unit}"  # noqa: PLR2004 - two digits are enough
        amount /= 1024
    return f"{amount:.1f}T"


def moment(epoch: float | None) -> str:
    """Write a time in the user's own zone: the clock for today, the date with it for others."""
    if epoch is None:
        return "-"
    then = time.localtime(epoch)
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def count(number: int, noun: str) -> str:
    """Write a number with its noun: `1 job`, `3 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
