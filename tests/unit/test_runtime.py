"""`runtime` tells code about its run and its job, and tests can pretend."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, runtime, tags, task
from hpc_flows.runtime import deployment, flow_run, job, task_run
from hpc_flows.runtime.hosts import expand

if TYPE_CHECKING:
    from collections.abc import Callable

UTC = dt.UTC


@pytest.fixture(autouse=True)
def _not_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SLURM"):
            monkeypatch.delenv(name)


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(**variables: str) -> None:
        for name, text in {"SLURM_JOB_ID": "351", **variables}.items():
            monkeypatch.setenv(name, text)

    return put


def test_a_run_knows_its_names_and_parameters() -> None:
    @task(name="inner", task_run_name="t-{x}", tags=["fast"])
    def inner(x: int) -> dict[str, Any]:
        names = ("id", "name", "task_name", "parameters", "tags", "run_count")
        return {name: getattr(task_run, name) for name in names}

    @flow(name="outer", flow_run_name="f")
    def outer(y: int = 7) -> tuple[dict[str, Any], dict[str, Any]]:
        names = ("name", "flow_name", "parameters", "tags", "run_count", "parent_flow_run_id")
        return {name: getattr(flow_run, name) for name in names}, inner(y)

    with tags("mine"):
        of_flow, of_task = outer()
    assert (of_flow["name"], of_flow["flow_name"]) == ("f", "outer")
    assert of_flow["parameters"] == {"y": 7}
    assert of_flow["tags"] == ["mine"]
    assert of_flow["parent_flow_run_id"] is None
    assert (of_task["name"], of_task["task_name"]) == ("t-7", "inner")
    assert of_task["parameters"] == {"x": 7}
    assert set(of_task["tags"]) == {"fast", "mine"}
    assert of_task["run_count"] == 1


def test_outside_of_runs_everything_is_empty_and_nothing_is_missing() -> None:
    assert flow_run.id is None
    assert flow_run.parameters == {}
    assert flow_run.tags == []
    assert flow_run.run_count == 0
    assert flow_run.scheduled_start_time.tzinfo is UTC
    assert task_run.name is None
    assert task_run.parameters == {}
    assert deployment.id is None
    assert deployment.parameters == {}
    for noun in (flow_run, task_run):
        assert noun.api_url is None
        assert noun.ui_url is None
    assert {name: getattr(job, name) for name in dir(job)} == dict.fromkeys(dir(job))


@pytest.mark.parametrize("prefix", ["HPC_FLOWS__", "PREFECT__"])
def test_the_environment_overrides_with_the_type_of_the_real_value(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend = {
        "FLOW_RUN__NAME": "pretended",
        "FLOW_RUN__RUN_COUNT": "3",
        "FLOW_RUN__SCHEDULED_START_TIME": "2023-05-13 20:00:00",
        "TASK_RUN__RUN_COUNT": "4",
        "DEPLOYMENT__VERSION": "gold",
        "JOB__CPUS": "8",
        "JOB__SECONDS_LEFT": "1.5",
        "JOB__MADE_UP": "too",
    }
    for name, text in pretend.items():
        monkeypatch.setenv(f"{prefix}RUNTIME__{name}", text)
    assert flow_run.name == "pretended"
    assert flow_run.run_count == 3
    assert flow_run.scheduled_start_time == dt.datetime(2023, 5, 13, 20, tzinfo=UTC)
    assert task_run.run_count == 4
    assert deployment.version == "gold"
    assert job.cpus == 8
    assert job.seconds_left == 1.5
    assert job.made_up == "too"


def test_an_override_of_a_wrong_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS__RUNTIME__FLOW_RUN__RUN_COUNT", "many")
    with pytest.raises(ValueError, match="'many', which is no int"):
        assert flow_run.run_count


def test_lists_cannot_be_overridden_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS__RUNTIME__FLOW_RUN__TAGS", "a")
    with pytest.raises(ValueError, match="cannot be mocked"):
        assert flow_run.tags


def test_an_unknown_attribute_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"'flow_nam'.*flow_name"):
        assert flow_run.flow_nam
    with pytest.raises(AttributeError, match=r"'flow_runs'.*flow_run"):
        assert runtime.flow_runs  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from hpc_flows.runtime.job import nothing  # noqa: F401


def test_a_job_is_described_by_what_slurm_set(in_a_job: Callable[..., None]) -> None:
    in_a_job(
        SLURM_ARRAY_JOB_ID="350",
        SLURM_ARRAY_TASK_ID="3",
        SLURM_JOB_PARTITION="gpu",
        SLURM_JOB_ACCOUNT="lab",
        SLURM_JOB_NODELIST="udc-an[28-30],login1",
        SLURMD_NODENAME="udc-an28",
        SLURM_CPUS_ON_NODE="16",
        SLURM_CPUS_PER_TASK="8",
        SLURM_MEM_PER_NODE="32768",
        SLURM_GPUS_ON_NODE="2",
        SLURM_JOB_END_TIME="1795255640",
        SLURM_CLUSTER_NAME="shen",
        SLURM_RESTART_COUNT="2",
    )
    assert (job.id, job.array_job_id, job.array_index) == ("350_3", "350", 3)
    assert (job.partition, job.account, job.cluster) == ("gpu", "lab", "shen")
    assert job.nodes == ["udc-an28", "udc-an29", "udc-an30", "login1"]
    assert job.node == "udc-an28"
    assert (job.cpus, job.memory, job.gpus) == (8, 32 << 30, 2)
    assert job.deadline == dt.datetime.fromtimestamp(1795255640, UTC)
    assert job.restart_count == 2
    assert job.token is None


def test_a_job_without_limits_says_so(in_a_job: Callable[..., None]) -> None:
    in_a_job(SLURM_MEM_PER_NODE="0", SLURM_CPUS_ON_NODE="4")
    assert job.id == "351"
    assert job.array_index is None
    assert job.memory is None
    assert job.deadline is None
    assert job.seconds_left is None
    assert (job.cpus, job.gpus, job.restart_count) == (4, 0, 0)


def test_memory_by_cpu_is_multiplied(in_a_job: Callable[..., None]) -> None:
    in_a_job(SLURM_MEM_PER_CPU="512", SLURM_CPUS_ON_NODE="4")
    assert job.memory == 2 << 30


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("a[1,3-4]-x,b", ["a1-x", "a3-x", "a4-x", "b"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ],
)
def test_lists_of_nodes_are_expanded(text: str, nodes: list[str]) -> None:
    assert expand(text) == nodes
