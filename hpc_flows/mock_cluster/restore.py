"""Taking up after a restart: jobs, accounting, nodes and faults from the store."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster import outages, processes
from hpc_flows.mock_cluster.accounting import Row
from hpc_flows.mock_cluster.cluster import Exit
from hpc_flows.mock_cluster.job import PENDING, RUNNING, Job, request_from_dict, request_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.mock_cluster.service import Service


def killed() -> Exit:
    """Return the end of a job whose processes were killed."""
    return Exit(int(signal.SIGKILL))


def load(service: Service) -> None:
    """Read the store into an empty service, adopt what still runs, and set all timers anew."""
    found = _read(service)
    _fill(service, found)
    service.store.rewrite(list(_entries(service, found["posts"])))
    for post in found["posts"]:
        table = post["row"]
        request = service.cluster.specs[table["spec"]]
        service.cluster.accounting.arrive(Row.from_dict(table, request), post["due"])
    for name, state in found["nodes"].items():
        _restore_node(service, name, state)
    for job in list(service.cluster.jobs.values()):
        _take_up(service, job)
    service.cluster.request_pass()


def _read(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = {
        "next": 1,
        "generation": 0,
        "specs": {},
        "jobs": {},
        "nodes": {},
        "posts": {},
        "faults": None,
    }
    for kind, data in service.store.load():
        if kind in {"next", "generation", "faults"}:
            found[kind] = data
        elif kind == "spec":
            found["specs"][data["id"]] = data["request"]
        elif kind == "job":
            found["jobs"][data["id"]] = data
        elif kind == "gone":
            found["jobs"].pop(data, None)
        elif kind == "node":
            found["nodes"].setdefault(data["name"], {}).update(data)
        elif kind == "acct":
            row = data["row"]
            found["posts"][row["job"], row["run"]] = data
        elif kind == "lost":
            for key in [key for key in found["posts"] if key[0] == data]:
                del found["posts"][key]
    found["posts"] = list(found["posts"].values())
    return found


def _fill(service: Service, found: dict[str, Any]) -> None:
    cluster = service.cluster
    cluster.next_id, cluster.generation = found["next"], found["generation"]
    used = {table["spec"] for table in found["jobs"].values()}
    used |= {post["row"]["spec"] for post in found["posts"]}
    cluster.specs = {
        number: request_from_dict(table)
        for number, table in found["specs"].items()
        if number in used
    }
    for number, table in found["jobs"].items():
        job = Job.from_dict(table, cluster.specs[table["spec"]])
        cluster.jobs[number] = job
        if job.array_id is not None:
            cluster.arrays.setdefault(job.array_id, []).append(number)
    if found["faults"]:
        service.faults.replace(found["faults"])


def _entries(service: Service, posts: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield what the rewritten store holds."""
    cluster = service.cluster
    yield "next", cluster.next_id
    yield "generation", cluster.generation
    yield "faults", service.faults.to_dict()
    for number, request in cluster.specs.items():
        yield "spec", {"id": number, "request": request_to_dict(request)}
    for job in cluster.jobs.values():
        yield "job", job.to_dict()
    for post in posts:
        yield "acct", post
    for name, node in cluster.nodes.items():
        if not node.usable:
            yield "node", {"name": name, "down": node.down, "drained": node.drained}


def _restore_node(service: Service, name: str, state: dict[str, Any]) -> None:
    node = service.cluster.nodes.get(name)
    if node is None:
        return
    node.down, node.drained = state.get("down", False), state.get("drained", False)
    node.responding = state.get("responding", not node.down)
    node.reason = state.get("reason", "")
    if "dying" in state and "down" not in state:
        due = state["dying"] + 2 * service.site.timings.slurmd_timeout
        service.clock.call_at(due, lambda: outages.mark_down(service.cluster, name))


def _take_up(service: Service, job: Job) -> None:
    """Adopt a running job, or finish one that ended meanwhile; forget ended ones in time."""
    cluster, runner = service.cluster, service.runner
    if job.state == RUNNING or job.completing:
        for name, held in job.nodes.items():
            cluster.nodes[name].take(held)
        cluster.watch_limits(job)
        if job.pid and processes.is_alive(job.pid, job.pid_born):
            runner.track(job, adopted=True)
            if job.completing:
                cluster.clock.call_in(cluster.site.timings.kill_wait, lambda: runner.kill(job))
        elif job.request.batch and runner.has_report(job):
            cluster.clock.call_in(0.0, lambda: cluster.finish(job, runner.read_exit(job)))
        elif job.request.uid >= 0:
            node = next(iter(job.nodes), "")
            cluster.clock.call_in(0.0, lambda: outages.lose(cluster, job, node))
    elif job.state == PENDING:
        if job.begin is not None:
            cluster.clock.call_at(job.begin, cluster.request_pass)
    else:
        cluster.forget_later(job)
