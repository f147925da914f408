"""Getting hold of a cluster's scheduler: started where it is ours to start, and described."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from hpc_flows.exceptions import ClusterError, CommandNotFound, SchedulerUnavailable
from hpc_flows.schedulers.opening import open_scheduler
from hpc_flows.schedulers.slurm_commands import without_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.clusters import Cluster
    from hpc_flows.schedulers.base import Scheduler

#: Seconds that the command which starts a scheduler may take.
START_TIMEOUT = 60.0


def check_place(cluster: Cluster, environ: dict[str, str] | None = None) -> None:
    """Refuse to submit from inside a job where the site forbids that.

    Raises:
        ClusterError: this process is part of a job.
    """
    job = (os.environ if environ is None else environ).get("SLURM_JOB_ID")
    if job and not cluster.submit_from_jobs:
        raise ClusterError(
            f"{cluster.title or cluster.name} does not allow jobs to submit jobs, and this process "
            f"is part of job {job}. Start the flow on a login node; or run it inside of the job "
            "with no cluster active (HPC_FLOWS_CLUSTER=), where tasks share what the job has."
        )


def reach(cluster: Cluster, warn: Callable[[str], None] | None = None) -> tuple[Cluster, Scheduler]:
    """Return the cluster, completed by what its scheduler says, and the scheduler.

    A cluster whose profile has a command that starts it is started first; the command leaves one
    that runs as it is.

    Args:
        cluster: the cluster.
        warn: takes what that command says on its standard error, for the user.

    Raises:
        SchedulerUnavailable: it does not answer.
        ClusterError: this machine has no such scheduler, or the profile is wrong.
    """
    scheduler = open_scheduler(cluster)
    if cluster.start:
        # Before anything is asked: without its own commands first on PATH, a real cluster that
        # this machine has would answer for it, and get its jobs.
        said = _start(cluster)
        if said and warn is not None:
            warn(said)
    elif cluster.partitions:
        return cluster, scheduler
    try:
        return cluster.with_live(scheduler.describe()), scheduler
    except SchedulerUnavailable as error:
        # Waiting helps where a scheduler is down, not where there is none.
        if not isinstance(error.__cause__, CommandNotFound):
            raise
        raise ClusterError(
            f"Cluster {cluster.name!r} cannot be used from this machine: {error.__cause__} "
            "`hpc-flows cluster ls` lists the clusters that are known."
        ) from error


def _start(cluster: Cluster) -> str:
    """Start a cluster; return its command's complaints."""
    command = " ".join(cluster.start)
    try:
        done = subprocess.run(
            cluster.start,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
            check=False,
            # What it starts outlives this process, and starts the jobs of other runs, too.
            env=without_keys(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"The scheduler of {cluster.name} cannot be started: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise ClusterError(
            f"The scheduler of {cluster.name} cannot be started: `{command}` ended with status "
            f"{done.returncode}: {said}"
        )
    return done.stderr.strip()
