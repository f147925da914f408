"""One pass of the pretend scheduler: who may start, who starts where, and why the others wait.

First come, first served by priority, with backfill: a later job may go ahead where it does not
delay the first job that waits for resources.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import dependencies
from hpc_flows.mock_cluster.job import CANCELLED, DEADLINE, PENDING, PREEMPTED, RUNNING
from hpc_flows.mock_cluster.placement import Node, candidates, place

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.cluster import Cluster
    from hpc_flows.mock_cluster.job import Allocation, Job
    from hpc_flows.mock_cluster.sites import PartitionSpec

NODES_DOWN = (
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
)
_NEVER = "DependencyNeverSatisfied"


class _Pass:
    """What one pass remembers: shapes that did not fit, and nodes kept for the first in line."""

    def __init__(self) -> None:
        self.refused: set[tuple[object, ...]] = set()
        self.waiting: set[str] = set()
        self.kept: dict[str, tuple[float, set[str]]] = {}


def run_pass(cluster: Cluster) -> None:
    """Look once at every waiting job."""
    state = _Pass()
    queue = [job for job in cluster.pending() if make_eligible(cluster, job)]
    queue.sort(key=lambda job: (-cluster.partition_of(job).tier, -job.priority, job.submit, job.id))
    for job in queue:
        _consider(cluster, state, job)


def make_eligible(cluster: Cluster, job: Job) -> bool:
    """Return whether a job may start as far as holds, dependencies and begin times go."""
    now = cluster.clock.now()
    if job.held:
        job.reason = job.held
        return False
    if job.dependencies and not _dependencies_met(cluster, job):
        return False
    if job.begin is not None and job.begin > now:
        job.reason = "BeginTime"
        job.eligible = job.begin
        _announce(cluster, job)
        cluster.clock.call_at(job.begin, cluster.request_pass)
        return False
    job.begin = None
    if job.eligible is None or job.eligible > now:
        job.eligible = now
    _announce(cluster, job)
    return True


def _announce(cluster: Cluster, job: Job) -> None:
    """Tell accounting of a waiting job once; it is blind to held and dependent ones."""
    if not job.posted:
        job.posted = True
        cluster.post(job)


def _dependencies_met(cluster: Cluster, job: Job) -> bool:
    name, user = job.request.name, job.request.user
    peers = (
        other
        for other in cluster.jobs.values()
        if other.active and other.request.name == name and other.request.user == user
    )
    result = dependencies.settle(job, cluster.records, peers)
    if result == dependencies.MET:
        return True
    job.reason = _NEVER if result == dependencies.NEVER else "Dependency"
    if result == dependencies.NEVER and job.request.kill_invalid:
        job.state, job.reason = CANCELLED, "Dependency"
        job.start = job.end = cluster.clock.now()
        cluster.close(job)
    return False


def _consider(cluster: Cluster, state: _Pass, job: Job) -> None:
    """Start a job, or as many elements of an array as fit; else say why it waits."""
    job.last_eval = cluster.clock.now()
    partition = cluster.partition_of(job)
    barrier = _barrier(cluster, partition, job)
    if barrier:
        job.reason = barrier
        return
    while job.state == PENDING and (not job.is_common or job.waiting):
        if _throttled(cluster, job):
            job.reason = "JobArrayTaskLimit"
            return
        share = _find_place(cluster, state, partition, job)
        if share is None:
            return
        _start_one(cluster, job, share)


def _start_one(cluster: Cluster, job: Job, share: dict[str, Allocation]) -> None:
    if not job.is_common:
        cluster.start(job, share)
        return
    element = cluster.split(job, job.waiting[0])
    cluster.start(element, share)
    if element is not job:
        cluster.save(job)


def _barrier(cluster: Cluster, partition: PartitionSpec, job: Job) -> str:
    """Return the reason that keeps a job from running whatever is free, or an empty text."""
    if partition.state != "UP":
        return "PartitionDown" if partition.state == "DOWN" else "PartitionInactive"
    site = cluster.site
    if job.request.account in site.spent_accounts:
        return "AssocGrpCPUMinutesLimit"
    qos = site.qos.get(job.request.qos or "")
    if qos is None:
        return ""
    if qos.max_wall is not None and (job.time_limit or 0) > qos.max_wall:
        return "QOSMaxWallDurationPerJobLimit"
    if qos.max_jobs is not None:
        running = [
            other
            for other in cluster.running()
            if other.request.qos == qos.name and other.request.user == job.request.user
        ]
        if len(running) >= qos.max_jobs:
            return "QOSMaxJobsPerUserLimit"
    return ""


def _throttled(cluster: Cluster, job: Job) -> bool:
    most = job.request.throttle
    if not most or job.array_id is None:
        return False
    members = cluster.records(job.array_id)
    return sum(1 for other in members if other.state == RUNNING or other.completing) >= most


def _find_place(
    cluster: Cluster, state: _Pass, partition: PartitionSpec, job: Job
) -> dict[str, Allocation] | None:
    shape = job.request.shape()
    if shape in state.refused:
        job.reason = "Priority"
        return None
    nodes = [node for node in candidates(job.request, partition, cluster.nodes) if node.usable]
    free = [node for node in nodes if _may_backfill(cluster, state, job, node.spec.name)]
    share = place(job.request, partition, free)
    if share is not None:
        return share
    state.refused.add(shape)
    if not nodes or place(job.request, partition, _emptied(cluster, nodes)) is None:
        job.reason = NODES_DOWN
    elif partition.name in state.waiting:
        job.reason = "Priority"
    else:
        job.reason = "Resources"
        state.waiting.add(partition.name)
        _keep_nodes(cluster, state, partition, job)
        _preempt(cluster, partition, job)
    return None


def _emptied(cluster: Cluster, nodes: list[Node]) -> list[Node]:
    return [Node.empty(cluster.site.nodes[node.spec.name]) for node in nodes]


def _may_backfill(cluster: Cluster, state: _Pass, job: Job, node: str) -> bool:
    """Return whether a job may use a node without delaying a job before it."""
    kept = [due for due, names in state.kept.values() if node in names]
    if not kept:
        return True
    limit = job.limit_seconds
    if limit is None:
        return False
    seconds = limit * cluster.site.timings.minute / 60
    return cluster.clock.now() + seconds <= min(kept)


def _keep_nodes(cluster: Cluster, state: _Pass, partition: PartitionSpec, job: Job) -> None:
    """Keep the nodes where the first job in line can start for it, until then."""
    due, share = expected_start(cluster, job)
    if share:
        state.kept[partition.name] = (due, set(share))


def expected_start(cluster: Cluster, job: Job) -> tuple[float, dict[str, Allocation]]:
    """Return when a job can start if all others run to their limits, and what it gets then.

    The share is empty where not even the end of all running jobs makes room.
    """
    scale = cluster.site.timings.minute / 60
    partition = cluster.partition_of(job)
    ends = sorted(
        ((other.start or 0.0) + (other.limit_seconds or 0.0) * scale, other.id, other)
        for other in cluster.running()
    )

    def share_after(count: int) -> dict[str, Allocation] | None:
        return _place_without(cluster, partition, job, [other for _, _, other in ends[:count]])

    count = bisect_left(range(len(ends)), True, key=lambda n: share_after(n + 1) is not None)
    share = share_after(count + 1) or {}
    due = ends[min(count, len(ends) - 1)][0] if ends else cluster.clock.now()
    return max(due, cluster.clock.now()), share


def _place_without(
    cluster: Cluster, partition: PartitionSpec, job: Job, gone: list[Job]
) -> dict[str, Allocation] | None:
    """Return what a job would get if some running jobs were not there."""
    trial = {name: node.copy() for name, node in cluster.nodes.items()}
    for other in gone:
        for name, held in other.nodes.items():
            trial[name].release(held)
    usable = [node for node in candidates(job.request, partition, trial) if node.usable]
    return place(job.request, partition, usable)


def _preempt(cluster: Cluster, partition: PartitionSpec, job: Job) -> None:
    """Stop preemptible jobs of lower partitions, the youngest first, if that makes room."""
    lower = [
        other
        for other in cluster.running()
        if cluster.partition_of(other).preempt and cluster.partition_of(other).tier < partition.tier
    ]
    victims: list[Job] = []
    for other in sorted(lower, key=lambda j: -(j.start or 0.0)):
        victims.append(other)
        if _place_without(cluster, partition, job, victims) is not None:
            for victim in victims:
                preempt(cluster, victim)
            return


def preempt(cluster: Cluster, job: Job) -> None:
    """Take the nodes from a running job; it is queued again if it may be."""
    if job.state != RUNNING:
        return
    if job.request.requeue:
        job.ending = PREEMPTED
    else:
        job.state = PREEMPTED
    cluster.stop_processes(job, "DUE TO PREEMPTION")


def queue_again(cluster: Cluster, job: Job) -> None:
    """Put a stopped job back into the queue under its id, with the site's delay."""
    why, job.ending = job.ending, ""
    hold = job.held
    cluster.post(job, why)
    now = cluster.clock.now()
    job.state, job.run, job.restarts = PENDING, job.run + 1, job.restarts + 1
    job.submit, job.begin = now, now + cluster.site.timings.requeue_delay
    job.start = job.end = job.eligible = None
    job.nodes, job.status, job.posted = {}, 0, why != PREEMPTED
    job.oom = False
    job.reason = hold or "BeginTime"
    make_eligible(cluster, job)
    cluster.save(job)
    cluster.request_pass()


def past_deadline(cluster: Cluster, job: Job) -> None:
    """End a job that did not start before its deadline."""
    if job.state != PENDING:
        return
    job.state, job.status, job.end = DEADLINE, 1 << 8, cluster.clock.now()
    job.reason = "DeadLine"
    cluster.close(job)
