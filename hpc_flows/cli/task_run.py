"""`hpc-flows task-run`: the task runs of a flow run, one by one."""

from __future__ import annotations

from typing import Any

import click

from hpc_flows.cli.command import LazyGroup, NamedChoice, json_option
from hpc_flows.cli.flow_run import STATES, show_logs
from hpc_flows.cli.run_source import open_source, source_options
from hpc_flows.cli.run_tables import LEVELS, print_task_run, print_task_runs
from hpc_flows.cli.runs import RunName
from hpc_flows.cli.terminal import count, print_json


@click.group(cls=LazyGroup)
def task_run() -> None:
    """List and show task runs, and read their logs.

    A task run is named by its whole id; with --flow-run also by its name or the beginning of its
    id.
    """


@task_run.command("ls")
@click.option(
    "--flow-run", default="latest", show_default=True, type=RunName(), help="Of this flow run."
)
@click.option("--task", help="Only of this task.")
@click.option("--state", type=NamedChoice(STATES), help="Only in this state.")
@click.option("-n", "--limit", default=100, show_default=True, help="How many; 0 for all.")
@source_options
@json_option
def ls(
    flow_run: str,
    task: str | None,
    state: str | None,
    limit: int,
    local: bool,  # noqa: FBT001 - click gives flags as they are
    as_json: bool,  # noqa: FBT001 - click gives flags as they are
) -> None:
    """List the task runs of a flow run, in the order in which they were made."""
    source = open_source(local=local)
    about = source.flow_run(flow_run)
    rows, total = source.task_runs(about, task=task, state=state, limit=max(limit, 0))
    if as_json:
        print_json(rows)
        return
    if not rows:
        of_those = " of those" if task or state else ""
        click.echo(f"Flow run {about['name']} has no task runs{of_those}.")
        return
    print_task_runs(rows)
    if total > len(rows):
        click.echo(f"and {count(total - len(rows), 'task run')} more: -n 0 lists all")


@task_run.command()
@click.argument("wanted", metavar="TASK_RUN")
@click.option("--flow-run", type=RunName(), help="The flow run that it is of.")
@source_options
@json_option
def inspect(wanted: str, flow_run: str | None, local: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show what is known of a task run."""
    row = open_source(local=local).task_run(wanted, flow_run)
    if as_json:
        print_json(row)
    else:
        print_task_run(row)


@task_run.command()
@click.argument("wanted", metavar="TASK_RUN")
@click.option("--flow-run", type=RunName(), help="The flow run that it is of.")
@click.option("--level", type=NamedChoice(list(LEVELS)), help="Only of this level or above.")
@click.option("-n", "--num-logs", "--limit", "limit", default=0, help="Only so many; 0 for all.")
@click.option("--head", is_flag=True, help="With -n: the first instead of the last.")
@click.option("-r", "--reverse", is_flag=True, help="The newest first.")
@source_options
@json_option
def logs(
    wanted: str,
    flow_run: str | None,
    level: str | None,
    local: bool,  # noqa: FBT001 - click gives flags as they are
    as_json: bool,  # noqa: FBT001 - click gives flags as they are
    **cut: Any,
) -> None:
    """Print the log records of a task run."""
    source = open_source(local=local)
    row = source.task_run(wanted, flow_run)
    show_logs(source, row, level, follow=False, as_json=as_json, task_run=True, **cut)
