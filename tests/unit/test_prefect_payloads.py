"""What a Prefect server is sent: golden values, ids that a replay makes again, no poison."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect_double import RUN, TASK, Journal

from hpc_flows._version import __version__
from hpc_flows.journal.event import Event
from hpc_flows.journal.views import Change
from hpc_flows.reporting.prefect.checking import check_event, clean
from hpc_flows.reporting.prefect.identity import (
    Rank,
    rank_in,
    stamp_text,
    task_run_id,
    transition_id,
)
from hpc_flows.reporting.prefect.memory import FlowRecord, History, RunMemory, change_of
from hpc_flows.reporting.prefect.payloads import (
    artifact_age,
    artifact_body,
    artifact_update,
    flow_run_body,
    group_event,
    group_type,
    labels,
    log_body,
    task_event,
)

THERE, FLOW_THERE = "33333333-3333-4333-8333-333333333333", "44444444-4444-4444-8444-444444444444"
ENGINE = f"hpc_flows/{__version__}"


def _flow(journal: Journal, memory: RunMemory, **facts: object) -> FlowRecord:
    flow = memory.flow(RUN)
    flow.describe(journal.flow(**facts))
    flow.there, flow.flow_there = THERE, FLOW_THERE
    return flow


def _example() -> tuple[RunMemory, FlowRecord, list[int]]:
    """Return a task run on a cluster that fails, is tried again and completes."""
    journal, memory = Journal(), RunMemory(RUN, 500)
    flow = _flow(journal, memory)
    upstream = "55555555-5555-4555-8555-555555555555"
    resources = {"cpus": 2, "walltime": 300, "gpus": None}
    record = memory.make_task(
        journal.task(upstream=[upstream], tags=["gpu"], resources=resources, map_index=0)
    )
    memory.intend(
        {
            "token": "hf-1",
            "cluster": "mock",
            "scheduler": "slurm",
            "task_runs": [TASK],
            "array": "0-1",
            "resources": {"partition": "standard"},
        }
    )
    memory.submitted({"token": "hf-1", "job": "77"})
    on_node = {"node": "c1", "job": "77_0"}
    events = [
        journal.state("Pending", attempt=0),
        journal.state("InfrastructurePending", attempt=0),
        journal.state("Running", details=on_node),
        journal.state("AwaitingRetry", message="ValueError: no"),
        journal.state("Retrying", attempt=2),
        journal.state("Completed", attempt=2, details={**on_node, "max_rss": 4096}),
    ]
    places = [record.place(change_of(event)) for event in events]
    assert places == [0, 1, 2, 3, 4, 5]
    return memory, flow, [place for place in places if place is not None]


def _events() -> list[dict[str, Any]]:
    memory, flow, places = _example()
    return [task_event(RUN, memory.task(TASK), place, flow) for place in places]


def test_a_start_on_a_cluster_makes_this_event() -> None:
    running = _events()[2]
    at = "2026-11-18T11:06:40.400000+00:00"
    assert running == {
        "id": running["id"],
        "occurred": at,
        "event": "prefect.task-run.Running",
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{TASK}",
            "prefect.resource.name": "square-0",
            "prefect.run-count": "1",
            "prefect.state-message": "",
            "prefect.state-name": "Running",
            "prefect.state-timestamp": at,
            "prefect.state-type": "RUNNING",
            "prefect.orchestration": "client",
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow-run.{THERE}",
                "prefect.resource.role": "flow-run",
                "prefect.resource.name": "merry-fox",
            },
            {
                "prefect.resource.id": f"prefect.flow.{FLOW_THERE}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "demo",
            },
        ],
        "payload": {
            "intended": {"from": "PENDING", "to": "RUNNING"},
            "initial_state": None,
            "validated_state": {
                "type": "RUNNING",
                "name": "Running",
                "message": None,
                "state_details": {},
                "data": None,
            },
            "task_run": {
                "name": "square-0",
                "task_key": "cv:square",
                "dynamic_key": TASK,
                "flow_run_run_count": 1,
                "empirical_policy": {},
                "expected_start_time": "2026-11-18T11:06:40.300000+00:00",
                "start_time": at,
                "end_time": None,
                "total_run_time": 0.0,
                "run_count": 1,
                "task_inputs": {
                    "upstream": [
                        {"input_type": "task_run", "id": "55555555-5555-4555-8555-555555555555"}
                    ]
                },
                "tags": ["gpu"],
                "labels": {
                    "hpc.engine": ENGINE,
                    "hpc.cluster": "mock",
                    "slurm.job_id": "77",
                    "slurm.array_task_id": "0",
                    "slurm.partition": "standard",
                    "slurm.node": "c1",
                    "hpc.token": "hf-1",
                    "hpc.cpus": 2,
                    "hpc.walltime": 300,
                },
            },
        },
    }


def test_an_end_tells_the_first_start_and_the_time_of_all_attempts() -> None:
    run = _events()[-1]["payload"]["task_run"]
    assert run["start_time"] == "2026-11-18T11:06:40.400000+00:00"
    assert run["end_time"] == "2026-11-18T11:06:40.700000+00:00"
    assert run["total_run_time"] == pytest.approx(0.2)
    assert run["run_count"] == 2


def test_a_retry_is_scheduled_for_when_it_was_told_so_that_it_may_start() -> None:
    state = _events()[3]["payload"]["validated_state"]
    assert state["type"] == "SCHEDULED"
    assert state["message"] == "ValueError: no"
    assert state["state_details"] == {"scheduled_time": "2026-11-18T11:06:40.500000+00:00"}


def test_a_replay_makes_the_same_events() -> None:
    assert _events() == _events()


def test_no_event_says_what_it_follows() -> None:
    # Servers of versions 3.4.11 to 3.6.26 hold followers back for minutes.
    assert not [event for event in _events() if "follows" in event]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda e: e["payload"]["task_run"].pop("task_key"),
        lambda e: e["payload"]["task_run"].update(dynamic_key=""),
        lambda e: e["resource"].pop("prefect.orchestration"),
        lambda e: e["resource"].update({"prefect.resource.id": "prefect.task-run.t1"}),
        lambda e: e["related"][0].update({"prefect.resource.id": f"prefect.flow-run.{TASK}"}),
        lambda e: e["related"].pop(),
        lambda e: e["payload"]["validated_state"].update(type="QUEUED"),
        lambda e: e["payload"]["validated_state"].update(name=""),
        lambda e: e["payload"]["task_run"]["labels"].update(x=[1]),
        lambda e: e["payload"]["task_run"].update(start_time="2026-11-18T11:06:40"),
        lambda e: e["payload"]["task_run"].update(name="x" * 2_000_000),
        lambda e: e.update(follows=e["id"]),
        lambda e: e.update(id="1"),
    ],
)
def test_a_poisonous_event_is_found(spoil: Any) -> None:
    event = copy.deepcopy(_events()[2])
    check_event(event, {THERE})
    spoil(event)
    with pytest.raises((ValueError, KeyError)):
        check_event(event, {THERE})


def test_all_events_of_a_task_run_are_fit_to_be_sent() -> None:
    for event in _events():
        check_event(event, {THERE})


def test_a_flow_run_is_asked_for_by_a_key_and_without_an_id() -> None:
    flow = _flow(Journal(), RunMemory(RUN, 500), tags=["night"], entrypoint="cv.py:demo")
    assert flow_run_body(flow, FLOW_THERE, RUN) == {
        "flow_id": FLOW_THERE,
        "name": "merry-fox",
        "parameters": {"n": "3"},
        "tags": ["night"],
        "labels": {
            "hpc.engine": ENGINE,
            "hpc.run": RUN,
            "hpc.entrypoint": "cv.py:demo",
            "hpc.created": "2026-11-18T11:06:40.000000+00:00",
        },
        "idempotency_key": f"hpc-flows-{RUN}",
        "state": {"type": "PENDING", "name": "Pending"},
    }


def test_a_subflow_is_a_child_of_its_stand_in() -> None:
    child, parent_task = "66666666-6666-4666-8666-666666666666", task_run_id("not-a-uuid")
    memory, journal = RunMemory(RUN, 500), Journal()
    flow, parent = memory.flow(child), _flow(journal, memory)
    flow.describe(journal.flow(child, parent_flow_run=RUN, parent_task_run="not-a-uuid"))
    assert flow.placeholder is not None
    body = flow_run_body(flow, FLOW_THERE, RUN)
    assert body["parent_task_run_id"] == flow.placeholder.id
    event = task_event(RUN, flow.placeholder, 0, parent)
    check_event(event, {THERE})
    inputs = event["payload"]["task_run"]["task_inputs"]
    assert inputs == {"__parents__": [{"input_type": "task_run", "id": parent_task}]}


def test_a_pending_reason_is_the_message_in_words() -> None:
    memory, flow, _ = _example()
    waiting = "77777777-7777-4777-8777-777777777777"
    journal = Journal(begin=1_795_000_100.0)
    record = memory.make_task(journal.task(waiting))
    record.place(change_of(journal.state("InfrastructurePending", waiting)))
    data = {"token": "hf-1", "job": "78", "task_run": waiting, "phase": "queued"}
    told = memory.report(journal.add("job-status", {**data, "reason": "Priority"}))
    assert told is not None
    place = record.place(told[1])
    assert place == 1
    event = task_event(RUN, record, place, flow)
    assert event["payload"]["validated_state"]["message"] == "It waits its turn (Priority)."
    assert event["payload"]["validated_state"]["name"] == "InfrastructurePending"
    assert event["payload"]["task_run"]["labels"]["slurm.job_id"] == "78"


def test_a_crash_is_labelled_with_its_cause() -> None:
    memory, _, _ = _example()
    change = change_of(Journal().state("OutOfMemory", details={"exit_code": "0:9"}))
    told = labels(memory.task(TASK), change)
    assert (told["hpc.exit_cause"], told["hpc.exit_code"]) == ("OutOfMemory", "0:9")


def test_a_log_record_keeps_its_time_and_its_task_run() -> None:
    memory, flow, _ = _example()
    event = Journal().log("epoch 3", task_run=TASK, level="WARNING")
    assert log_body(event, flow, memory.task(TASK)) == {
        "name": "hpc_flows.flow_runs",
        "level": 30,
        "message": "epoch 3",
        "timestamp": "2026-11-18T11:06:40.000000+00:00",
        "flow_run_id": THERE,
        "task_run_id": TASK,
    }


def test_an_artifact_carries_our_id_and_no_key_that_is_refused() -> None:
    flow = _flow(Journal(), RunMemory(RUN, 500))
    data = {"id": "a1", "type": "markdown", "key": "Über uns", "data": "# hi"}
    body = artifact_body(data, flow, None, 7.5)
    assert body["key"] is None
    assert body["metadata_"] == {"hpc_flows.id": "a1", "hpc_flows.updated": "7.500000"}
    assert body["data"] == "# hi"
    assert artifact_body({**data, "key": "about-us"}, flow, None, 7.5)["key"] == "about-us"


def test_an_artifact_is_as_old_at_the_server_as_it_is_here() -> None:
    event = Journal().add("artifact", {"id": "a1", "data": "x", "updated": 1795279614.3573518})
    age = artifact_age(event)
    assert float(artifact_update(event.data, age)["metadata_"]["hpc_flows.updated"]) == age


def test_texts_hold_nothing_that_a_database_refuses() -> None:
    found = clean({"a\0": ["x\0y", "\ud800", 1, None, True]})
    assert found == {
        "a\N{REPLACEMENT CHARACTER}": ["x\N{REPLACEMENT CHARACTER}y", "?", 1, None, True]
    }
    json.dumps(found, ensure_ascii=False).encode()


def test_runs_of_a_task_above_the_limit_are_one_with_counts() -> None:
    journal, memory = Journal(), RunMemory(RUN, 2)
    flow = _flow(journal, memory)
    ids = [f"{n:08d}-2222-4222-8222-222222222222" for n in range(5)]
    records = [memory.make_task(journal.task(id_, map_index=n)) for n, id_ in enumerate(ids)]
    assert [record.group is None for record in records] == [True, True, False, False, False]
    group = records[2].group
    assert group is not None
    assert group_type(group) == "PENDING"
    group.note(ids[2], change_of(journal.state("Completed", ids[2])))
    group.note(ids[3], change_of(journal.state("Running", ids[3])))
    event = group_event(RUN, group, flow, 1_795_000_009_000_000)
    check_event(event, {THERE})
    assert event["payload"]["validated_state"]["message"] == (
        "3 more runs of square: 1 Completed, 1 Pending, 1 Running"
    )
    for id_ in ids[3:]:
        group.note(id_, change_of(journal.state("Failed", id_)))
    assert group_type(group) == "FAILED"


_changes = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from([0, 1, 2, 3, 5, 6]),
        st.integers(0, 5).map(lambda n: 1_795_000_000 + n / 1e6),
        st.sampled_from(["driver", "hf-1-0-0"]),
        st.integers(1, 9),
    ),
    unique=True,
    max_size=12,
)


@given(_changes)
def test_stamps_rise_in_the_order_in_which_states_count_however_they_come(
    keys: list[tuple[int, int, float, str, int]],
) -> None:
    history = History()
    for key in keys:
        history.place(Change(*key, "RUNNING", "Running", {}))
    assert history.stamps == sorted(set(history.stamps))
    counted = [change[:5] for change in history.changes]
    assert counted == sorted(counted)


@given(st.permutations(range(4)))
def test_the_last_state_is_the_newest_at_the_server_whatever_the_clocks_say(
    order: list[int],
) -> None:
    # A node's clock that is ahead: the driver's end was earlier by its own.
    walls = [100.0, 101.0, 160.0, 103.0]
    history = History()
    for n in order:
        history.place(Change(1, n, walls[n], "w", 1, "X", "X", {}))
    assert history.newest is not None
    assert history.newest.stage == 3


@given(st.integers(1, 5000), st.integers(0, 7), st.floats(1.7e9, 4.0e9))
def test_a_rank_is_read_back_from_its_transition(attempt: int, stage: int, wall: float) -> None:
    rank = Rank(attempt, stage, int(wall * 1000))
    transition = transition_id(rank, RUN, "driver:4")
    assert rank_in(transition, RUN) == int(rank)
    assert rank_in(transition, TASK) is None
    later = Rank(attempt, stage, int(wall * 1000) + 1)
    assert rank_in(transition_id(later, RUN, "driver:9"), RUN) == int(rank) + 1


@pytest.mark.parametrize("foreign", ["", "x", "7d0b5c26-3f0e-4a57-9c39-0a3a1d2f8f11"])
def test_a_foreign_transition_has_no_rank(foreign: str) -> None:
    assert rank_in(foreign, RUN) is None


def test_time_stamps_have_six_digits() -> None:
    assert stamp_text(1_795_000_000_000_000).endswith(":40.000000+00:00")


def test_an_event_that_lacks_something_is_told_by_an_error() -> None:
    with pytest.raises((KeyError, ValueError)):
        change_of(Event(RUN, "driver", 1, 1.0, 1.0, "state", {"type": "RUNNING"}))
