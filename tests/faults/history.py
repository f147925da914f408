"""A second opinion on a run's history: reads journals by itself and checks what we guarantee.

It shares no code with hpc_flows, so that a mistake there cannot hide here; its reader is written
from docs/reference/journal.md alone. Use it at the end of a test that broke something::

    from faults.history import assert_sound
    assert_sound(run_dir)                   # whatever happened, the history is possible
    assert_sound(run_dir, finished=True)    # and every run in it came to its end
"""

from __future__ import annotations

import binascii
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Record = dict[str, Any]

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
NEVER_STARTS = {"NotReady"}


def assert_sound(run_dir: str | Path, *, finished: bool = False) -> list[Record]:
    """Fail with every broken guarantee in the history of a run; return its records."""
    records = read_history(run_dir)
    assert records, f"{run_dir} has no history at all"
    broken = violations(records, finished=finished)
    assert not broken, "\n".join(["the history breaks what we guarantee:", *broken])
    return records


def read_history(run_dir: str | Path) -> list[Record]:
    """Return the intact records of a run by wall, writer, seq, each number of a writer once."""
    found: dict[tuple[str, int], Record] = {}
    for path in sorted(Path(run_dir, "journal").glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            record = _parse(line)
            if record is not None and record["writer"] == path.stem:
                found.setdefault((record["writer"], record["seq"]), record)
    return sorted(found.values(), key=lambda r: (r["wall"], r["writer"], r["seq"]))


def violations(records: Iterable[Record], *, finished: bool = False) -> list[str]:
    """Return, in words, every guarantee that a history breaks."""
    ordered = sorted(records, key=lambda r: (r["writer"], r["seq"]))
    broken = [*_of_writers(ordered), *_of_jobs(ordered), *_of_states(ordered)]
    return broken + (list(_of_ends(ordered)) if finished else [])


def ends(records: Iterable[Record]) -> dict[str, str]:
    """Return the type that each run ended in: that of the final state of its newest attempt.

    Of several the driver's counts, which has heard the scheduler as well; then the earliest.
    """
    newest: dict[str, tuple[int, bool, float, str, int, str]] = {}
    for state in _states(records):
        attempt = _attempt(state)
        if state["data"]["type"] in FINAL:
            by_job = state["writer"].partition("-")[0] != "driver"
            place = (-attempt, by_job, state["wall"], state["writer"], state["seq"])
            mine = (*place, state["data"]["type"])
            newest[state["data"]["id"]] = min(newest.get(state["data"]["id"], mine), mine)
    started: dict[str, int] = defaultdict(int)
    for state in _states(records):
        started[state["data"]["id"]] = max(started[state["data"]["id"]], _attempt(state))
    return {id_: type_ for id_, (n, *_, type_) in newest.items() if -n == started[id_]}


def _parse(line: bytes) -> Record | None:
    body, tab, checksum = line.rpartition(b"\t")
    if not tab or checksum != b"%08x" % binascii.crc32(body):
        return None
    record: Record = json.loads(body)
    return record if record["v"] == 1 else None


def _of_writers(records: list[Record]) -> Iterator[str]:
    """Numbers of a writer are unique and rise; its clocks do not go back."""
    before: dict[str, Record] = {}
    for record in records:
        name, last = record["writer"], before.get(record["writer"])
        if last is not None:
            if record["seq"] <= last["seq"]:
                yield f"{name}: number {record['seq']} was used twice"
            if record["wall"] < last["wall"] or record["mono"] < last["mono"]:
                yield f"{name}: time goes back at number {record['seq']}"
            if record["run"] != last["run"]:
                yield f"{name}: writes for two runs"
        before[name] = record


def _of_jobs(records: list[Record]) -> Iterator[str]:
    """Nothing is sent to a scheduler that was not announced first, and nothing twice."""
    intents: dict[str, Record] = {}
    for record in _of_kind(records, "job-intent"):
        token = record["data"]["token"]
        if token in intents:
            yield f"token {token} was announced twice"
        intents.setdefault(token, record)
    for record in _of_kind(records, "job-submitted", "job-refused", "job-status"):
        token = record["data"]["token"]
        intent = intents.get(token)
        if intent is None:
            yield f"{record['kind']} of {token} at {_id(record)} without an intent"
        elif intent["writer"] == record["writer"] and intent["seq"] > record["seq"]:
            yield f"{record['kind']} of {token} at {_id(record)} before its intent"
    yield from _of_submissions(records)


def _of_submissions(records: list[Record]) -> Iterator[str]:
    jobs: dict[str, set[str]] = defaultdict(set)
    for record in _of_kind(records, "job-submitted"):
        jobs[record["data"]["token"]].add(str(record["data"]["job"]))
    for token, ids in jobs.items():
        if len(ids) > 1:
            yield f"token {token} became {len(ids)} jobs: {sorted(ids)}"


def _of_states(records: list[Record]) -> Iterator[str]:
    known = {r["data"]["id"] for r in records if r["kind"] in ("task-run", "flow-run")}
    results: dict[tuple[str, int], set[str]] = defaultdict(set)
    by_writer: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for state in _states(records):
        id_ = state["data"]["id"]
        if id_ not in known:
            yield f"state of run {id_} at {_id(state)}, which was never made"
        by_writer[state["writer"], id_].append(state)
        if state["data"]["type"] == "COMPLETED":
            results[id_, _attempt(state)].add(_id(state))
    for (id_, attempt), ids in results.items():
        if len(ids) > 1:
            yield f"attempt {attempt} of {id_} completed {len(ids)} times: {sorted(ids)}"
    for (_, id_), states in by_writer.items():
        yield from _monotone(id_, states)


def _monotone(id_: str, states: list[Record]) -> Iterator[str]:
    """What one writer says of a run goes forward: no attempt goes on after its end."""
    attempt, ended = 0, ""
    for state in states:
        now = _attempt(state)
        if now < attempt:
            yield f"{id_}: attempt {now} at {_id(state)} after attempt {attempt}"
        if now == attempt and ended:
            yield f"{id_}: {state['data']['type']} at {_id(state)} after {ended}"
        attempt = max(attempt, now)
        ended = state["data"]["type"] if state["data"]["type"] in FINAL else ""


def _of_ends(records: list[Record]) -> Iterator[str]:
    ended = ends(records)
    resting = {s["data"]["id"] for s in _states(records) if s["data"]["name"] in NEVER_STARTS}
    for record in records:
        if record["kind"] in ("task-run", "flow-run"):
            id_ = record["data"]["id"]
            if id_ not in ended and id_ not in resting:
                yield f"{record['kind']} {record['data'].get('name')} ({id_}) never ended"


def _states(records: Iterable[Record]) -> Iterator[Record]:
    return _of_kind(records, "state")


def _of_kind(records: Iterable[Record], *kinds: str) -> Iterator[Record]:
    return (record for record in records if record["kind"] in kinds)


def _attempt(state: Record) -> int:
    return max(1, state["data"].get("attempt") or 0)


def _id(record: Record) -> str:
    return f"{record['writer']}:{record['seq']}"
