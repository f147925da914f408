"""`hpc-flows cluster script`: what would be submitted, without submitting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.cluster import ClusterName, chosen_cluster
from hpc_flows.cli.command import Command, json_option
from hpc_flows.cli.flow_file import load_module
from hpc_flows.cli.run import FlowPlace
from hpc_flows.cli.terminal import print_json
from hpc_flows.exceptions import close_match
from hpc_flows.jobs.script import preview
from hpc_flows.resources import Resources
from hpc_flows.schedulers.opening import open_scheduler
from hpc_flows.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType


@click.command(cls=Command, short_help="Print the script of a task's job.")
@click.argument("where", metavar="FILE", type=FlowPlace())
@click.argument("task")
@click.option("--cluster", "name", type=ClusterName(), help="For which cluster; the active one.")
@click.option(
    "-r",
    "--resources",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Ask for this as well, such as cpus=4 or memory=8GB.",
)
@click.option("--count", default=1, show_default=True, help="How many task runs; an array if > 1.")
@json_option
def script(
    where: str,
    task: str,
    name: str | None,
    assignments: Sequence[str],
    count: int,
    as_json: bool,  # noqa: FBT001 - click gives flags as they are
) -> None:
    r"""Print exactly the script that a task of FILE would be submitted with. Submits nothing.

    RUN_DIR and TOKEN stand for what a run fills in.

    \b
      hpc-flows cluster script cv.py train --cluster afton
      hpc-flows cluster script cv.py train -r cpus=16 --count 100
    """
    chosen = chosen_cluster(name)
    found = find_task(load_module(where.partition(":")[0]), task, where)
    wanted = _resources(found).merged(read_resources(assignments))
    if wanted.is_empty():
        raise click.UsageError(
            f"The task {found.name!r} asks for no resources, so it runs where its flow runs and "
            "has no job. See what a job would look like with -r, such as -r cpus=4."
        )
    placement = chosen.placement(wanted)
    text = preview(chosen, open_scheduler(chosen), wanted, task=found.name, count=count)
    if as_json:
        facts = {"cluster": chosen.name, "resources": placement.resources.to_dict()}
        print_json({**facts, "notes": list(placement.notes), "script": text})
        return
    for note in placement.notes:
        click.echo(note, err=True)
    click.echo(text, nl=False)


def _resources(task: Task[..., Any]) -> Resources:
    return Resources.of(task.resources) or Resources()


def find_task(module: ModuleType, name: str, where: str) -> Task[..., Any]:
    """Return a module's task by the name of its function or of the task.

    Raises:
        click.UsageError: there is none of that name.
    """
    tasks = {key: value for key, value in vars(module).items() if isinstance(value, Task)}
    found = tasks.get(name) or next((t for t in tasks.values() if t.name == name), None)
    if found is None:
        known = f" It has: {', '.join(tasks)}." if tasks else " No function in it has @task."
        match = close_match(name, tasks) or known
        raise click.UsageError(f"{where.partition(':')[0]} has no task {name!r}.{match}")
    return found


def read_resources(assignments: Iterable[str]) -> Resources:
    """Return the resources that `name=value` texts ask for.

    Raises:
        click.UsageError: no `=`.
        ResourceError: no such resource, or a wrong value.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"A resource is given as name=value, not {assignment!r}.")
        values[name] = int(text) if text.isdecimal() and name != "walltime" else text
    return Resources(**values)
