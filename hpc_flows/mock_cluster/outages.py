"""What befalls a cluster: nodes that die and return, jobs that vanish, ids that begin anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import scheduling
from hpc_flows.mock_cluster.job import NODE_FAIL, RUNNING, Job

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.cluster import Cluster
    from hpc_flows.mock_cluster.placement import Node


#: Accounting tells the runs of one id apart by number; reused ids begin at the next such step.
RUNS_PER_GENERATION = 1000


def jobs_on(cluster: Cluster, node: str) -> list[Job]:
    """Return the jobs that hold a node."""
    return [job for job in cluster.running() if node in job.nodes]


def cut_power(cluster: Cluster, name: str) -> None:
    """Let a node die: its processes are gone now, the controller finds out by and by."""
    node = cluster.nodes[name]
    for job in jobs_on(cluster, name):
        cluster.runner.power_cut(job)
    wait = cluster.site.timings.slurmd_timeout
    cluster.clock.call_in(wait, lambda: _stops_responding(cluster, node))
    cluster.clock.call_in(2 * wait, lambda: mark_down(cluster, name))
    cluster.store.write("node", {"name": name, "dying": cluster.clock.now()})


def _stops_responding(cluster: Cluster, node: Node) -> None:
    node.responding = False
    cluster.request_pass()


def mark_down(cluster: Cluster, name: str, reason: str = "Not responding") -> None:
    """Call a node down and end or requeue what ran on it."""
    node = cluster.nodes[name]
    node.down, node.responding, node.reason = True, False, reason
    node.reason_time, node.reason_user = cluster.clock.now(), "slurm"
    for job in jobs_on(cluster, name):
        lose(cluster, job, name)
    save_node(cluster, name)
    cluster.request_pass()


def lose(cluster: Cluster, job: Job, node: str) -> None:
    """End, requeue or shrink a job whose node is gone."""
    if job.request.no_kill and len(job.nodes) > 1 and job.state == RUNNING:
        _shrink(cluster, job, node)
        return
    cluster.runner.power_cut(job)
    job.completing, job.pid, job.end = False, 0, cluster.clock.now()
    cluster.release(job)
    if job.state == RUNNING and job.request.requeue and job.request.batch:
        scheduling.queue_again(cluster, _with_ending(job))
        return
    if job.state == RUNNING:
        job.state, job.reason = NODE_FAIL, "NodeDown"
    job.ending = ""
    cluster.close(job)


def _with_ending(job: Job) -> Job:
    job.ending = NODE_FAIL
    return job


def _shrink(cluster: Cluster, job: Job, node: str) -> None:
    """Let a job go on with the nodes that are left (`sbatch -k`)."""
    job.end = cluster.clock.now()
    cluster.post(job, "RESIZING")
    cluster.nodes[node].release(job.nodes.pop(node))
    job.run, job.end = job.run + 1, None
    cluster.watch_limits(job)
    cluster.save(job)
    cluster.post(job)


def bring_back(cluster: Cluster, name: str) -> None:
    """Let a node return to service."""
    node = cluster.nodes[name]
    node.down, node.drained, node.responding, node.reason = False, False, True, ""
    save_node(cluster, name)
    cluster.request_pass()


def drain(cluster: Cluster, name: str, reason: str) -> None:
    """Take a node out of service for new jobs."""
    node = cluster.nodes[name]
    node.drained, node.reason = True, reason
    node.reason_time, node.reason_user = cluster.clock.now(), "root"
    save_node(cluster, name)
    cluster.request_pass()


def save_node(cluster: Cluster, name: str) -> None:
    """Write a node's state down."""
    node = cluster.nodes[name]
    state = {"name": name, "down": node.down, "drained": node.drained, "reason": node.reason}
    cluster.store.write("node", {**state, "responding": node.responding})


def vanish(cluster: Cluster, job: Job) -> None:
    """Lose a job from queue and accounting, as a controller killed too early does."""
    cluster.runner.power_cut(job)
    if job.state == RUNNING or job.completing:
        cluster.release(job)
    job.state, job.completing = NODE_FAIL, False
    cluster.forget(job)
    cluster.accounting.forget(job.id)


def reset_ids(cluster: Cluster, number: int) -> None:
    """Begin ids anew at a number, so that old ids are handed out a second time.

    The queue forgets ended jobs with an id from there on; accounting keeps them beside the new.
    """
    for job in [j for j in cluster.jobs.values() if j.id >= number and j.ended]:
        cluster.forget(job)
    cluster.next_id = number
    cluster.generation += RUNS_PER_GENERATION
    cluster.store.write("next", number)
    cluster.store.write("generation", cluster.generation)
