"""`hpc-flows cluster`: which clusters are known, what a profile says, and whether it is true."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.terminal import (
    count,
    duration,
    print_fields,
    print_json,
    print_rows,
    size,
)
from hpc_flows.clusters import Cluster
from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.resources import format_walltime
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.shell_completion import CompletionItem

    from hpc_flows.clusters import Partition


class ClusterName(TextType):
    """A cluster's name, or the path of a profile."""

    name = "cluster"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the names of all profiles; paths where a path was begun."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        if "/" in incomplete or incomplete.startswith("."):
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name) for name in Cluster.names() if name.startswith(incomplete)]


@click.group(
    cls=LazyGroup,
    on_use={
        "check": ("hpc_flows.cli.cluster_check:check", "Compare a profile with the live cluster."),
        "script": ("hpc_flows.cli.cluster_script:script", "Print the script of a task's job."),
    },
)
def cluster() -> None:
    """See which clusters are known, and check them.

    A cluster is a TOML file: shipped with hpc-flows, of the site (/etc/hpc_flows/clusters), or your
    own ($HPC_FLOWS_HOME/clusters).
    """


def chosen_cluster(name: str | None) -> Cluster:
    """Return the named cluster, or the active one.

    Raises:
        click.UsageError: none is named and none is active.
        ClusterError: the profile cannot be read.
    """
    wanted = name or get_settings().cluster
    if wanted is None:
        raise click.UsageError(
            "Name a cluster (`hpc-flows cluster ls` lists them), or make one the active one: "
            "hpc-flows config set cluster NAME"
        )
    return Cluster.load(wanted)


@cluster.command("ls")
@json_option
def ls(as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the clusters that are known here."""
    active = get_settings().cluster
    rows = [_row(name, active) for name in Cluster.names()]
    if as_json:
        print_json(rows)
        return
    print_rows(
        ("", "cluster", "what it is", "scheduler", "partitions", "verified", "profile"),
        [
            (
                "*" if row["active"] else "",
                row["name"],
                row["error"] or row["title"],
                row["scheduler"],
                ", ".join(row["partitions"]) or "asked live",
                row["verified_on"] or "-",
                _tilde(row["file"]),
            )
            for row in rows
        ],
    )
    if active is None:
        click.echo("\nNone is active: tasks with resources run on this machine. To change that:")
        click.echo("  hpc-flows run FILE:FLOW --cluster NAME     for one run")
        click.echo("  hpc-flows config set cluster NAME          for all")


def _row(name: str, active: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "active": name == active, "error": None}
    try:
        found = Cluster.load(name)
    except HpcFlowsError as error:
        # One broken profile must not hide the others.
        row |= {"title": "", "scheduler": "", "partitions": [], "verified_on": None, "file": ""}
        return {**row, "error": str(error)}
    return {
        **row,
        "title": found.title,
        "scheduler": found.scheduler,
        "partitions": list(found.partitions),
        "verified_on": found.verified_on and str(found.verified_on),
        "file": found.file,
    }


def _tilde(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if home != "/" and path.startswith(home + "/") else path


@cluster.command()
@click.argument("name", type=ClusterName(), required=False)
@click.option("--sources", is_flag=True, help="Show where each fact comes from.")
@json_option
def show(name: str | None, sources: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show what a profile says: partitions, limits and rules."""
    found = chosen_cluster(name)
    if as_json:
        print_json({**asdict(found), "defaults": found.defaults.to_dict()})
        return
    click.echo(click.style(f"{found.name}: {found.title}", bold=True))
    print_fields(dict(_fields(found)))
    _print_partitions(found)
    for heading, lines in (("Know this", found.quirks), ("Warnings", found.warnings())):
        if lines:
            click.echo("\n" + click.style(heading, bold=True))
            click.echo("\n".join(f"  - {line}" for line in lines))
    if sources:
        _print_sources(found)
    elif found.facts:
        click.echo(f"\nWhere each fact comes from: hpc-flows cluster show {found.name} --sources")


def _fields(found: Cluster) -> Iterator[tuple[str, str]]:
    yield "profile", found.file
    yield "scheduler", f"{found.scheduler}, reached by {found.transport}"
    yield "status", f"{found.status}, verified on {found.verified_on or 'no date given'}"
    yield "default partition", found.default_partition or "none: the smallest that fits is taken"
    if found.required:
        yield "every job names", ", ".join(found.required)
    if not found.defaults.is_empty():
        yield "unless asked for", found.defaults.describe()
    yield "memory is asked", found.memory.replace("_", " ")
    yield "sbatch from jobs", "allowed" if found.submit_from_jobs else "not allowed"
    yield from _limits(found)
    if found.storage.purged:
        days = count(found.storage.purge_days or 0, "day")
        yield "files are purged", f"after {days}: {', '.join(found.storage.purged)}"
    if found.policies.gpu_idle_hours:
        yield "idle GPUs", f"jobs are killed after {found.policies.gpu_idle_hours:g} h"


def _limits(found: Cluster) -> Iterator[tuple[str, str]]:
    if found.limits.max_array_size:
        yield "largest array", count(found.limits.max_array_size, "element")
    if found.limits.max_submitted:
        yield "most submitted", count(found.limits.max_submitted, "job")
    first, next_, slowest = map(
        duration, (found.poll.first, found.poll.interval, found.poll.slowest)
    )
    yield "queue is asked", f"after {first}, then every {next_} (at rest: {slowest})"


def _print_partitions(found: Cluster) -> None:
    click.echo("\n" + click.style("Partitions", bold=True))
    if not found.partitions:
        click.echo("  The profile names none; the cluster is asked.")
        return
    print_rows(
        ("partition", "walltime", "nodes", "cpus/node", "memory/node", "gpus", "purpose"),
        [_partition_row(partition) for partition in found.partitions.values()],
        right=("walltime", "nodes", "cpus/node", "memory/node"),
    )


def _partition_row(partition: Partition) -> tuple[str, ...]:
    walltime = partition.max_walltime
    least, most = partition.min_nodes or 1, partition.max_nodes
    return (
        partition.name,
        "-" if walltime is None else format_walltime(walltime),
        str(most or "-") if least in {1, most} else f"{least}-{most or ''}",
        str(partition.cpus_per_node or "-"),
        size(partition.memory_per_node),
        ", ".join(f"{kind or 'gpu'}:{n}" for kind, n in partition.gpus.items()) or "-",
        partition.purpose + ("" if partition.automatic else " (only when named)"),
    )


def _print_sources(found: Cluster) -> None:
    click.echo("\n" + click.style("Sources", bold=True))
    about: dict[tuple[str, str, str], list[str]] = {}
    for key, fact in found.facts.items():
        about.setdefault((str(fact.date), fact.title, fact.url), []).append(key)
    for (date, title, url), keys in sorted(about.items(), reverse=True):
        click.echo(f"  {date}  {title}{'  ' + url if url else ''}\n              {', '.join(keys)}")
