"""Flow runs and task runs have ids that are unique and names that people can say."""

from __future__ import annotations

import os
import pickle
import uuid

from hpc_flows.resources import Resources
from hpc_flows.runs import FlowRun, TaskRun, flow_run_name, new_id, short
from hpc_flows.states import Retrying, StateType


def test_an_id_is_a_version_4_uuid() -> None:
    assert uuid.UUID(new_id()).version == 4
    assert uuid.UUID(new_id()).variant == uuid.RFC_4122


def test_ids_do_not_repeat() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000


def test_a_short_id_is_its_beginning() -> None:
    run_id = new_id()
    assert run_id.startswith(short(run_id))
    assert len(short(run_id)) == 8


def test_a_flow_run_is_called_by_an_adjective_and_an_animal() -> None:
    names = {flow_run_name() for _ in range(200)}
    assert len(names) > 100
    assert all(name.count("-") == 1 and name.islower() for name in names)


def test_a_task_run_is_called_by_its_task_and_the_beginning_of_its_id() -> None:
    run = TaskRun("add", "module:add")
    assert run.name == f"add-{run.id[:3]}"


def test_a_flow_run_inside_another_knows_its_parent_and_the_root() -> None:
    outer = FlowRun("outer")
    inner = FlowRun("inner", parent=outer, root_id=outer.id, parent_task_run_id="t")
    assert outer.root_id == outer.id
    assert (inner.parent_flow_run_id, inner.root_id) == (outer.id, outer.id)
    assert inner.parent_task_run_id == "t"


def test_a_task_run_can_be_sent_to_another_process() -> None:
    run = TaskRun("add", "module:add", upstream=("a",), resources=Resources(cpus=2), map_index=3)
    run.run_count = 2
    copy = pickle.loads(pickle.dumps(run))  # noqa: S301 - our own
    assert (copy.id, copy.upstream, copy.resources, copy.map_index, copy.run_count) == (
        run.id,
        ("a",),
        Resources(cpus=2),
        3,
        2,
    )


def test_a_task_run_is_pickled_with_all_that_it_knows() -> None:
    run = TaskRun("add", "m:add", tags=("a", "b"), upstream=("x",), map_index=3)
    run.run_count, run.callers, run.slots = 2, ("y",), (("path", "token"),)
    run.parameters, run.cache_key, run.state = {"x": [1]}, "key", Retrying("again")
    copy = pickle.loads(pickle.dumps(run))  # noqa: S301 - our own
    assert {name: getattr(copy, name) for name in TaskRun.__slots__} == {
        name: getattr(run, name) for name in TaskRun.__slots__
    }
    assert type(copy.state) is type(run.state)
    assert copy.state_type is StateType.RUNNING


def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100).decode() != new_id()
    os.close(reader)
    os.close(writer)
