"""`hpc-flows mock`: pretend clusters on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.cluster import ClusterName
from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.mock_profile import write_profile
from hpc_flows.cli.terminal import count, print_fields, print_json
from hpc_flows.clusters import Cluster
from hpc_flows.exceptions import ClusterError, close_match
from hpc_flows.mock_cluster import launcher
from hpc_flows.mock_cluster.faults import read_file
from hpc_flows.mock_cluster.sites import VERSIONS, SiteError
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.shell_completion import CompletionItem

_DEFAULT = "mock"


class MockName(TextType):
    """The name of a mock cluster."""

    name = "mock"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the mocks that were ever started."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        return [CompletionItem(name) for name in mock_names() if name.startswith(incomplete)]


@click.group(
    cls=LazyGroup,
    on_use={"faults": ("hpc_flows.cli.mock_faults:faults", "Show and script what goes wrong.")},
)
def mock() -> None:
    """Start and handle pretend clusters on this machine.

    A mock has the commands of Slurm (sbatch, squeue, ...) in a folder of its own, runs jobs as
    processes of this machine, and has the partitions and limits of a cluster's profile.
    """


def mock_names() -> list[str]:
    """Return the names of the mocks that were ever started under the home."""
    folder = os.path.join(get_settings().home, "mock")
    try:
        return sorted(
            name
            for name in os.listdir(folder)
            if os.path.exists(os.path.join(folder, name, "settings.json"))
        )
    except OSError:
        return []


@contextlib.contextmanager
def mock_errors() -> Iterator[None]:
    """Make the mock's errors ours: it imports nothing of hpc_flows, exceptions included.

    Raises:
        ClusterError: in their place.
    """
    try:
        yield
    except (launcher.MockError, SiteError) as error:
        text = str(error)
        raise ClusterError(text[:1].upper() + text[1:]) from None


def start_mock(
    name: str | None, profile: str | None, options: dict[str, Any] | None = None
) -> tuple[launcher.MockInfo, Cluster]:
    """Start a mock (one that runs is left as it is), and return it with its cluster.

    Args:
        name: its name; by default `mock`, or `mock-PROFILE`.
        profile: the cluster that it plays; the shipped mock's own rules when None.
        options: fields of `launcher.StartOptions`.

    Raises:
        ClusterError: the profile or an option cannot be used, or it does not start.
    """
    home = get_settings().home
    cluster = _mock_cluster(home, name, profile)
    _refuse_real(cluster)
    with mock_errors():
        chosen = launcher.StartOptions(profile=Path(cluster.mock_file), **(options or {}))
        info = launcher.start(home, cluster.name, chosen)
    if info.warning:
        click.echo(info.warning, err=True)
    return info, cluster


def _mock_cluster(home: str, name: str | None, profile: str | None) -> Cluster:
    if profile is None and (name is None or name in Cluster.names()):
        return Cluster.load(name or _DEFAULT)
    base = Cluster.load(profile or _DEFAULT)
    wanted = name or (base.name if base.name == _DEFAULT else f"mock-{base.name}")
    return base if wanted == base.name else Cluster.load(write_profile(home, wanted, base))


def _refuse_real(cluster: Cluster) -> None:
    if not cluster.start:
        raise ClusterError(
            f"{cluster.name} is a real cluster. To play it on this machine: "
            f"hpc-flows mock start --profile {cluster.name}"
        )


@mock.command()
@click.option("--profile", type=ClusterName(), help="Play this cluster, such as afton.")
@click.option("--name", type=MockName(), help="Its name; by default mock, or mock-PROFILE.")
@click.option("--slurm", type=click.Choice(VERSIONS), help="The version of Slurm to play.")
@click.option("--no-accounting", is_flag=True, help="A site without slurmdbd.")
@click.option(
    "--set", "timings", multiple=True, metavar="NAME=SECONDS", help="A timing, such as dbd_lag=30."
)
@click.option(
    "--faults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of scripted faults, TOML or JSON.",
)
@click.option("--fresh", is_flag=True, help="Forget the jobs of earlier runs.")
def start(
    profile: str | None,
    name: str | None,
    slurm: str | None,
    no_accounting: bool,  # noqa: FBT001 - click gives flags as they are
    timings: Sequence[str],
    faults: Path | None,
    fresh: bool,  # noqa: FBT001 - click gives flags as they are
) -> None:
    r"""Start a pretend cluster; one that runs is left as it is.

    \b
      hpc-flows mock start                       a small cluster with rules of its own
      hpc-flows mock start --profile afton       a small Afton, called mock-afton
    """
    with mock_errors():
        options: dict[str, Any] = {
            "version": slurm,
            "accounting": False if no_accounting else None,
            "timings": dict(map(_timing, timings)),
            "faults": read_file(faults) if faults is not None else None,
            "fresh": fresh,
        }
    info, cluster = start_mock(name, profile, options)
    how = "started" if info.started else "runs already"
    click.echo(f"{cluster.title}: {info.name} {how} (process {info.pid}).")
    if not info.started and (timings or faults or slurm or no_accounting or fresh):
        click.echo(f"  Its options stay as they were: hpc-flows mock stop {info.name} first.")
    click.echo(f"  hpc-flows run FILE:FLOW --cluster {info.name}")
    click.echo(f"  hpc-flows mock shell {info.name}      a shell with its sbatch, squeue, ...")


def _timing(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set takes NAME=SECONDS, not {text!r}.")
    return name, value


def known_mock(name: str | None) -> str:
    """Return the name of a mock that was started, the only one when none is named.

    Raises:
        ClusterError: there is none of that name.
    """
    names = mock_names()
    wanted = name or (names[0] if len(names) == 1 else _DEFAULT)
    if wanted not in names:
        match = close_match(wanted, names)
        there = f" There are: {', '.join(names)}." if names and not match else ""
        raise ClusterError(
            f"No mock cluster {wanted!r} was started in {get_settings().home}.{match}{there} "
            "Start one: hpc-flows mock start"
        )
    return wanted


@mock.command()
@click.argument("name", type=MockName(), required=False)
@json_option
def status(name: str | None, as_json: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Say which mocks run, and what is on them.

    The exit status is 1 when the one that is named does not run.
    """
    names = [known_mock(name)] if name else mock_names()
    with mock_errors():
        found = {each: launcher.status(get_settings().home, each) for each in names}
    if as_json:
        print_json(found)
    elif not found:
        click.echo("No mock cluster was ever started here. Start one: hpc-flows mock start")
    else:
        for each, facts in found.items():
            _print_status(each, facts)
    return 1 if name and found[names[0]] is None else 0


def _print_status(name: str, facts: dict[str, Any] | None) -> None:
    if facts is None:
        click.echo(f"{name}: does not run")
        return
    jobs = ", ".join(f"{number} {state.lower()}" for state, number in facts["jobs"].items())
    click.echo(click.style(f"{name}: runs", bold=True) + f" (process {facts['pid']})")
    print_fields(
        {
            "  site": f"{facts['site']}, Slurm {facts['version']}",
            "  accounting": "yes" if facts["accounting"] else "no",
            "  partitions": ", ".join(facts["partitions"]),
            "  nodes": ", ".join(f"{node} {state}" for node, state in facts["nodes"].items()),
            "  jobs": jobs or "none",
            "  faults": count(len(facts["faults"]), "fault") if facts["faults"] else "none",
            "  commands": str(launcher.paths(get_settings().home, name).bin),
        }
    )


@mock.command(context_settings={"allow_interspersed_args": False})
@click.argument("name", type=MockName(), required=False)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell(name: str | None, command: Sequence[str]) -> int:
    r"""Open a shell with the mock's sbatch, squeue and others first on PATH.

    With a COMMAND, run that one instead:

    \b
      hpc-flows mock shell mock squeue
    """
    chosen = known_mock(name)
    home = get_settings().home
    environment = os.environ | launcher.shell_environment(home, chosen)
    environment["HPC_FLOWS_CLUSTER"] = chosen
    if command:
        path = shutil.which(command[0], path=environment["PATH"])
        if path is None:
            raise ClusterError(f"There is no command {command[0]!r} in the shell of {chosen}.")
        return subprocess.run([path, *command[1:]], env=environment, check=False).returncode
    click.echo(
        f"sbatch, squeue and others are those of {chosen}, and flows go to it. To leave: exit"
    )
    program = os.environ.get("SHELL") or "/bin/sh"
    return subprocess.run([program], env=environment, check=False).returncode


@mock.command()
@click.argument("name", type=MockName(), required=False)
@click.option("--keep-jobs", is_flag=True, help="Let running jobs live on.")
def stop(name: str | None, keep_jobs: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Cancel a mock's jobs and end it."""
    chosen = known_mock(name)
    with mock_errors():
        ran = launcher.stop(get_settings().home, chosen, keep_jobs=keep_jobs)
    click.echo(f"{chosen}: stopped." if ran else f"{chosen}: did not run.")
