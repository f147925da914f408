"""`hpc-flows cluster check`: is what the profile says true, and is this machine ready?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING

import click

from hpc_flows.cli.cluster import ClusterName, chosen_cluster
from hpc_flows.cli.command import Command, json_option
from hpc_flows.cli.terminal import console, count, duration, is_unicode, print_json, size
from hpc_flows.exceptions import HpcFlowsError, SchedulerUnavailable
from hpc_flows.schedulers.opening import open_scheduler
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.clusters import Cluster
    from hpc_flows.schedulers.base import SchedulerInfo

_COMMANDS = {"slurm": ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun")}

#: Free space in the home below which results of ordinary size may not fit: 1 GB.
_LITTLE_SPACE = 10**9

#: Seconds for the interpreter of the nodes to say its version.
_PYTHON_PATIENCE = 30


class Verdict(Enum):
    """How a check came out."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        about: a word or two.
        verdict: how it came out.
        found: what was found and, where it is not good, what to do.
    """

    about: str
    verdict: Verdict
    found: str


@click.command(cls=Command, short_help="Compare a profile with the live cluster.")
@click.argument("name", type=ClusterName(), required=False)
@json_option
def check(name: str | None, as_json: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Compare a profile with the live cluster, and see whether this machine is ready for it.

    Looks at the scheduler's commands, whether it answers, accounting, limits that differ from the
    profile's, the interpreter for the jobs, and the folder of runs. Submits nothing. The exit
    status is 1 when something would keep flows from running.
    """
    chosen = chosen_cluster(name)
    checks = []
    for made in all_checks(chosen):
        checks.append(made)
        if not as_json:
            _print(made)
    if as_json:
        rows = [{**asdict(made), "verdict": made.verdict.value} for made in checks]
        print_json({"cluster": chosen.name, "checks": rows})
    bad = sum(made.verdict is Verdict.BAD for made in checks)
    if bad and not as_json:
        click.echo(f"\n{count(bad, 'thing')} to mend before flows can run on {chosen.name}.")
    return 1 if bad else 0


def _print(made: Check) -> None:
    glyphs = "✓!✗" if is_unicode(console()) else "+!x"
    glyph, colour = {
        Verdict.GOOD: (glyphs[0], "green"),
        Verdict.WARNING: (glyphs[1], "yellow"),
        Verdict.BAD: (glyphs[2], "red"),
    }[made.verdict]
    text = made.found.replace("\n", "\n" + " " * 17)
    click.echo(f"{click.style(glyph, fg=colour, bold=True)} {made.about:<14} {text}")


def all_checks(cluster: Cluster) -> Iterator[Check]:
    """Look at everything, one thing after the other; nothing is submitted."""
    yield from _profile(cluster)
    commands = list(_commands(cluster))
    yield from commands
    if all(made.verdict is not Verdict.BAD for made in commands):
        yield from _live(cluster)
    yield _python(cluster)
    yield from _home(cluster)


def _profile(cluster: Cluster) -> Iterator[Check]:
    warnings = cluster.warnings()
    for warning in warnings:
        yield Check("profile", Verdict.WARNING, warning)
    if not warnings:
        yield Check("profile", Verdict.GOOD, f"{cluster.file}, verified on {cluster.verified_on}")
    given = cluster.defaults.to_dict() | ({"account": cluster.account} if cluster.account else {})
    for name in cluster.required:
        if name not in given and name != "partition":
            how = f" To see yours: {cluster.ask[name]}." if name in cluster.ask else ""
            yield Check(
                name,
                Verdict.WARNING,
                f"every job must name it, and the profile does not.{how}\n"
                f"Give it in each task's Resources, or for all tasks in a profile that extends "
                f"this one: {get_settings().home}/clusters/{cluster.name}.toml",
            )


def _commands(cluster: Cluster) -> Iterator[Check]:
    wanted = _COMMANDS.get(cluster.scheduler, ())
    # What starts its own scheduler must not be answered by another one that the machine has.
    others = [] if cluster.start else [os.environ.get("PATH", "")]
    path = os.pathsep.join([*cluster.path, *others])
    found = {name: shutil.which(name, path=path) for name in wanted}
    missing = [name for name, place in found.items() if place is None]
    if not missing:
        folders = sorted({os.path.dirname(place) for place in found.values() if place})
        if folders:
            yield Check("commands", Verdict.GOOD, f"{', '.join(wanted)} in {', '.join(folders)}")
        return
    if cluster.start and len(missing) == len(wanted):
        # The mock's commands come with its first start.
        start = f"`{_starter(cluster)}` starts it, and so does its first use"
        yield Check("commands", Verdict.BAD, f"{cluster.name} was never started: {start}.")
        return
    where = f" nor in {', '.join(cluster.path)}" if cluster.path else ""
    yield Check(
        "commands",
        Verdict.BAD,
        f"{', '.join(missing)}: not on PATH{where}. Log in to a node that has them, load the "
        "site's module, or name their folder as `path` in the profile.",
    )


def _starter(cluster: Cluster) -> str:
    return f"hpc-flows mock start --name {cluster.name}"


def _live(cluster: Cluster) -> Iterator[Check]:
    try:
        info = open_scheduler(cluster).describe()
    except SchedulerUnavailable as error:
        how = f" Start it: {_starter(cluster)}" if cluster.start else ""
        yield Check("scheduler", Verdict.BAD, f"{error}{how}")
        return
    except HpcFlowsError as error:
        yield Check("scheduler", Verdict.BAD, str(error))
        return
    yield Check("scheduler", Verdict.GOOD, _described(info))
    yield _accounting(info)
    yield from _limits(cluster, info)


def _described(info: SchedulerInfo) -> str:
    parts = [f"{info.kind} {info.version}"]
    if info.cluster:
        parts.append(f"cluster {info.cluster}")
    parts.append(count(len(info.partitions), "partition"))
    down = [name for name, partition in info.partitions.items() if not partition.up]
    if down:
        parts.append(f"down: {', '.join(down)}")
    return ", ".join(parts)


def _accounting(info: SchedulerInfo) -> Check:
    if info.accounting:
        return Check("accounting", Verdict.GOOD, "sacct answers")
    memory = duration(info.forgets_after) if info.forgets_after else "a while"
    return Check(
        "accounting",
        Verdict.WARNING,
        f"sacct has no history here. The queue forgets ended jobs after {memory}; causes of "
        "crashes may stay unknown for jobs that nobody watched.",
    )


def _limits(cluster: Cluster, info: SchedulerInfo) -> Iterator[Check]:
    differing = cluster.differences(info.partitions.values())
    mine, theirs = cluster.limits.max_array_size, info.max_array_size
    if mine is not None and theirs is not None and mine > theirs:
        differing.append(f"limits.max_array_size is {mine} in the profile and {theirs} there.")
    if cluster.default_partition and cluster.default_partition not in info.partitions:
        differing.append(f"The default partition {cluster.default_partition!r} is not there.")
    for text in differing:
        yield Check("limits", Verdict.WARNING, text)
    if not differing:
        known = count(len(cluster.partitions), "partition") if cluster.partitions else "it"
        yield Check("limits", Verdict.GOOD, f"the cluster says of {known} what the profile says")


def _python(cluster: Cluster) -> Check:
    interpreter = cluster.python
    if interpreter is None:
        return Check("python", Verdict.GOOD, f"jobs use this one, {sys.executable}")
    version, trouble = _ask_python(interpreter)
    if trouble:
        return Check(
            "python",
            Verdict.WARNING,
            f"{interpreter} cannot be tried here ({trouble}); it may still be on the nodes.",
        )
    return Check("python", Verdict.GOOD, f"{interpreter}: Python {version}, with hpc-flows")


def _ask_python(interpreter: str) -> tuple[str, str]:
    code = "import platform, hpc_flows; print(platform.python_version())"
    try:
        done = subprocess.run(
            [interpreter, "-c", code],
            capture_output=True,
            text=True,
            timeout=_PYTHON_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    last = done.stderr.strip().rpartition("\n")[2]
    return done.stdout.strip(), last if done.returncode else ""


def _home(cluster: Cluster) -> Iterator[Check]:
    home = get_settings().home
    existing = home
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Check(
            "home",
            Verdict.BAD,
            f"{home} cannot be written. Set HPC_FLOWS_HOME to a folder that you may write and that "
            "the nodes see.",
        )
        return
    free = shutil.disk_usage(existing).free
    verdict = Verdict.GOOD if free > _LITTLE_SPACE else Verdict.WARNING
    nodes = "" if cluster.start else "; the nodes must see it under the same path"
    yield Check("home", verdict, f"{home}, {size(free)} free{nodes}")
