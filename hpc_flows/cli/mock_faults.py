"""`hpc-flows mock faults`: what goes wrong on a mock cluster, by script and counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, json_option
from hpc_flows.cli.mock import MockName, known_mock, mock_errors
from hpc_flows.cli.terminal import print_json, print_rows
from hpc_flows.mock_cluster import launcher
from hpc_flows.mock_cluster.faults import KINDS, parse_words, read_file
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a fault says about itself that is not an option of its kind.
_OWN = frozenset({"kind", "name", "seen", "fired", "set_at"})

_name = click.option("--name", type=MockName(), help="Of which mock; the only one by default.")


@click.group(cls=LazyGroup, short_help="Show and script what goes wrong.")
def faults() -> None:
    r"""Show and script what goes wrong on a mock cluster. Faults are counted when they fire.

    \b
      hpc-flows mock faults add sbatch_times_out times=1
      hpc-flows mock faults add node_dies node=c1 after=5
      hpc-flows mock faults show
    """


@faults.command()
@_name
@json_option
def show(name: str | None, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show the faults that are set, and how often each has fired."""
    with mock_errors():
        table = launcher.show_faults(get_settings().home, known_mock(name))
    _print(table, as_json=as_json)


def _print(table: dict[str, Any], *, as_json: bool = False) -> None:
    entries: list[dict[str, Any]] = table["fault"]
    if as_json:
        print_json(table)
    elif not entries:
        click.echo("No faults are set.")
    else:
        rows = [(e["name"], e["kind"], e["fired"], e["seen"], _options(e)) for e in entries]
        print_rows(("fault", "kind", "fired", "chances", "options"), rows, ("fired", "chances"))


def _options(entry: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in entry.items() if key not in _OWN)


@faults.command()
@click.argument("words", nargs=-1, metavar="KIND [OPTION=VALUE ...]")
@_name
def add(words: Sequence[str], name: str | None) -> None:
    """Add a fault; without a KIND, list the kinds."""
    if not words:
        print_rows(
            ("kind", "options of its own"),
            [(kind, ", ".join(sorted(options))) for kind, options in KINDS.items()],
        )
        click.echo("\nAll take: times, skip, every, probability, start, for, job, name.")
        return
    with mock_errors():
        entry = parse_words(list(words))
        _print(launcher.add_fault(get_settings().home, known_mock(name), entry))


@faults.command("set")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_name
def set_(file: Path, name: str | None) -> None:
    """Replace all faults by those of a file, TOML or JSON."""
    with mock_errors():
        table = read_file(file)
        _print(launcher.set_faults(get_settings().home, known_mock(name), table))


@faults.command()
@_name
def clear(name: str | None) -> None:
    """Take all faults away."""
    with mock_errors():
        _print(launcher.clear_faults(get_settings().home, known_mock(name)))
