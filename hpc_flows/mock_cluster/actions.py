"""What users and administrators do to jobs: cancel, hold, release, requeue, change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import scheduling
from hpc_flows.mock_cluster.job import (
    CANCELLED,
    HELD_BY_ADMIN,
    HELD_BY_USER,
    PENDING,
    REQUEUED,
    RUNNING,
    Job,
)

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.cluster import Cluster

NOT_PERMITTED = "Access/permission denied"
IS_PENDING = "Job is pending execution"
ALREADY_ENDED = "Job/step already completing or completed"


class ActionError(Exception):
    """The controller will not do it; the text is Slurm's."""


def may_touch(job: Job, uid: int) -> bool:
    """Return whether a user may change a job: its owner and root may."""
    return uid in {0, job.request.uid}


def cancel(cluster: Cluster, job: Job, uid: int) -> None:
    """Cancel a job that has not ended; an ended one is left alone."""
    if job.state == PENDING:
        _cancel_waiting(cluster, job, uid)
    elif job.state == RUNNING or (job.completing and job.ending):
        job.state, job.ending, job.cancelled_by = CANCELLED, "", uid
        cluster.stop_processes(job)


def _cancel_waiting(cluster: Cluster, job: Job, uid: int) -> None:
    """Cancel a waiting record; an array's common one keeps its elements, as it does in Slurm."""
    now = cluster.clock.now()
    job.state, job.cancelled_by = CANCELLED, uid
    job.eligible = job.eligible if job.eligible and job.eligible <= now else now
    job.start = job.end = now
    cluster.close(job)


def collapse(cluster: Cluster, job: Job, uid: int) -> None:
    """Cancel as `scancel --name` does: waiting elements end as one record without any."""
    was_waiting = job.is_common and job.state == PENDING
    cancel(cluster, job, uid)
    if was_waiting:
        job.collapsed = True
        cluster.save(job)


def cancel_element(cluster: Cluster, array: int, element: int, uid: int) -> None:
    """Cancel one element of an array; one that never was, or has ended, is left alone."""
    for job in cluster.records(array):
        if job.task == element:
            cancel(cluster, job, uid)
            return
        if job.is_common and element in job.waiting and job.state == PENDING:
            if len(job.waiting) == 1:
                cancel(cluster, job, uid)
                return
            # A waiting element that is cancelled leaves no trace: neither queue nor accounting
            # knows it afterwards (seen on 22.05).
            job.waiting.remove(element)
            cluster.save(job)
            cluster.tell(job)
            return


def signal(cluster: Cluster, job: Job, number: int, *, batch: bool, everything: bool) -> None:
    """Send a signal to a running job: to its steps, its batch script, or both."""
    if job.state == RUNNING:
        steps = everything or not batch
        cluster.runner.signal(job, number, batch=batch or everything, steps=steps)


def hold(cluster: Cluster, job: Job, uid: int) -> None:
    """Keep a waiting job from starting.

    Raises:
        ActionError: it is someone else's.
    """
    _check_owner(job, uid)
    if job.state == PENDING:
        as_admin = uid == 0 and job.request.uid != 0
        job.held = HELD_BY_ADMIN if as_admin else HELD_BY_USER
        job.priority, job.reason = 0, job.held
        cluster.save(job)


def release(cluster: Cluster, job: Job, uid: int) -> None:
    """Let a held job start.

    Raises:
        ActionError: it is someone else's, or an administrator held it.
    """
    _check_owner(job, uid)
    if job.held == HELD_BY_ADMIN and uid != 0:
        raise ActionError(NOT_PERMITTED)
    job.held, job.priority = "", 1000
    if job.state == PENDING:
        job.reason = "None"
    cluster.save(job)
    cluster.request_pass()


def requeue(cluster: Cluster, job: Job, uid: int, *, hold_it: bool = False) -> None:
    """Stop a job and queue it again under its id.

    Raises:
        ActionError: it waits already, or it is someone else's.
    """
    _check_owner(job, uid)
    if job.state == PENDING:
        if hold_it:
            hold(cluster, job, uid)
        raise ActionError(IS_PENDING)
    if job.completing or not job.request.batch:
        raise ActionError(ALREADY_ENDED)
    if hold_it:
        job.held, job.priority = HELD_BY_USER, 0
    job.ending = REQUEUED
    if job.state == RUNNING:
        cluster.stop_processes(job)
    else:
        scheduling.queue_again(cluster, job)
        job.reason = job.held or "None"


def _check_owner(job: Job, uid: int) -> None:
    if not may_touch(job, uid):
        raise ActionError(NOT_PERMITTED)
