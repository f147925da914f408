"""What a Prefect 3 server is sent, made of our facts by pure functions.

The form was verified against a Prefect 3.8.8 server. A task run is made and changed by events
alone, whose time stamps may lie in the past; a flow run by requests, whose may not.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hpc_flows._version import __version__
from hpc_flows.jobs.reasons import outlook
from hpc_flows.reporting.prefect.checking import clean
from hpc_flows.reporting.prefect.identity import (
    event_id,
    made_id,
    microseconds,
    stamp_text,
    task_run_id,
)
from hpc_flows.reporting.prefect.memory import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hpc_flows.journal.event import Event
    from hpc_flows.journal.views import Change
    from hpc_flows.reporting.prefect.memory import FlowRecord, GroupRecord, TaskRecord

#: What a server is asked to show at most of one task run: a longer list is cut.
MOST_INPUTS, MOST_TAGS, LONGEST_MESSAGE, LONGEST_LOG = 1000, 50, 10_000, 60_000
_LONGEST_PARAMETER = 2000

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

#: The label `hpc.engine`, by which runs of ours are found among others.
_ENGINE = f"hpc_flows/{__version__}"


def flow_body(flow: FlowRecord) -> dict[str, Any]:
    """Return the body of `POST /flows/`."""
    return {"name": clean(flow.flow), "tags": [], "labels": {"hpc.engine": _ENGINE}}


def flow_run_body(flow: FlowRecord, flow_there: str, run: str) -> dict[str, Any]:
    """Return the body of `POST /flow_runs/`."""
    body = {
        "flow_id": flow_there,
        "name": clean(flow.name),
        "parameters": {
            str(clean(name)): clean(_cut(str(value), _LONGEST_PARAMETER))
            for name, value in flow.parameters.items()
        },
        "tags": clean(list(flow.tags[:MOST_TAGS])),
        "labels": _told(
            {
                "hpc.engine": _ENGINE,
                "hpc.run": run,
                "hpc.entrypoint": clean(flow.entrypoint),
                "hpc.created": stamp_text(microseconds(flow.created)),
            }
        ),
        "idempotency_key": f"hpc-flows-{flow.id}",
        "state": {"type": "PENDING", "name": "Pending"},
    }
    if flow.placeholder is not None:
        body["parent_task_run_id"] = flow.placeholder.id
    return body


def flow_state_body(change: Change, transition: str, *, force: bool) -> dict[str, Any]:
    """Return the body of `POST /flow_runs/{id}/set_state`."""
    details: dict[str, Any] = {"transition_id": transition}
    if change.type == "SCHEDULED":
        # In the past, or the server would hold back the start that follows.
        details["scheduled_time"] = stamp_text(microseconds(change.wall))
    return {"state": _state(change, details), "force": force}


def flow_times(flow: FlowRecord) -> dict[str, Any]:
    """Return the labels with a flow run's true times: the server takes its own when told late."""
    times = {"hpc.started": flow.begun, "hpc.ended": flow.ended}
    return {
        name: stamp_text(microseconds(wall)) for name, wall in times.items() if wall is not None
    }


def task_event(run: str, record: TaskRecord, place: int, flow: FlowRecord) -> dict[str, Any]:
    """Return the event that puts a task run into one of its states.

    Args:
        run: id of the root flow run.
        record: the task run.
        place: of the state in its history.
        flow: its flow run, which the server must know.
    """
    change, stamp = record.changes[place], record.stamps[place]
    details: dict[str, Any] = {}
    if change.type == "SCHEDULED":
        details["scheduled_time"] = stamp_text(stamp)
    id_ = event_id(run, f"{record.id}/{change.writer}", change.seq)
    start, final = record.started(place), change.stage >= FINAL
    told = {
        "expected_start_time": _stamp_or_none(record.expected),
        "start_time": _stamp_or_none(start),
        "end_time": stamp_text(stamp) if final else None,
        "total_run_time": record.seconds_running(place),
        "run_count": record.starts(place),
        "task_inputs": _inputs(record),
        "tags": clean(list(record.tags[:MOST_TAGS])),
        "labels": labels(record, change),
    }
    before = record.changes[place - 1].type if place else None
    return _event(id_, record, flow, stamp, _state(change, details), told, before)


def group_event(run: str, group: GroupRecord, flow: FlowRecord, stamp: int) -> dict[str, Any]:
    """Return the event by which a group of task runs shows how many are in which state."""
    names = Counter(change.name if change else "Pending" for change in group.members.values())
    total = len(group.members)
    type_ = group_type(group)
    state: dict[str, Any] = {"type": type_, "name": type_.title(), "data": None}
    counted = ", ".join(f"{count} {name}" for name, count in sorted(names.items()))
    state["message"] = f"{total} more runs of {clean(group.task)}: {counted}"
    state["state_details"] = {}
    final = type_ not in ("PENDING", "RUNNING")
    start = group.created if type_ != "PENDING" else None
    told: dict[str, Any] = {
        "expected_start_time": _stamp_or_none(group.created),
        "start_time": _stamp_or_none(start),
        "end_time": stamp_text(stamp) if final else None,
        "total_run_time": max(0, stamp - (start or stamp)) / 1e6,
        "run_count": 1,
        "task_inputs": {},
        "tags": [],
        "labels": {
            "hpc.engine": _ENGINE,
            "hpc.group": total,
            **{f"hpc.count.{clean(name)}": count for name, count in names.items()},
        },
    }
    id_ = made_id("group-event", run, group.id, stamp, counted)
    return _event(id_, group, flow, stamp, state, told, None)


def group_type(group: GroupRecord) -> str:
    """Return the type of the state that a group is in."""
    types = Counter(change.type if change else "PENDING" for change in group.members.values())
    ended = sum(change is not None and change.stage >= FINAL for change in group.members.values())
    if ended == len(group.members):
        return next((t for t in ("CRASHED", "FAILED", "CANCELLED") if types[t]), "COMPLETED")
    idle = types["PENDING"] + types["SCHEDULED"]
    return "PENDING" if idle == len(group.members) else "RUNNING"


def group_progress(group: GroupRecord) -> float:
    """Return how many percent of a group's runs have ended."""
    ended = sum(change is not None and change.stage >= FINAL for change in group.members.values())
    return round(100 * ended / max(1, len(group.members)), 2)


def labels(record: TaskRecord, change: Change) -> dict[str, Any]:
    """Return what is told of a task run's job, its requests and its end."""
    facts = {**record.facts, **_told(dict(change.data.get("details") or {}))}
    scheduler = str(facts.get("scheduler") or "slurm")
    job, _, index = str(facts.get("job") or "").partition("_")
    crashed = change.type in ("CRASHED", "FAILED") and change.name not in ("Crashed", "Failed")
    told = {
        "hpc.engine": _ENGINE,
        "hpc.cluster": facts.get("cluster"),
        f"{scheduler}.job_id": job,
        f"{scheduler}.array_task_id": index,
        f"{scheduler}.partition": facts.get("partition"),
        f"{scheduler}.node": facts.get("node"),
        "hpc.token": facts.get("token"),
        "hpc.exit_cause": change.name if crashed else None,
        "hpc.exit_code": facts.get("exit_code"),
        "hpc.max_rss": facts.get("max_rss"),
    }
    for name, value in record.resources.items():
        told.setdefault(f"hpc.{name}", value)
    return {str(clean(name)): clean(value) for name, value in _told(told).items() if _plain(value)}


def log_body(event: Event, flow: FlowRecord, record: TaskRecord | None) -> dict[str, Any]:
    """Return one record of `POST /logs/`."""
    data = event.data
    level = data.get("level")
    number = level if isinstance(level, int) else _LEVELS.get(str(level).upper(), 20)
    message = _cut(str(data.get("message") or ""), LONGEST_LOG) or " "
    shown = record
    if record is not None and record.group is not None:
        shown, message = record.group, f"[{record.name}] {message}"
    return {
        "name": clean(str(data.get("logger") or "hpc_flows")),
        "level": number,
        "message": clean(message),
        "timestamp": stamp_text(microseconds(event.wall)),
        "flow_run_id": flow.there,
        "task_run_id": shown.id if shown is not None else None,
    }


def artifact_age(event: Event) -> float:
    """Return when an artifact was changed last, in seconds since 1970, to the microsecond."""
    updated = event.data.get("updated")
    # As it is kept at the server, or a replay would take it for newer.
    return round(float(updated) if isinstance(updated, int | float) else event.wall, 6)


def artifact_body(
    data: Mapping[str, Any], flow: FlowRecord, record: TaskRecord | None, age: float
) -> dict[str, Any]:
    """Return the body of `POST /artifacts/`; its metadata let it be known again."""
    shown = record.group or record if record is not None else None
    return artifact_update(data, age) | {
        "key": data.get("key") if _is_key(data.get("key")) else None,
        "type": clean(data.get("type")),
        "flow_run_id": flow.there,
        "task_run_id": shown.id if shown is not None else None,
    }


def artifact_update(data: Mapping[str, Any], age: float) -> dict[str, Any]:
    """Return the body of `PATCH /artifacts/{id}`.

    Args:
        data: of the artifact's event.
        age: when it was changed, in seconds since 1970; kept there, lest older data replace it.
    """
    told = {name: clean(data[name]) for name in ("data", "description") if name in data}
    told["metadata_"] = {"hpc_flows.id": str(data["id"]), "hpc_flows.updated": f"{age:.6f}"}
    if "data" not in data and data.get("file"):
        told["data"] = f"(a large artifact of {data.get('size')} bytes; it is sent on its own)"
    return told


def words_of_reason(reason: str) -> str:
    """Return a pending reason for people, with the scheduler's own word."""
    words = outlook(reason).words
    return f"{words[:1].upper()}{words[1:]}."


def _event(
    id_: str,
    record: TaskRecord,
    flow: FlowRecord,
    stamp: int,
    state: dict[str, Any],
    told: dict[str, Any],
    before: str | None,
) -> dict[str, Any]:
    occurred, name = stamp_text(stamp), clean(record.name)
    return {
        "id": id_,
        "occurred": occurred,
        "event": f"prefect.task-run.{state['name']}",
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{record.id}",
            "prefect.resource.name": name,
            "prefect.run-count": str(told["run_count"]),
            "prefect.state-message": (state["message"] or "")[:1000],
            "prefect.state-name": state["name"],
            "prefect.state-timestamp": occurred,
            "prefect.state-type": state["type"],
            "prefect.orchestration": "client",
        },
        "related": _related(flow),
        "payload": {
            "intended": {"from": before, "to": state["type"]},
            "initial_state": None,
            "validated_state": state,
            "task_run": {
                "name": name,
                "task_key": clean(record.key or record.task),
                # Of its own, or the server would write it onto another run of the task.
                "dynamic_key": record.id,
                "flow_run_run_count": 1,
                "empirical_policy": {},
                **told,
            },
        },
    }


def _related(flow: FlowRecord) -> list[dict[str, str]]:
    if flow.is_none:
        return []
    kinds = (("flow-run", flow.there, flow.name), ("flow", flow.flow_there, flow.flow))
    return [
        {
            "prefect.resource.id": f"prefect.{kind}.{there}",
            "prefect.resource.role": kind,
            "prefect.resource.name": str(clean(name)),
        }
        for kind, there, name in kinds
    ]


def _state(change: Change, details: dict[str, Any]) -> dict[str, Any]:
    reason = change.data.get("reason")
    message = words_of_reason(str(reason)) if reason else change.data.get("message")
    return {
        "type": change.type,
        "name": clean(change.name),
        "message": None if message is None else clean(_cut(str(message), LONGEST_MESSAGE)),
        "state_details": details,
        "data": None,
    }


def _inputs(record: TaskRecord) -> dict[str, Any]:
    ids: Iterable[str] = dict.fromkeys(map(task_run_id, record.upstream))
    runs = [{"input_type": "task_run", "id": id_} for id_ in list(ids)[:MOST_INPUTS]]
    # A subflow that was called in a task lies within that task's run.
    return {"__parents__" if record.is_stand_in else "upstream": runs} if runs else {}


def _stamp_or_none(stamp: int | None) -> str | None:
    return None if stamp is None else stamp_text(stamp)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… (cut; {len(text)} characters in all)"


def _told(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _is_key(key: object) -> bool:
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
    return isinstance(key, str) and bool(key) and set(key) <= set(allowed)
