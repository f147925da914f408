"""`hpc-flows flow-run`: flow runs of a server, or of this home, as Prefect users ask for them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, NamedChoice, json_option
from hpc_flows.cli.run_source import open_source, source_options
from hpc_flows.cli.run_tables import LEVELS, print_flow_run, print_flow_runs, print_records
from hpc_flows.cli.runs import RunName
from hpc_flows.cli.terminal import print_json
from hpc_flows.states import StateType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpc_flows.cli.run_source import Row, Source

STATES = [type_.value.lower() for type_ in StateType]


@click.group(
    cls=LazyGroup,
    on_use={
        "watch": ("hpc_flows.cli.watch:watch", "Follow a run in the terminal until it ends."),
        "cancel": ("hpc_flows.cli.flow_run_wishes:cancel", "Cancel a flow run and its jobs."),
        "pause": ("hpc_flows.cli.flow_run_wishes:pause", "Let nothing more begin in a flow run."),
        "resume": ("hpc_flows.cli.flow_run_wishes:resume", "Let a paused flow run go on."),
        "delete": ("hpc_flows.cli.flow_run_wishes:delete", "Delete a flow run that has ended."),
    },
)
def flow_run() -> None:
    """List, show, follow and steer flow runs.

    They are asked of the server that is configured or runs on this machine; without one they are
    read from the journals of this home. A flow run is named by its name, its id or the beginning of
    one, or `latest`.
    """


@flow_run.command("ls")
@click.option("-n", "--limit", default=20, show_default=True, help="How many; 0 for all.")
@click.option("--state", type=NamedChoice(STATES), help="Only runs in this state.")
@click.option("--flow", "--flow-name", "flow", help="Only runs of this flow.")
@source_options
@json_option
def ls(limit: int, state: str | None, flow: str | None, local: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List flow runs that are no subflows, the newest first."""
    source = open_source(local=local)
    rows = source.flow_runs(state=state, flow=flow, limit=max(limit, 0))
    if as_json:
        print_json(rows)
    elif rows:
        print_flow_runs(rows)
    else:
        of_those = " of those" if state or flow else ""
        where = f"in {source.place}" if source.api is None else f"on {source.place}"
        hint = "" if source.api is None else " Those of this home: --local"
        click.echo(f"There are no flow runs{of_those} {where}.{hint}")


@flow_run.command()
@click.argument("run", type=RunName())
@source_options
@json_option
def inspect(run: str, local: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show what is known of a flow run."""
    row = open_source(local=local).flow_run(run)
    if as_json:
        print_json(row)
    else:
        print_flow_run(row)


@flow_run.command()
@click.argument("run", type=RunName())
@click.option("--level", type=NamedChoice(list(LEVELS)), help="Only of this level or above.")
@click.option("-n", "--num-logs", "--limit", "limit", default=0, help="Only so many; 0 for all.")
@click.option("--head", is_flag=True, help="With -n: the first instead of the last.")
@click.option("-r", "--reverse", is_flag=True, help="The newest first.")
@click.option("-f", "--follow", is_flag=True, help="Print what comes until the run ends.")
@source_options
@json_option
def logs(
    run: str,
    level: str | None,
    follow: bool,  # noqa: FBT001 - click gives flags as they are
    local: bool,  # noqa: FBT001 - click gives flags as they are
    as_json: bool,  # noqa: FBT001 - click gives flags as they are
    **cut: Any,
) -> None:
    """Print the log records of a flow run and its task runs, in the order of their times."""
    source = open_source(local=local)
    row = source.named(run)
    show_logs(source, row, level, follow=follow, as_json=as_json, task_run=False, **cut)


def show_logs(
    source: Source,
    row: Row,
    level: str | None,
    *,
    follow: bool,
    as_json: bool,
    task_run: bool,
    **cut: Any,
) -> None:
    """Print the log records of a flow run or task run as the options say.

    Args:
        source: where from.
        row: the run.
        level: name of the least important level, or None.
        follow: whether to go on until the run ends.
        as_json: whether to print JSON.
        task_run: whether it is a task run.
        **cut: `limit`, `head`, `reverse`.
    """
    least = LEVELS[level] if level else 0
    if follow:
        if as_json or any(cut.values()):
            raise click.UsageError("--follow prints all records as they come, and no JSON.")
        for record in source.follow(row, level=least, task_run=task_run):
            print_records(() if record is None else (record,))
        return
    records = _cut(source.logs(row, level=least, task_run=task_run), **cut)
    if as_json:
        print_json(list(records))
    else:
        print_records(records)


def _cut(records: Iterator[Row], *, limit: int, head: bool, reverse: bool) -> Iterable[Row]:
    if limit > 0 and head:
        records = (record for record, _ in zip(records, range(limit), strict=False))
    kept: Iterable[Row] = deque(records, maxlen=limit) if limit > 0 else records
    return reversed(list(kept)) if reverse else kept
