"""`hpc-flows runs`: what has been run, read from the runs' own folders."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, NamedChoice, TextType, json_option
from hpc_flows.cli.terminal import count, duration, moment, print_json, print_rows, state_text
from hpc_flows.journal.index import find_run, list_runs
from hpc_flows.runs import short
from hpc_flows.settings import get_settings
from hpc_flows.states import StateType

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from hpc_flows.journal.index import RunSummary

#: Runs that are listed when nobody says how many.
_LISTED = 20

_STATES = [type_.value.lower() for type_ in StateType]


class RunName(TextType):
    """A run's name, its id, the beginning of its id, or `latest`."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the newest runs by name."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        found = list_runs(get_settings().home)[:100]
        items = [CompletionItem(run.name, help=f"{run.flow}, {run.state_name}") for run in found]
        items.append(CompletionItem("latest"))
        return [item for item in items if str(item.value).startswith(incomplete)]


@click.group(
    cls=LazyGroup,
    on_use={
        "show": ("hpc_flows.cli.runs_show:show", "Show a run: task runs, times, jobs, failures."),
        "logs": ("hpc_flows.cli.runs_logs:logs", "Print the log records of a run."),
        "cancel": ("hpc_flows.cli.runs_cancel:cancel", "Cancel a run and its jobs."),
    },
)
def runs() -> None:
    """List, show and cancel runs, and read their logs.

    A run is named by its name (merry-fox), its id or the first characters of it, or `latest`.
    """


def folder_of(name: str) -> str:
    """Return the folder of the run that a person means.

    Raises:
        UnknownRun: there is none, or several.
    """
    return find_run(get_settings().home, name)


@runs.command("ls")
@click.option("-n", "--limit", default=_LISTED, help="How many to list; 0 for all.")
@click.option("--state", type=NamedChoice(_STATES), help="Only runs in this state.")
@click.option("--flow", help="Only runs of this flow.")
@json_option
def ls(limit: int, state: str | None, flow: str | None, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the runs, the newest first."""
    found = [
        run
        for run in list_runs(get_settings().home)
        if state in (None, (run.state_type or "").lower()) and flow in (None, run.flow)
    ]
    shown = found[:limit] if limit > 0 else found
    if as_json:
        print_json([run.to_dict() for run in shown])
        return
    if not found:
        of_those = " of those" if state or flow else " yet"
        click.echo(f"There are no runs{of_those} in {get_settings().home}.")
        return
    now = time.time()
    print_rows(
        ("run", "id", "flow", "state", "started", "took"),
        [_row(run, now) for run in shown],
        right=("took",),
    )
    if len(found) > len(shown):
        click.echo(f"and {count(len(found) - len(shown), 'run')} more: hpc-flows runs ls -n 0")


def _row(run: RunSummary, now: float) -> tuple[Any, ...]:
    state = state_text(run.state_name or "-", run.state_type or "")
    if is_orphan(run):
        state.append(", driver gone", "red")
    end = run.ended if run.ended is not None else (None if is_orphan(run) else now)
    took = None if run.started is None or end is None else end - run.started
    return (run.name, short(run.id), run.flow, state, moment(run.created), duration(took))


def is_orphan(run: RunSummary) -> bool:
    """Tell whether a run has not ended though its driver, on this machine, is gone."""
    return run.ended is None and run.alive is False
