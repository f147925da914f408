"""Job dependencies as Slurm keeps them: parsed at submission, tested at every pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster.admission import BAD_DEPENDENCY, RefusedError
from hpc_flows.mock_cluster.job import COMPLETED, PENDING, Job, clean_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_KINDS = {"after", "afterany", "afterok", "afternotok", "aftercorr", "afterburstbuffer"}
_TARGET = re.compile(r"^(\d+)(?:_(\d+|\*))?(?:\+(\d+))?$")

#: What one dependency may come to.
WAITS, MET, NEVER = "unfulfilled", "met", "failed"


def parse(text: str, known: Callable[[int], bool], *, refuse_unknown: bool) -> list[dict[str, Any]]:
    """Return the dependencies of `afterok:1:2,singleton`, those on forgotten jobs left out.

    Args:
        text: the option's value; `?` instead of `,` makes one of them enough.
        known: whether the controller still knows a job id.
        refuse_unknown: whether an unknown id is refused (24.11) instead of dropped (22.05).

    Raises:
        RefusedError: the text is no dependency, or an id is unknown where that is refused.
    """
    found: list[dict[str, Any]] = []
    any_of = "?" in text
    for part in re.split(r"[,?]", text):
        if part == "singleton":
            found.append({"kind": part, "job": 0, "task": None, "any": any_of, "state": WAITS})
            continue
        kind, *targets = part.split(":")
        if kind not in _KINDS or not targets:
            raise RefusedError(BAD_DEPENDENCY)
        for target in targets:
            entry = _entry(kind, target, any_of=any_of)
            if known(entry["job"]):
                found.append(entry)
            elif refuse_unknown:
                raise RefusedError(BAD_DEPENDENCY)
    return found


def _entry(kind: str, target: str, *, any_of: bool) -> dict[str, Any]:
    match = _TARGET.match(target)
    if match is None:
        raise RefusedError(BAD_DEPENDENCY)
    task = int(match[2]) if match[2] and match[2] != "*" else None
    return {
        "kind": kind,
        "job": int(match[1]),
        "task": task,
        "any": any_of,
        "state": WAITS,
        "delay": int(match[3] or 0),
    }


def describe(job: Job, is_array: Callable[[int], bool]) -> str:
    """Return what is left of a job's dependencies, as `%E` prints it."""
    texts = []
    for entry in job.dependencies:
        if entry["kind"] == "singleton":
            texts.append(f"singleton({entry['state']})")
            continue
        target = str(entry["job"])
        if entry["task"] is not None:
            target += f"_{entry['task']}"
        elif is_array(entry["job"]):
            target += "_*"
        texts.append(f"{entry['kind']}:{target}({entry['state']})")
    joint = "?" if job.dependencies and job.dependencies[0]["any"] else ","
    return joint.join(texts)


def settle(job: Job, find: Callable[[int], list[Job]], peers: Iterable[Job]) -> str:
    """Test a job's dependencies, drop those that are met, and say what is left of them.

    Args:
        job: the waiting job; its list is changed.
        find: the records of a job or array id, empty when forgotten.
        peers: the active jobs of the same user and name, for singleton.

    Returns:
        MET, WAITS or NEVER.
    """
    for entry in job.dependencies:
        if entry["state"] == WAITS:
            entry["state"] = _test(job, entry, find, peers)
    states = [entry["state"] for entry in job.dependencies]
    if job.dependencies and job.dependencies[0]["any"]:
        if MET in states:
            job.dependencies = []
            return MET
        return NEVER if set(states) == {NEVER} else WAITS
    job.dependencies = [entry for entry in job.dependencies if entry["state"] != MET]
    if NEVER in states:
        return NEVER
    return WAITS if job.dependencies else MET


def _test(
    job: Job, entry: dict[str, Any], find: Callable[[int], list[Job]], peers: Iterable[Job]
) -> str:
    if entry["kind"] == "singleton":
        older = any(peer.submit <= job.submit and peer.id < job.id for peer in peers)
        return WAITS if older else MET
    records = find(entry["job"])
    task = job.task if entry["kind"] == "aftercorr" else entry["task"]
    if task is not None:
        records = [r for r in records if r.task in {task, None}]
        if any(r.is_common and task in r.waiting for r in records):
            return WAITS
        records = [r for r in records if not r.is_common] or records[:0]
    if not records:
        return MET
    return _test_records(entry, records)


def _test_records(entry: dict[str, Any], records: list[Job]) -> str:
    kind = entry["kind"]
    if kind == "after":
        return MET if all(r.state != PENDING for r in records) else WAITS
    if kind == "afterok" and any(_failed(r) for r in records):
        return NEVER
    if not all(r.ended and not r.completing for r in records):
        return WAITS
    if kind in {"afterany", "afterburstbuffer"}:
        return MET
    if kind == "afternotok":
        return MET if any(_failed(r) for r in records) else NEVER
    return NEVER if any(_failed(r) for r in records) else MET


def _failed(job: Job) -> bool:
    if not job.ended:
        return False
    return job.state != COMPLETED or clean_status(job.status) != (0, 0)
