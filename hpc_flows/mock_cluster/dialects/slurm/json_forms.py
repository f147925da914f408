"""`--json` of squeue and sacct, in the forms of 22.05 and of 24.11.

22.05 prints bare values and knows no filters; 24.11 prints lists of states and objects with `set`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster.dialects.slurm.environment import output_paths
from hpc_flows.mock_cluster.dialects.slurm.fields import View
from hpc_flows.mock_cluster.hostlist import compress_hosts
from hpc_flows.mock_cluster.job import clean_status

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.accounting import Row
    from hpc_flows.mock_cluster.job import Job
    from hpc_flows.mock_cluster.service import Service

_NEWER = (23, 2)
_TOP_PRIORITY = 4294901760


def is_new(service: Service) -> bool:
    """Return whether the played version has the newer form."""
    return service.site.release >= _NEWER


def squeue_document(service: Service, jobs: list[Job]) -> str:
    """Return `squeue --json` of jobs."""
    views = [View(service.cluster, job, {}) for job in jobs]
    if is_new(service):
        body = {"jobs": [_new_job(view) for view in views], **_new_tail(service, "squeue")}
        return _dump(body) + "\n"
    return _old_document(service, "openapi/v0.0.38", "Slurm OpenAPI", [_old_job(v) for v in views])


def sacct_document(service: Service, rows: list[Row]) -> str:
    """Return `sacct --json` of rows."""
    if is_new(service):
        body = {"jobs": [_row(service, row, new=True) for row in rows]}
        return _dump({**body, **_new_tail(service, "sacct")}) + "\n"
    jobs = [_row(service, row, new=False) for row in rows]
    return _old_document(service, "openapi/dbv0.0.38", "Slurm OpenAPI DB", jobs)


def _old_document(service: Service, kind: str, name: str, jobs: list[dict[str, Any]]) -> str:
    major, minor, micro = (int(part) for part in service.site.version.split("."))
    version = {"major": major, "micro": micro, "minor": minor}
    meta = {
        "plugin": {"type": kind, "name": f"{name} {kind.split('/')[1].removeprefix('db')}"},
        "Slurm": {"version": version, "release": service.site.version},
    }
    return _dump({"meta": meta, "errors": [], "jobs": jobs})


def _dump(body: dict[str, Any]) -> str:
    """Return JSON with Slurm's indentation and its escaped slashes."""
    return json.dumps(body, indent=2, ensure_ascii=False).replace("/", "\\/")


def _number(value: float | None, *, infinite: bool = False) -> dict[str, Any]:
    return {"set": value is not None, "infinite": infinite, "number": value or 0}


def _new_tail(service: Service, command: str) -> dict[str, Any]:
    major, minor, micro = (str(int(part)) for part in service.site.version.split("."))
    slurm = {
        "version": {"major": major, "micro": micro, "minor": minor},
        "release": service.site.version,
        "cluster": service.site.name,
    }
    plugin = {
        "type": "",
        "name": "",
        "data_parser": "data_parser/v0.0.42",
        "accounting_storage": "",
    }
    client = {"source": "", "user": "", "group": ""}
    meta = {"plugin": plugin, "client": client, "command": [command, "--json"], "slurm": slurm}
    tail: dict[str, Any] = {"meta": meta, "errors": [], "warnings": []}
    if command == "squeue":
        now = _number(int(service.now()))
        tail = {"last_backfill": now, "last_update": now, **tail}
    return tail


def _common(view: View) -> dict[str, Any]:
    """Return the members that both forms write alike."""
    job, request = view.job, view.job.request
    stdin, out, err = output_paths(job)
    return {
        "account": request.account or "",
        "batch_flag": request.batch,
        "batch_host": next(iter(job.nodes), ""),
        "cluster": view.cluster.site.name,
        "command": request.command or "",
        "comment": job.comment or "",
        "current_working_directory": request.workdir,
        "dependency": "" if view.dependency == "(null)" else view.dependency,
        "excluded_nodes": compress_hosts(request.exclude),
        "features": request.features,
        "group_id": request.gid,
        "group_name": request.user,
        "job_id": job.id,
        "licenses": request.licenses,
        "name": request.name,
        "nodes": view.nodes,
        "partition": request.partition,
        "qos": request.qos or "",
        "required_nodes": compress_hosts(request.nodelist),
        "requeue": request.requeue,
        "restart_cnt": job.restarts,
        "resv_name": "",
        "standard_error": err if request.stderr else "",
        "standard_input": stdin,
        "standard_output": out if request.stdout else "",
        "state_description": "",
        "state_reason": job.reason,
        "tres_alloc_str": view.tres if job.nodes else "",
        "tres_req_str": view.tres,
        "user_id": request.uid,
        "user_name": request.user,
        "wckey": "",
    }


def _seconds(epoch: float | None) -> int:
    return int(epoch or 0)


def _old_job(view: View) -> dict[str, Any]:
    """Return a job in the form of 22.05: bare values, raw wait status, state as a text."""
    job, request = view.job, view.job.request
    waiting = job.is_common
    return {
        **_common(view),
        "accrue_time": _seconds(job.eligible),
        "array_job_id": job.array_id or 0,
        "array_task_id": job.task if job.is_array else None,
        "array_max_tasks": request.throttle,
        "array_task_string": job.element_text if waiting else "",
        "cpus": view.cpus,
        "cpus_per_task": request.cpus_per_task if request.asked_cpus else None,
        "deadline": _seconds(request.deadline),
        "derived_exit_code": job.derived,
        "eligible_time": _seconds(job.eligible),
        "end_time": _seconds(view.end),
        "exit_code": job.status,
        "flags": ["JOB_WAS_RUNNING"] if job.start else ["TRES_STR_CALC"],
        "job_state": view.state,
        "memory_per_cpu": request.mem_per_cpu or view.cluster.partition_of(job).def_mem_per_cpu,
        "memory_per_node": request.mem_per_node,
        "node_count": view.node_count,
        "priority": job.priority and _TOP_PRIORITY - job.id,
        "start_time": _seconds(job.start or job.begin),
        "submit_time": _seconds(job.submit),
        "tasks": request.ntasks,
        "time_limit": job.time_limit,
        "tres_per_node": "" if view.gres == "N/A" else view.gres,
    }


def _new_job(view: View) -> dict[str, Any]:
    """Return a job in the form of 24.11: `set` objects, lists of states and of statuses."""
    job, request = view.job, view.job.request
    stdin, out, err = output_paths(job)
    states = [job.state, "COMPLETING"] if job.completing else [job.state]
    default = view.cluster.partition_of(job).def_mem_per_cpu
    per_cpu = None if request.mem_per_node is not None else request.mem_per_cpu or default
    return {
        **_common(view),
        "accrue_time": _number(_seconds(job.eligible)),
        "array_job_id": _number(job.array_id or 0),
        "array_task_id": _number(job.task),
        "array_max_tasks": _number(request.throttle),
        "array_task_string": job.element_text if job.is_common else "",
        "cpus": _number(view.cpus),
        "cpus_per_task": _number(request.cpus_per_task),
        "deadline": _number(_seconds(request.deadline)),
        "derived_exit_code": _exit(job.derived),
        "eligible_time": _number(_seconds(job.eligible)),
        "end_time": _number(_seconds(view.end)),
        "exit_code": _exit(job.status),
        "flags": ["JOB_WAS_RUNNING"] if job.start else [],
        "hold": bool(job.held),
        "job_state": states,
        "memory_per_cpu": _number(per_cpu),
        "memory_per_node": _number(request.mem_per_node),
        "node_count": _number(view.node_count),
        "priority": _number(job.priority and _TOP_PRIORITY - job.id),
        "scheduled_nodes": "",
        "standard_error": err,
        "standard_input": stdin,
        "standard_output": out,
        "start_time": _number(_seconds(job.start or job.begin)),
        "submit_time": _number(_seconds(job.submit)),
        "tasks": _number(request.ntasks),
        "time_limit": _number(job.time_limit),
        "tres_per_node": "" if view.gres == "N/A" else view.gres,
    }


def _exit(status: int) -> dict[str, Any]:
    """Return a raw wait status as the newer form writes it."""
    code, number = clean_status(status)
    word = "SIGNALED" if number else "ERROR" if code else "SUCCESS"
    name = {"id": _number(number or None), "name": ""}
    return {"status": [word], "return_code": _number(code), "signal": name}


def _old_exit(status: int) -> dict[str, Any]:
    code, number = clean_status(status)
    if number:
        return {"status": "SIGNALED", "return_code": 0, "signal": {"signal_id": number}}
    return {"status": "ERROR" if code else "SUCCESS", "return_code": code}


def _row(service: Service, row: Row, *, new: bool) -> dict[str, Any]:
    """Return one record of accounting."""
    request = row.request
    exit_form = _exit if new else _old_exit
    state: Any = [row.state] if new else row.state
    task: Any = _number(row.task) if new else row.task
    limit: Any = _number(row.time_limit) if new else row.time_limit
    priority: Any = _number(row.priority) if new else row.priority
    memory: Any = row.memory or request.mem_per_node or 0
    return {
        "account": request.account or "",
        "comment": {"administrator": None, "job": row.comment, "system": None},
        "allocation_nodes": len(row.nodes),
        "array": {"job_id": row.array_id or 0, "task": row.waiting or None, "task_id": task},
        "cluster": service.site.name,
        "derived_exit_code": exit_form(row.derived),
        "time": _times(row, service.now(), limit),
        "exit_code": exit_form(row.status),
        "group": request.user,
        "job_id": row.job,
        "name": request.name,
        "nodes": compress_hosts(row.nodes) or "None assigned",
        "partition": request.partition,
        "priority": priority,
        "qos": request.qos or "",
        "required": {"CPUs": row.cpus, "memory": memory},
        "kill_request_user": None if row.cancelled_by is None else str(row.cancelled_by),
        "state": {"current": state, "reason": row.reason},
        "steps": [
            {
                "exit_code": exit_form(step.status),
                "state": [step.state] if new else step.state,
                "step": {"job_id": row.job, "id": step.name, "name": step.label},
                "tasks": {"count": step.ntasks},
            }
            for step in row.steps
        ],
        "user": request.user,
        "working_directory": request.workdir,
    }


def _times(row: Row, now: float, limit: object) -> dict[str, Any]:
    elapsed = 0.0 if row.start is None else (row.end or now) - row.start
    return {
        "elapsed": int(elapsed),
        "eligible": _seconds(row.eligible),
        "end": _seconds(row.end),
        "start": _seconds(row.start),
        "submission": _seconds(row.submit),
        "limit": limit,
    }
