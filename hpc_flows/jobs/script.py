"""Rendering the scripts of jobs from slurm_templates/."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hpc_flows._version import __version__
from hpc_flows.schedulers.base import JobSpec
from hpc_flows.schedulers.slurm_commands import index_text
from hpc_flows.settings import data_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_flows.clusters import Cluster
    from hpc_flows.resources import Resources
    from hpc_flows.schedulers.base import Scheduler


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the files of one submission lie.

    Attributes:
        run_dir: the run's folder.
        token: the submission's name.
    """

    run_dir: str
    token: str

    @property
    def job(self) -> str:
        """The folder of the script and of the jobs' output."""
        return os.path.join(self.run_dir, "jobs", self.token)

    @property
    def script(self) -> str:
        """The script."""
        return os.path.join(self.job, "script.sh")

    @property
    def environment(self) -> str:
        """The file with the task's own variables."""
        return os.path.join(self.job, "environment.sh")

    @property
    def payload(self) -> str:
        """The signed task and arguments."""
        return os.path.join(self.run_dir, "payloads", f"{self.token}.bin")

    def output(self, index: int | str) -> str:
        """The file with the output of one element; `%a` for the scheduler's own pattern."""
        return os.path.join(self.job, f"out-{index}.log")


def spec_for(
    cluster: Cluster,
    folders: Folders,
    resources: Resources,
    indexes: Sequence[int],
    *,
    array: bool,
    depends_on: Sequence[str] = (),
) -> JobSpec:
    """Return what to ask the scheduler for.

    Args:
        cluster: where.
        folders: the submission's files.
        resources: the complete request of each element, placed.
        indexes: numbers of the elements.
        array: whether to submit an array, even of one.
        depends_on: ids of jobs that must end well first.
    """
    return JobSpec(
        token=folders.token,
        resources=resources,
        output=folders.output("%a" if array else 0),
        workdir=folders.job,
        array=index_text(indexes) if array else None,
        depends_on=tuple(depends_on),
        requeue=cluster.requeue,
    )


def command_for(cluster: Cluster, folders: Folders, resources: Resources) -> str:
    """Return the shell words that start the job side, in a container where one is asked for."""
    entry = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run.py")
    argv = [cluster.python or sys.executable, entry, folders.run_dir, folders.token]
    return shlex.join(cluster.wrap(argv, resources))


def setup_for(cluster: Cluster, resources: Resources) -> list[str]:
    """Return the shell lines that come before the command."""
    if not resources.modules:
        return list(cluster.setup)
    modules = " ".join(shlex.quote(name) for name in resources.modules)
    return [*cluster.setup, cluster.modules.replace("{modules}", modules)]


def environment_text(resources: Resources) -> str:
    """Return the shell lines that set the task's own variables; empty when it has none."""
    variables = resources.environment
    return "".join(f"export {name}={shlex.quote(text)}\n" for name, text in variables.items())


def render(
    cluster: Cluster, scheduler: Scheduler, spec: JobSpec, folders: Folders, title: str
) -> str:
    """Return the script of a submission.

    Args:
        cluster: where it will run.
        scheduler: says the header lines.
        spec: what is asked for.
        folders: the submission's files.
        title: what it is, in one line.

    Raises:
        ResourceError: the scheduler has no way to say something that is asked for.
    """
    template = _templates().get_template("job.sh.j2" if spec.array is None else "array.sh.j2")
    environment = folders.environment if spec.resources.environment else ""
    return template.render(
        title=" ".join(title.split()),
        version=__version__,
        path=shlex.quote(folders.script),
        directives=scheduler.directives(spec),
        setup=setup_for(cluster, spec.resources),
        environment=shlex.quote(environment) if environment else "",
        command=command_for(cluster, folders, spec.resources),
    )


def preview(
    cluster: Cluster, scheduler: Scheduler, resources: Resources, *, task: str, count: int = 1
) -> str:
    """Return the script that runs of a task would be submitted with, submitting nothing.

    Args:
        cluster: where they would run.
        scheduler: says the header lines.
        resources: what the task asks for, before placing.
        task: the task's name.
        count: how many runs; an array for more than one.

    Raises:
        DoesNotFit: no partition holds the request.
        ResourceError: something that the site requires is missing, or cannot be said.
    """
    folders = Folders("RUN_DIR", "TOKEN")
    placed = cluster.place(resources)
    spec = spec_for(cluster, folders, placed, range(count), array=count > 1)
    return render(cluster, scheduler, spec, folders, title_for(task, count))


def title_for(task: str, count: int) -> str:
    """Return the line that says what a script is for."""
    return f"{count} runs of task {task}" if count > 1 else f"Task {task}"


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(data_dir("slurm_templates")),
        autoescape=False,  # noqa: S701 - shell scripts; what comes from users is quoted for the shell
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
