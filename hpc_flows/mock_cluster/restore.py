"""Taking up after a restart: jobs, accounting, nodes and faults from the store.

The store begins with the names of all fields that it keeps. One of another layout, which an older
or newer version has written, is put aside, and the mock starts anew.
"""

from __future__ import annotations

import dataclasses
import signal
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster import outages, processes
from hpc_flows.mock_cluster.accounting import Row, Step
from hpc_flows.mock_cluster.cluster import Exit
from hpc_flows.mock_cluster.job import (
    PENDING,
    RUNNING,
    Allocation,
    Job,
    Request,
    request_from_dict,
    request_to_dict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.mock_cluster.service import Service


def killed() -> Exit:
    """Return the end of a job whose processes were killed."""
    return Exit(int(signal.SIGKILL))


def layout() -> dict[str, list[str]]:
    """Return the names of all fields that the store keeps."""
    kept: tuple[type, ...] = (Job, Request, Allocation, Row, Step)
    return {each.__name__: [entry.name for entry in dataclasses.fields(each)] for each in kept}


def load(service: Service) -> None:
    """Read the store into an empty service, adopt what still runs, and set all timers anew."""
    rows, found = _fill_or_begin_anew(service)
    service.store.rewrite(list(_entries(service, found["posts"])))
    for row, due in rows:
        service.cluster.accounting.arrive(row, due)
    for name, state in found["nodes"].items():
        _restore_node(service, name, state)
    for job in list(service.cluster.jobs.values()):
        _take_up(service, job)
    service.cluster.request_pass()


def _fill_or_begin_anew(service: Service) -> tuple[list[tuple[Row, float]], dict[str, Any]]:
    """Fill the service from the store; put the store aside if it cannot be read."""
    found: dict[str, Any] = {}
    why = "another version of hpc_flows wrote it"
    try:
        found = _read(service)
        nothing = not found["jobs"] and not found["posts"]
        if found["layout"] == layout() or nothing:
            return _fill(service, found), found
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        why = f"it cannot be read ({type(error).__name__}: {error})"
    kept = service.store.put_aside()
    cluster = service.cluster
    cluster.jobs, cluster.arrays, cluster.specs = {}, {}, {}
    empty = _nothing()
    for count in ("next", "generation"):
        # Ids go on, so that jobs which still run are not taken for new ones.
        if isinstance(found.get(count), int):
            empty[count] = found[count]
    cluster.next_id, cluster.generation = empty["next"], empty["generation"]
    service.warning = (
        f"The state of this mock cluster was put aside, since {why}; it starts with an empty "
        f"queue and empty accounts. The old state is in {kept}."
    )
    return [], empty


def _nothing() -> dict[str, Any]:
    return {
        "layout": None,
        "next": 1,
        "generation": 0,
        "specs": {},
        "jobs": {},
        "nodes": {},
        "posts": {},
        "faults": None,
    }


def _read(service: Service) -> dict[str, Any]:
    found = _nothing()
    for kind, data in service.store.load():
        if kind in {"layout", "next", "generation", "faults"}:
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


def _fill(service: Service, found: dict[str, Any]) -> list[tuple[Row, float]]:
    """Put what was read into the service; return what is on its way to accounting."""
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
    return [
        (Row.from_dict(post["row"], cluster.specs[post["row"]["spec"]]), post["due"])
        for post in found["posts"]
    ]


def _entries(service: Service, posts: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield what the rewritten store holds."""
    cluster = service.cluster
    yield "layout", layout()
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
