"""Faults that happen at a time: nodes that die, jobs that are killed, ids that begin anew."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import actions, outages, scheduling
from hpc_flows.mock_cluster.faults import INCIDENTS
from hpc_flows.mock_cluster.job import RUNNING, Job, Request
from hpc_flows.mock_cluster.sites import unknown_name

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.faults import Fault
    from hpc_flows.mock_cluster.service import Service


def arm(service: Service, fault: Fault) -> None:
    """Set the timer of a fault that has a time of its own.

    Raises:
        SiteError: it names a node that there is not.
    """
    if fault.kind not in INCIDENTS:
        return
    node = fault.options.get("node")
    if node is not None and node not in service.cluster.nodes:
        raise unknown_name("node of a fault", str(node), list(service.cluster.nodes))
    if fault.spent():
        return
    if "at" in fault.options or not {"after", "percent", "job"} & fault.options.keys():
        due = fault.set_at + fault.number("at", 0.0)
        service.clock.call_at(due, lambda: _at_its_time(service, fault))
        return
    for job in service.cluster.running():
        _arm_for(service, fault, job)


def job_started(service: Service, job: Job) -> None:
    """Set the timers of faults that are to meet a job that starts now."""
    late = service.faults.fire("output_late", job=job.request.name)
    job.output_late = late.number("seconds", 20.0) if late else 0.0
    for fault in service.faults.entries:
        if fault.kind in INCIDENTS and "at" not in fault.options and not fault.spent():
            _arm_for(service, fault, job)


def _arm_for(service: Service, fault: Fault, job: Job) -> None:
    if not fault.matches(job.request.name) or job.start is None:
        return
    if not {"after", "percent", "job"} & fault.options.keys():
        return
    node = fault.options.get("node")
    if node is not None and node not in job.nodes:
        return
    run, wait = job.run, fault.number("after", 0.0)
    if "percent" in fault.options:
        scale = service.site.timings.minute / 60
        wait = (job.limit_seconds or 0.0) * scale * fault.number("percent", 0.0) / 100

    def happen() -> None:
        if job.state == RUNNING and job.run == run and fault in service.faults.entries:
            _meet(service, fault, job)

    service.clock.call_at(job.start + wait, happen)


def _at_its_time(service: Service, fault: Fault) -> None:
    """Let a fault happen to what is there now."""
    if fault not in service.faults.entries:
        return
    if fault.kind in _SITE_WIDE:
        if service.faults.fire_one(fault, None):
            _SITE_WIDE[fault.kind](service, fault)
        return
    for job in list(service.cluster.running()):
        if fault.matches(job.request.name) and not fault.spent():
            _meet(service, fault, job)


def _meet(service: Service, fault: Fault, job: Job) -> None:
    """Let a fault happen to a running job, if it takes its chance."""
    if not service.faults.fire_one(fault, job.request.name):
        return
    cluster, runner = service.cluster, service.runner
    if fault.kind == "node_dies":
        _node_dies(service, fault, str(fault.options.get("node", next(iter(job.nodes)))))
    elif fault.kind == "out_of_memory":
        runner.out_of_memory(job)
    elif fault.kind == "preempt":
        scheduling.preempt(cluster, job)
    elif fault.kind == "requeue":
        actions.requeue(cluster, job, 0)
    elif fault.kind == "kill":
        number = int(fault.number("signal", signal.SIGKILL))
        runner.signal(job, number, batch=True, steps=True)
    elif fault.kind == "job_vanishes":
        outages.vanish(cluster, job)


def _node_dies(service: Service, fault: Fault, node: str) -> None:
    outages.cut_power(service.cluster, node)
    if "back_after" in fault.options:
        wait = fault.number("back_after", 0.0)
        service.clock.call_in(wait, lambda: outages.bring_back(service.cluster, node))


def _named_node_dies(service: Service, fault: Fault) -> None:
    _node_dies(service, fault, str(fault.options.get("node", next(iter(service.cluster.nodes)))))


def _drain(service: Service, fault: Fault) -> None:
    node = str(fault.options.get("node", next(iter(service.cluster.nodes))))
    outages.drain(service.cluster, node, fault.text("reason", "drained by a fault"))


def _reset_ids(service: Service, fault: Fault) -> None:
    outages.reset_ids(service.cluster, int(fault.number("to", 1)))


def _foreign_job(service: Service, fault: Fault) -> None:
    """Queue a job of another user; it holds its nodes and runs nothing."""
    partition = service.site.default_partition or next(iter(service.site.partitions.values()))
    user = fault.text("user", "mallory")
    account = service.site.default_account
    request = Request(
        fault.text("job_name", "a|b\tc"), -2, -2, user, partition.name, account, "normal"
    )
    request.comment = fault.options.get("comment")
    request.time_limit = partition.default_time or partition.max_time or 60
    service.cluster.submit(request)


_SITE_WIDE = {
    "node_dies": _named_node_dies,
    "node_drained": _drain,
    "id_reset": _reset_ids,
    "foreign_job": _foreign_job,
}
