"""`hpc-flows demo`: a flow over real files on a pretend cluster, and what to try next."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from hpc_flows.cli.command import Command
from hpc_flows.cli.flow_file import load_flow
from hpc_flows.cli.mock import mock_errors, start_mock
from hpc_flows.cli.progress import Progress
from hpc_flows.cli.run import choose_cluster, execute
from hpc_flows.cli.runs_show import print_tasks, print_timeline
from hpc_flows.cli.terminal import console
from hpc_flows.exceptions import SettingsError
from hpc_flows.journal.index import summarise
from hpc_flows.mock_cluster import launcher
from hpc_flows.settings import data_dir, get_settings

if TYPE_CHECKING:
    from hpc_flows.cli.progress import Follower

#: The flow, as docs/examples has it.
_FLOW = "stdlib_census.py"

#: The mock cluster of the demo, and the cluster whose rules it has.
_NAME, _PROFILE = "demo", "afton"


@click.command(cls=Command, short_help="Measure Python's standard library on a pretend cluster.")
@click.option(
    "--folder",
    default="hpc-flows-demo",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where the flow, the table and the chart are put.",
)
@click.option("--source", type=click.Path(exists=True, file_okay=False), help="Measure this tree.")
@click.option(
    "--progress/--no-progress",
    "live",
    default=None,
    help="Redraw a table, or print lines; a table by default where stdout is a terminal.",
)
def demo(folder: str, source: str | None, live: bool | None) -> int:  # noqa: FBT001 - click gives flags as they are
    """Measure every module of Python's standard library on a pretend cluster.

    The modules are cut into parts, and each part is measured by a job of its own, as an element of
    an array. Small parts ask for one cpu, large ones for four, and the task that follows all
    imports for a node with much memory. The cluster is a small Afton (University of Virginia), with
    its partitions and limits, played by processes of this machine; it is gone afterwards.
    """
    place = _prepared(folder)
    info, cluster = start_mock(_NAME, _PROFILE)
    _step(f"A small Afton plays on this machine: {len(info.status['nodes'])} pretend nodes.")
    try:
        choose_cluster(cluster.name)
        flow = load_flow(os.path.join(place, _FLOW))
        what = source or f"the standard library of Python {sys.version.partition(' ')[0]}"
        _step(f"Measuring {what}, each part in a job of its own.")
        _step(f"The flow is {os.path.join(folder, _FLOW)}")
        progress = Progress(f"{flow.name} on {cluster.name}", live=live)
        parameters = {"folder": place} | ({"source": os.path.abspath(source)} if source else {})
        status = execute(flow, parameters, progress)
    finally:
        if info.started:
            with mock_errors():
                launcher.stop(get_settings().home, info.name)
    if progress.follower is not None:
        _show(progress.follower)
    if status == 0:
        _say_what_next(folder, cluster.name)
    return status


def _step(text: str) -> None:
    click.echo(click.style("==> ", fg="cyan", bold=True) + text, err=True)


def _prepared(folder: str) -> str:
    """Put the flow into the folder and return the folder's full path.

    Raises:
        SettingsError: the folder cannot be written.
    """
    place = os.path.abspath(folder)
    try:
        os.makedirs(place, exist_ok=True)
        shutil.copyfile(os.path.join(data_dir("docs/examples"), _FLOW), os.path.join(place, _FLOW))
    except OSError as error:
        msg = f"{place} cannot be written: {error.strerror}. Name another place with --folder."
        raise SettingsError(msg) from error
    return place


def _show(follower: Follower) -> None:
    task_runs = list(follower.view.task_runs.values())
    if task_runs:
        click.echo()
        print_tasks(task_runs)
        print_timeline(task_runs, summarise(follower.run_dir), console())


def _say_what_next(folder: str, cluster: str) -> None:
    path = os.path.join(folder, _FLOW)
    tries = (
        ("runs show latest", "its jobs: requested against used"),
        ("runs logs latest --task import_graph", "what a task printed"),
        (f"cluster script {path} import_graph --cluster {cluster}", "the script of its job"),
        (f"run {path} --cluster {cluster} -p source=PATH", "your own code, on the same cluster"),
        (f"mock stop {cluster}", "end that cluster, which starts by itself"),
        ("cluster ls", "the real clusters that are known"),
    )
    click.echo("\n" + click.style("What to try next", bold=True))
    for command, what in tries:
        click.echo(f"  {click.style('# ' + what, dim=True)}\n  {_typed()} {command}")


def _typed() -> str:
    """Return what a person types for this command: its path, where it is not on PATH."""
    if shutil.which("hpc-flows") or not sys.argv[0].endswith("hpc-flows"):
        return "hpc-flows"
    return os.path.relpath(sys.argv[0])
