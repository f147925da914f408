"""`hpc-flows artifact`: what runs have left for people to look at."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.artifacts import store
from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.runs import RunName, folder_of
from hpc_flows.cli.terminal import moment, print_fields, print_json, print_rows
from hpc_flows.exceptions import ArtifactError, close_match
from hpc_flows.runs import short
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from hpc_flows.artifacts import StoredArtifact

#: Characters of a description that a list shows, and rows of a table.
_SHOWN, _ROWS = 50, 50


@click.group(cls=LazyGroup)
def artifact() -> None:
    """List and show what runs have left to look at.

    Artifacts are links, texts, tables, progress and images. The newest version under each key is
    found without its run.
    """


class _Key(TextType):
    """The key of an artifact."""

    name = "key"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the keys that there are."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        keys = [str(each.key) for each in store.all_latest()]
        return [CompletionItem(key) for key in keys if key.startswith(incomplete)]


@artifact.command("ls")
@click.option("--run", type=RunName(), help="All artifacts of this run, also those without a key.")
@json_option
def ls(run: str | None, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the newest artifact of each key."""
    home = get_settings().home
    found = store.all_latest() if run is None else store.of_run(home, folder_of(run))
    if as_json:
        print_json([each.to_dict() for each in found])
        return
    if not found:
        click.echo(f"There are no artifacts in {'this run' if run else home}.")
        return
    print_artifacts(found)


def print_artifacts(found: Sequence[StoredArtifact]) -> None:
    """Print artifacts as a table."""
    print_rows(
        ("key", "type", "run", "updated", "description"),
        [
            (
                each.key or short(str(each.id)),
                each.type or "-",
                short(each.run or "-"),
                moment(each.updated),
                _progress(each) + _one_line(each.description or ""),
            )
            for each in found
        ],
    )


def _progress(found: StoredArtifact) -> str:
    return f"{found.data:.0f} % " if found.type == "progress" else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


@artifact.command()
@click.argument("key", type=_Key())
@json_option
def inspect(key: str, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show the newest artifact of a key, with its content."""
    found = _found(key)
    if as_json:
        print_json({**found.to_dict(), "data": found.data})
        return
    fields = {
        "key": found.key,
        "id": found.id,
        "type": found.type or "-",
        "run": found.run or "-",
        "task run": found.task_run or "-",
        "created": moment(found.created),
        "updated": moment(found.updated),
        "description": found.description or "-",
    }
    print_fields(fields)
    click.echo()
    _print_data(found)


@artifact.command()
@click.argument("key", type=_Key())
def delete(key: str) -> None:
    """Forget a key.

    The journals of the runs that made its versions keep them.
    """
    found = _found(key)
    store.delete(key)
    where = os.path.join(get_settings().home, "runs", found.run or "")
    click.echo(f"Artifact {key} is forgotten; its run keeps it, in {where}.")


def _found(key: str) -> StoredArtifact:
    found = store.latest(key)
    if found is None:
        keys = [str(each.key) for each in store.all_latest()]
        hint = close_match(key, keys) or " `hpc-flows artifact ls` lists them."
        raise ArtifactError(f"There is no artifact {key!r}.{hint}")
    return found


def _print_data(found: StoredArtifact) -> None:
    if found.type == "table" and _print_table(found.data):
        return
    if found.type == "progress":
        click.echo(f"{found.data:.1f} %")
        return
    click.echo(found.data if isinstance(found.data, str) else json.dumps(found.data))


def _print_table(data: Any) -> bool:
    """Print a table artifact; tell whether it was one."""
    try:
        headings, rows = _table(json.loads(data))
    except (TypeError, ValueError):
        return False
    print_rows(headings, rows[:_ROWS])
    if len(rows) > _ROWS:
        click.echo(f"and {len(rows) - _ROWS} rows more: hpc-flows artifact inspect --json")
    return True


def _table(data: Any) -> tuple[list[str], list[list[Any]]]:
    """Return headings and rows of a dict of columns, a list of dicts or a list of lists."""
    if isinstance(data, dict):
        longest = max((len(column) for column in data.values()), default=0)
        columns = [list(column) + [None] * (longest - len(column)) for column in data.values()]
        return list(data), [list(row) for row in zip(*columns, strict=True)]
    if not isinstance(data, list):
        raise TypeError(type(data))
    if all(isinstance(row, dict) for row in data):
        names = list(dict.fromkeys(name for row in data for name in row))
        return names, [[row.get(name) for name in names] for row in data]
    width = max(len(row) for row in data)
    return [str(number) for number in range(width)], [list(row) for row in data]
